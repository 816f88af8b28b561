// SPDX-License-Identifier: MIT
// The two kernel shapes on data in cache, at every instruction set this processor has, and what stands around them.
#include <benchmark/benchmark.h>

#include <string>
#include <tensornorm/tensornorm.hpp>

#include "../harness/setting.hpp"

namespace {

namespace tn = tensornorm;
using tn::kernels::Level;
using Matrix = Eigen::Tensor<float, 2, Eigen::RowMajor>;

template <class Layer>
void forward(benchmark::State& state, Layer layer, Eigen::Index rows, Eigen::Index columns, Level level) {
  const Level before = tn::kernels::level();
  tn::kernels::set_level(level);
  Matrix x(rows, columns), y(rows, columns);
  x.setRandom();
  tn::SavedStats<float> saved;
  for (auto _ : state) {
    layer.forward(x, y, saved);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * x.size() * static_cast<std::int64_t>(sizeof(float)));
  tn::kernels::set_level(before);
}

void loop_nest(benchmark::State& state) {
  tn::Extents<4> shape = {32, 64, 112, 112};
  const tn::Extents<4> strides = {64 * 112 * 112, 112 * 112, 112, 1};
  for (auto _ : state) {
    benchmark::DoNotOptimize(shape);
    benchmark::DoNotOptimize(tn::make_loop_nest<4, true>(shape, {strides, strides, strides}, tn::BatchAxes<1>{}));
  }
}

void welford_push(benchmark::State& state) {
  tn::Welford<double> statistics;
  double x = 1;
  for (auto _ : state) {
    statistics.push(x += 0.25);
    benchmark::DoNotOptimize(statistics);
  }
}

void welford_merge(benchmark::State& state) {
  tn::Welford<double> statistics, other;
  for (double x : {1.0, 2.0, 4.0}) other.push(x);
  for (auto _ : state) {
    statistics.merge(other);
    benchmark::DoNotOptimize(statistics);
  }
}

void register_level(Level level, const std::string& name) {
  if (tn::kernels::detected_level() < level) return;
  for (Eigen::Index columns : {16, 64, 768, 4096, 65536}) {
    benchmark::RegisterBenchmark(
        ("row/1x" + std::to_string(columns) + "/" + name).c_str(),
        [=](benchmark::State& state) { forward(state, tn::LayerNorm<float>(columns), 1, columns, level); });
  }
  for (Eigen::Index columns : {3, 16, 64, 256, 1024}) {
    benchmark::RegisterBenchmark(
        ("column/64x" + std::to_string(columns) + "/" + name).c_str(),
        [=](benchmark::State& state) { forward(state, tn::BatchNorm1d<float>(columns), 64, columns, level); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const auto& [key, value] : bench::setting()) benchmark::AddCustomContext(key, value);
  benchmark::RegisterBenchmark("loop_nest/batch_axes_rank_4", loop_nest);
  benchmark::RegisterBenchmark("welford/push", welford_push);
  benchmark::RegisterBenchmark("welford/merge", welford_merge);
  register_level(Level::avx512, "avx512");
  register_level(Level::avx2, "avx2");
  register_level(Level::baseline, "baseline");
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
