// SPDX-License-Identifier: MIT
#include "run.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>

#include "../harness/reporting.hpp"
#include "../harness/setting.hpp"

namespace bench {
namespace {

struct Options {
  int rounds = 15;
  bool with_eigen_expression = true;
  std::size_t offset = 0;  ///< bytes from a cache line to the tensors
};

/// Empty when all agree.
std::string first_to_disagree(const Case& c, const Tensors& tensors, const std::vector<Contender>& contenders) {
  constexpr long kMany = 1 << 22;  // elements that take the Eigen expression seconds
  const auto found = std::find_if(contenders.begin(), contenders.end(), [&](const Contender& contender) {
    return contender.normalizes && !(contender.rough && c.count() > kMany) && !agrees(c, tensors, contender);
  });
  return found == contenders.end() ? "" : found->name;
}

void append_peers(std::vector<Contender>& contenders, const std::vector<Peer>& peers, const Case& c,
                  const Tensors& tensors) {
  for (const Peer& peer : peers) {
    Contender contender = contender_of(peer, c, tensors);
    if (!contender.call) continue;
    if (agrees(c, tensors, contender))
      contenders.push_back(std::move(contender));
    else
      std::fprintf(stderr, "%s is left out of %s: its result is another\n", peer.name.c_str(), c.name().c_str());
  }
}

/// "oneDNN: jit:avx512_core; ..."
std::string notes_of(const std::vector<Contender>& contenders) {
  std::string notes;
  for (const Contender& contender : contenders) {
    if (!contender.note.empty()) notes += (notes.empty() ? "" : "; ") + contender.name + ": " + contender.note;
  }
  return notes;
}

/// One iteration is one round of all contenders; the time shown is ours, the counters have everyone's.
void run_case(benchmark::State& state, const Case& c, const Options& options, const std::vector<Peer>& peers,
              bool& all_agree) {
  const Tensors tensors(c, options.offset);
  std::vector<Contender> contenders = bench::contenders(c, tensors, options.with_eigen_expression);
  if (const std::string wrong = first_to_disagree(c, tensors, contenders); !wrong.empty()) {
    all_agree = false;
    const std::string message = "hand_loop and " + wrong + " disagree";
    state.SetLabel(message);
    state.SkipWithError(message.c_str());
    return;
  }

  append_peers(contenders, peers, c, tensors);
  state.SetLabel(notes_of(contenders));

  Interleaved race(std::move(contenders));
  for (auto _ : state) state.SetIterationTime(race.round("tensornorm"));

  for (const std::string& name : race.names()) {
    report(state, name + ":us", race.microseconds(name));
    const bool chained = name.find("+reader") != std::string::npos;
    if (!chained && name != "memcpy") report(state, name + "/memcpy", race.ratio(name, "memcpy"));
  }
  report(state, "tensornorm+reader/memcpy+reader", race.ratio("tensornorm+reader", "memcpy+reader"));
  if (const std::string triad = race.fastest({"triad", "streaming_triad"}); !triad.empty())
    report(state, "tensornorm/fastest_triad", race.ratio("tensornorm", triad));
  if (c.goal > 0) state.counters["goal"] = c.goal;
  if (c.goal_microseconds > 0) state.counters["goal:us"] = c.goal_microseconds;
  state.counters["bytes"] = static_cast<double>(c.bytes());
}

/// A line a case; the counters in full go to --benchmark_out.
class LineReporter : public benchmark::BenchmarkReporter {
 public:
  explicit LineReporter(const std::vector<Peer>& peers) : peers_(peers) {}

  bool ReportContext(const Context&) override {
    for (const auto& [key, value] : setting()) std::printf("%s: %s\n", key.c_str(), value.c_str());
    std::printf("\n%-58s %11s %11s  ratios to memcpy\n%-58s %11s %11s %7s %13s %8s %6s %6s %8s %7s %7s  %s\n", "",
                "memcpy, us", "ours, us", "", "", "", "ours", "quartiles", "chained", "stream", "native", "hand",
                "eigen", "goal", peers_.empty() ? "" : "best peer");
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.counters.empty()) {
        std::printf("%-58s %s\n", run.run_name.function_name.c_str(), run.report_label.c_str());
        continue;
      }
      const auto value = [&](const char* name) {
        const auto found = run.counters.find(name);
        return found == run.counters.end() ? 0.0 : found->second.value;
      };
      const bool in_microseconds = value("goal:us") > 0;
      std::printf("%-58s %11.3f %11.3f %7.2f %6.2f-%-6.2f %8.2f %6.2f %6.2f %8.2f %7.1f %7.2f%s%s\n",
                  run.run_name.function_name.c_str(), value("memcpy:us"), value("tensornorm:us"),
                  value("tensornorm/memcpy"), value("tensornorm/memcpy:q1"), value("tensornorm/memcpy:q3"),
                  value("tensornorm+reader/memcpy+reader"), value("streaming_copy/memcpy"),
                  value("hand_loop_native/memcpy"), value("hand_loop/memcpy"), value("eigen_expression/memcpy"),
                  in_microseconds ? value("goal:us") : value("goal"), in_microseconds ? " us" : "",
                  best_peer(run).c_str());
      std::fflush(stdout);
    }
  }

 private:
  std::string best_peer(const Run& run) const {
    double least = std::numeric_limits<double>::infinity();
    std::string best;
    for (const Peer& peer : peers_) {
      const auto found = run.counters.find(peer.name + "/memcpy");
      if (found == run.counters.end() || found->second.value >= least) continue;
      least = found->second.value;
      best = "  " + peer.name + " " + std::to_string(least).substr(0, 5);
    }
    return best;
  }

  const std::vector<Peer>& peers_;
};

}  // namespace

int run_suite(int argc, char** argv, const std::vector<Peer>& peers) {
  const Options options = {take_number(argc, argv, "--rounds", 15, 1), take_flag(argc, argv, "--without_eigen_expression", "").empty(),
                           std::size_t(take_number(argc, argv, "--offset", 0, 0))};
  if (options.offset % 16 != 0 || options.offset > 4096 || (options.offset > 0 && !peers.empty())) {
    std::fprintf(stderr, "--offset takes a multiple of 16, at most 4096, and no peers: some take aligned tensors only\n");
    return 2;
  }
  benchmark::AddCustomContext("offset", std::to_string(options.offset) + " bytes past a cache line");
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add_context(peers);
  bool all_agree = true;
  for (const Case& c : suite()) {
    const auto run = [&, c, options](benchmark::State& state) { run_case(state, c, options, peers, all_agree); };
    register_rounds(c.name(), options.rounds, run);
  }
  LineReporter reporter(peers);
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return all_agree ? 0 : 1;
}

}  // namespace bench
