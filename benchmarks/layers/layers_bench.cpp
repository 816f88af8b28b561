// SPDX-License-Identifier: MIT
// bench_layers [--rounds=15] [--without_eigen_expression] [Google Benchmark's own flags]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "../baselines/baselines.hpp"
#include "../harness/interleaved.hpp"
#include "../harness/setting.hpp"

namespace {

struct Options {
  int rounds = 15;
  bool with_eigen_expression = true;
};

void report(benchmark::State& state, const std::string& name, const bench::Spread& spread) {
  state.counters[name] = spread.median;
  state.counters[name + ":q1"] = spread.first_quartile;
  state.counters[name + ":q3"] = spread.third_quartile;
}

/// Fast and wrong is easy: what is timed must be the same function as the hand loop. Empty when all agree.
std::string first_to_disagree(const bench::Case& c, const bench::Tensors& tensors,
                              const std::vector<bench::Contender>& contenders) {
  const bench::Contender judge = {"hand_loop", bench::plain::hand_loop(c, tensors)};
  constexpr long kMany = 1 << 22;  // elements that take the Eigen expression seconds
  for (const bench::Contender& contender : contenders) {
    if (!contender.normalizes || (contender.name == "eigen_expression" && c.count() > kMany)) continue;
    if (!(bench::disagreement(c, tensors, judge, contender) < 1e-3)) return contender.name;
  }
  return {};
}

/// One iteration is one round of all contenders; the time shown is ours, the counters have everyone's.
void run_case(benchmark::State& state, const bench::Case& c, const Options& options, bool& all_agree) {
  const bench::Tensors tensors(c);
  std::vector<bench::Contender> contenders = bench::contenders(c, tensors, options.with_eigen_expression);
  if (const std::string wrong = first_to_disagree(c, tensors, contenders); !wrong.empty()) {
    all_agree = false;
    state.SkipWithError(("hand_loop and " + wrong + " disagree").c_str());
    return;
  }

  bench::Interleaved race(std::move(contenders));
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
  bool ReportContext(const Context&) override {
    for (const auto& [key, value] : bench::setting()) std::printf("%s: %s\n", key.c_str(), value.c_str());
    std::printf("\n%-58s %11s %11s  ratios to memcpy\n%-58s %11s %11s %7s %13s %8s %6s %6s %8s %7s %7s\n", "",
                "memcpy, us", "ours, us", "", "", "", "ours", "quartiles", "chained", "stream", "native", "hand",
                "eigen", "goal");
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) {
        std::printf("%-58s %s\n", run.run_name.function_name.c_str(), run.error_message.c_str());
        continue;
      }
      const auto value = [&](const char* name) {
        const auto found = run.counters.find(name);
        return found == run.counters.end() ? 0.0 : found->second.value;
      };
      const bool in_microseconds = value("goal:us") > 0;
      std::printf("%-58s %11.3f %11.3f %7.2f %6.2f-%-6.2f %8.2f %6.2f %6.2f %8.2f %7.1f %7.2f%s\n",
                  run.run_name.function_name.c_str(), value("memcpy:us"), value("tensornorm:us"),
                  value("tensornorm/memcpy"), value("tensornorm/memcpy:q1"), value("tensornorm/memcpy:q3"),
                  value("tensornorm+reader/memcpy+reader"), value("streaming_copy/memcpy"),
                  value("hand_loop_native/memcpy"), value("hand_loop/memcpy"), value("eigen_expression/memcpy"),
                  in_microseconds ? value("goal:us") : value("goal"), in_microseconds ? " us" : "");
      std::fflush(stdout);
    }
  }
};

/// Takes our own flags out of the arguments; what is left is Google Benchmark's.
Options take_options(int& argc, char** argv) {
  Options options;
  constexpr std::string_view kRounds = "--rounds=";
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.rfind(kRounds, 0) == 0)
      options.rounds = std::stoi(std::string(argument.substr(kRounds.size())));
    else if (argument == "--without_eigen_expression")
      options.with_eigen_expression = false;
    else
      argv[kept++] = argv[i];
  }
  argc = kept;
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = take_options(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const auto& [key, value] : bench::setting()) benchmark::AddCustomContext(key, value);
  bool all_agree = true;
  for (const bench::Case& c : bench::suite()) {
    const auto run = [c, options, &all_agree](benchmark::State& state) { run_case(state, c, options, all_agree); };
    benchmark::RegisterBenchmark(c.name().c_str(), run)
        ->Iterations(options.rounds)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
  LineReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return all_agree ? 0 : 1;
}
