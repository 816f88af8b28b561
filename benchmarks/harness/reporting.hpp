// SPDX-License-Identifier: MIT
/// What the programs on Google Benchmark share.
#pragma once

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "interleaved.hpp"
#include "peer.hpp"

namespace bench {

/// Counters `name`, `name:q1` and `name:q3`.
void report(benchmark::State& state, const std::string& name, const Spread& spread);

/// Writes setting and peers into the output's context.
void add_context(const std::vector<Peer>& peers);

/// Takes `flag`, as in --rounds=15 or --threads, out of the arguments, for Google Benchmark refuses what it does not
/// know; its value, or "yes" where it has none, or `fallback` when it is not there.
std::string take_flag(int& argc, char** argv, const std::string& flag, const std::string& fallback);

/// Registers one benchmark of so many rounds, whose body times itself.
template <class Body>
void register_rounds(const std::string& name, int rounds, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(body))
      ->Iterations(rounds)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

/// For programs that print lines of their own.
struct Quiet : benchmark::BenchmarkReporter {
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

}  // namespace bench
