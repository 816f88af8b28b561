// SPDX-License-Identifier: MIT
// bench_types [--rounds=15] [Google Benchmark's own flags]: exit code 1 when an aim is missed.
// The suite in bfloat16 and half beside float, the same number of elements, as time per byte of x: 1 is where memory is
// the limit, 2 where a number of either type takes as long.
#include <algorithm>
#include <cstdio>
#include <unsupported/Eigen/CXX11/Tensor>

#include "../harness/reporting.hpp"
#include "../layers/layer_call.hpp"
#include "../layers/layer_call_on.hpp"

namespace bench {
namespace {

/// What is aimed at; the latter where the instruction set converts.
constexpr double kAim = 2.0, kAimInHardware = 1.3;

/// A float case's tensors, rounded to S.
template <class S>
Tensors rounded(const Case& c, const Tensors& from) {
  Tensors to(c);
  const auto round = [](const Buffer& source, const Buffer& target) {
    std::transform(source.as<float>(), source.as<float>() + source.bytes() / sizeof(float), target.as<S>(),
                   [](float value) { return static_cast<S>(value); });
  };
  round(from.x, to.x);
  round(from.dy, to.dy);
  round(from.weight, to.weight);
  round(from.bias, to.bias);
  round(from.running_mean, to.running_mean);
  round(from.running_variance, to.running_variance);
  return to;
}

/// The instruction set in force has instructions that convert half to float and back.
bool converts_half() { return tn::kernels::level() >= tn::kernels::Level::avx2; }

void run_case(benchmark::State& state, const Case& c, bool& all_held) {
  const Tensors floats(c), brains = rounded<Eigen::bfloat16>(c, floats), halves = rounded<Eigen::half>(c, floats);
  Interleaved race({{"float", tensornorm_layer(c, floats)},
                    {"bfloat16", layer_call_of<Eigen::bfloat16>(c, brains)},
                    {"half", layer_call_of<Eigen::half>(c, halves)}});
  for (auto _ : state) state.SetIterationTime(race.round("half"));

  std::printf("%-62s", c.name().c_str());
  report(state, "float:us", race.microseconds("float"));
  for (const std::string name : {"bfloat16", "half"}) {
    Spread per_byte = race.ratio(name, "float");
    for (double* value : {&per_byte.first_quartile, &per_byte.median, &per_byte.third_quartile}) *value *= 2;
    report(state, name + ":us", race.microseconds(name));
    report(state, name + "/float, per byte", per_byte);
    const double aim = name == "half" && converts_half() ? kAimInHardware : kAim;
    const bool held = per_byte.median <= aim;
    all_held = all_held && held;
    std::printf("  %s %5.2f (%.2f-%.2f) %s %.1f", name.c_str(), per_byte.median, per_byte.first_quartile,
                per_byte.third_quartile, held ? "<=" : "MISSED", aim);
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  const int rounds = take_number(argc, argv, "--rounds", 15, 1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add_context({});
  bool all_held = true;
  for (const Case& c : suite()) {
    if (c.precision != Precision::float32 || c.fixed_size || c.apart) continue;
    register_rounds(c.name(), rounds, [&all_held, c](benchmark::State& state) { run_case(state, c, all_held); });
  }
  Quiet reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return all_held ? 0 : 1;
}
