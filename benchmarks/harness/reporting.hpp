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
/// The same for a number of at least `least`; ends the program with exit code 2, and a line that says what was expected, where it is none.
int take_number(int& argc, char** argv, const std::string& flag, int fallback, int least);

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
