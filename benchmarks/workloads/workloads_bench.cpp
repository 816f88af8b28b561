// SPDX-License-Identifier: MIT
// bench_workloads [--rounds=15] [Google Benchmark's own flags]: exit code 1 where the library's or a hand loop's result is another.
// The layers of networks, as training meets them: each on tensors of its own, all forwards, then all backwards in
// reverse, so that nothing but a small layer's tensors is found in a cache.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "../baselines/baselines.hpp"
#include "../baselines/roofs.hpp"
#include "../harness/reporting.hpp"
#include "../layers/layer_call.hpp"
#include "../peers/peers.hpp"
#include "networks.hpp"

namespace bench {
namespace {

constexpr const char* kForward = "/forward";
constexpr const char* kBackward = "/backward";

/// One layer's tensors: x, dy and parameters are common to both directions, y and dx are not.
struct Slot {
  Case forward, backward;
  Tensors y, dx;

  explicit Slot(const Case& layer) : forward(layer), backward(layer), y(layer), dx(y) {
    forward.job = Job::forward;
    backward.job = Job::backward;
    dx.result = Buffer(dx.x.bytes());
  }
};

/// All of them once, in order.
struct Pass {
  std::vector<Contender> layers;

  Contender contender(const std::string& name, bool reversed) && {
    double overhead = 0;
    for (const Contender& layer : layers) overhead += layer.overhead;
    if (reversed) std::reverse(layers.begin(), layers.end());
    const Call call = repeated([all = std::move(layers)] {
      for (const Contender& layer : all) layer.call(1);
    });
    return {.name = name, .call = call, .cold = true, .overhead = overhead};
  }
};

/// Adds a way to do the layers, unless there is one that it cannot do, or of which it makes something else: then returns false.
bool append(std::vector<Contender>& race, const Peer& way, const std::vector<Slot>& slots) {
  Pass forward, backward;
  for (const Slot& slot : slots) {
    for (const bool is_forward : {true, false}) {
      const Case& c = is_forward ? slot.forward : slot.backward;
      const Tensors& tensors = is_forward ? slot.y : slot.dx;
      const Contender layer = contender_of(way, c, tensors);
      if (!layer.call) return true;
      if (!agrees(c, tensors, layer)) {
        std::fprintf(stderr, "%s is left out: its result of %s is another\n", way.name.c_str(), c.name().c_str());
        return false;
      }
      (is_forward ? forward : backward).layers.push_back(layer);
    }
  }
  race.push_back(std::move(forward).contender(way.name + kForward, false));
  race.push_back(std::move(backward).contender(way.name + kBackward, true));
  return true;
}

/// What is not another library, in a peer's clothes.
Peer way(const std::string& name, Call (*call)(const Case&, const Tensors&)) {
  return {name, "", "", [call](const Case& c, const Tensors& t) { return Contender{.name = {}, .call = call(c, t)}; }};
}

Call copy_of(void (*copy)(std::byte*, const std::byte*, std::size_t), const std::vector<Slot>& slots) {
  return repeated([copy, &slots] {
    for (const Slot& slot : slots) copy(slot.y.result.data(), slot.y.x.data(), slot.y.x.bytes());
  });
}

/// all_agree becomes false where one of the first `own` ways, which are no other library's, is left out.
void run_network(benchmark::State& state, const Network& network, const std::vector<Peer>& ways, std::size_t own, bool& all_agree) {
  std::vector<Slot> slots(network.layers.begin(), network.layers.end());
  double bytes = 0;
  for (const Slot& slot : slots) bytes += static_cast<double>(slot.forward.bytes());
  const auto memcpy_of = [](std::byte* to, const std::byte* from, std::size_t count) { std::memcpy(to, from, count); };
  std::vector<Contender> contenders = {
      {.name = "memcpy", .call = copy_of(memcpy_of, slots), .cold = true},
      {.name = "streaming_copy", .call = copy_of(streaming_copy, slots), .cold = true},
  };
  std::vector<std::string> names;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const std::size_t before = contenders.size();
    const bool agreed = append(contenders, ways[i], slots);
    all_agree = all_agree && (agreed || i >= own);
    if (contenders.size() > before) names.push_back(ways[i].name);
  }

  Interleaved race(std::move(contenders));
  for (auto _ : state) state.SetIterationTime(race.round("memcpy"));

  for (const std::string copy : {"memcpy", "streaming_copy"}) report(state, copy + ":us", race.microseconds(copy));
  report(state, "streaming_copy/memcpy", race.ratio("streaming_copy", "memcpy"));
  std::printf("%s\n", network.name.c_str());
  for (const std::string& name : names) {
    const std::vector<std::string> total = {name + kForward, name + kBackward};
    for (const std::string& part : total) report(state, part + ":us", race.microseconds(part));
    report(state, name + ":us", race.microseconds(total));
    report(state, name + "/memcpy", race.ratio(total, "memcpy"));
    std::printf("  %-18s %6.2f x memcpy\n", name.c_str(), race.ratio(total, "memcpy").median);
  }
  std::fflush(stdout);
  state.counters["bytes"] = bytes;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  using namespace bench;
  const int rounds = take_number(argc, argv, "--rounds", 15, 1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::vector<Peer> ways = {way("tensornorm", tensornorm_layer), way("hand_loop_native", native::hand_loop),
                            way("hand_loop", plain::hand_loop)};
  const std::size_t own = ways.size();
  const std::vector<Peer> others = peers();
  ways.insert(ways.end(), others.begin(), others.end());
  add_context(others);
  bool all_agree = true;
  for (const Network& network : networks())
    register_rounds(network.name, rounds, [&, network](benchmark::State& state) { run_network(state, network, ways, own, all_agree); });
  Quiet reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return all_agree ? 0 : 1;
}
