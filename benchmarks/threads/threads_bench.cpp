// SPDX-License-Identifier: MIT
// bench_threads [--rounds=15] [--threads=2] [Google Benchmark's own flags]
// The suite on one thread and on a ThreadPoolDevice, beside what the other cores give to a loop that only computes and
// to memcpy: a case can gain no more than the first, and where memory is the limit no more than the second.
#define EIGEN_USE_THREADS
#include <cstdio>
#include <cstring>
#include <unsupported/Eigen/CXX11/Tensor>

#include "../harness/reporting.hpp"
#include "../layers/layer_call.hpp"
#include "../layers/layer_call_on.hpp"

namespace bench {
namespace {

/// Does `part(i)` for i in [0, threads), each on a thread of its own.
template <class Part>
void on_threads(const Eigen::ThreadPoolDevice& device, Part part) {
  Eigen::Barrier done(static_cast<unsigned>(device.numThreads() - 1));
  for (int i = 1; i < device.numThreads(); ++i) {
    device.enqueueNoNotification([&, i] {
      part(i);
      done.Notify();
    });
  }
  part(0);
  done.Wait();
}

/// Multiplications and additions in registers, for about half a millisecond.
void compute() {
  double a = 1, b = 2, c = 3, d = 4;
  for (int i = 0; i < 400000; ++i) {
    a = a * 0.999 + 0.1;
    b = b * 0.999 + 0.1;
    c = c * 0.999 + 0.1;
    d = d * 0.999 + 0.1;
    asm volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d));
  }
}

std::vector<Contender> race_of(const Case& c, const Tensors& t, const Eigen::ThreadPoolDevice& device) {
  std::byte *const x = t.x.data(), *const result = t.result.data();
  const std::size_t bytes = t.x.bytes(), threads = static_cast<std::size_t>(device.numThreads());
  const std::size_t lines = (bytes / Buffer::kLine + threads - 1) / threads * Buffer::kLine;
  const auto copy_part = [=](int i) {
    const std::size_t first = std::min(bytes, static_cast<std::size_t>(i) * lines);
    std::memcpy(result + first, x + first, std::min(bytes - first, lines));
  };
  return {
      {"memcpy", repeated([=] { std::memcpy(result, x, bytes); })},
      {"memcpy, threads", repeated([=, &device] { on_threads(device, copy_part); })},
      {"compute", repeated([threads] {
         for (std::size_t i = 0; i < threads; ++i) compute();
       })},
      {"compute, threads", repeated([&device] { on_threads(device, [](int) { compute(); }); })},
      {"tensornorm", tensornorm_layer(c, t)},
      {"tensornorm, threads", layer_call_on<float, Eigen::RowMajor>(device, c, t)},
  };
}

void run_case(benchmark::State& state, const Case& c, const Eigen::ThreadPoolDevice& device) {
  const Tensors tensors(c);
  Interleaved race(race_of(c, tensors, device));
  for (auto _ : state) state.SetIterationTime(race.round("tensornorm, threads"));
  for (const std::string name : {"tensornorm", "memcpy", "compute"}) {
    report(state, name + ":us", race.microseconds(name));
    report(state, name + ":gain", race.ratio(name, name + ", threads"));
  }
  report(state, "tensornorm/memcpy, threads", race.ratio("tensornorm, threads", "memcpy, threads"));
  std::printf("%-58s gain: tensornorm %5.2f  compute %5.2f  memcpy %5.2f\n", c.name().c_str(),
              race.ratio("tensornorm", "tensornorm, threads").median, race.ratio("compute", "compute, threads").median,
              race.ratio("memcpy", "memcpy, threads").median);
  std::fflush(stdout);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  const int rounds = take_number(argc, argv, "--rounds", 15, 1);
  const int threads = take_number(argc, argv, "--threads", 2, 1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add_context({});
  benchmark::AddCustomContext("threads", std::to_string(threads));
  Eigen::ThreadPool pool(threads);
  const Eigen::ThreadPoolDevice device(&pool, threads);
  for (const Case& c : suite()) {
    if (c.precision != Precision::float32 || c.storage != Storage::row_major || c.fixed_size || c.apart) continue;
    register_rounds(c.name(), rounds, [&device, c](benchmark::State& state) { run_case(state, c, device); });
  }
  Quiet reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
}
