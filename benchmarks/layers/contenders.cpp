// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../baselines/baselines.hpp"
#include "../baselines/roofs.hpp"
#include "../harness/contender.hpp"
#include "layer_call.hpp"

namespace bench {
namespace {

/// Even over [centre - 1, centre + 1), the same on every machine.
template <class S>
void fill(const Buffer& buffer, unsigned seed, double centre) {
  S* values = buffer.as<S>();
  std::uint32_t state = seed * 2654435761U + 12345U;
  for (std::size_t i = 0; i < buffer.bytes() / sizeof(S); ++i) {
    state = state * 1664525U + 1013904223U;
    values[i] = static_cast<S>(static_cast<double>(state >> 8) / 8388608.0 - 1.0 + centre);
  }
}

void fill(const Case& c, const Buffer& buffer, unsigned seed, double centre) {
  c.precision == Precision::float32 ? fill<float>(buffer, seed, centre) : fill<double>(buffer, seed, centre);
}

/// Image by image to means of 0 to 7 deviations more, in no order.
template <class S>
void move_images_apart(const Case& c, const Buffer& buffer) {
  S* values = buffer.as<S>();
  const long images = c.shape[0], size = c.count() / images;
  for (long image = 0; image < images; ++image)
    for (long i = 0; i < size; ++i) values[image * size + i] += static_cast<S>(0.6 * static_cast<double>(image * 5 % 8));
}

/// A call followed by whoever reads its result next: streaming stores that only move the cost to the reader show here.
Call with_reader(Call call, const Buffer& result) {
  if (!call) return {};
  return [call = std::move(call), memory = result.data(), bytes = result.bytes()](long times) {
    for (; times > 0; --times) {
      call(1);
      const std::uint64_t sum = read_all(memory, bytes);
      asm volatile("" : : "r"(sum) : "memory");
    }
  };
}

/// The greatest difference between two contenders' results, over the greatest absolute value; NaN where one has a NaN.
template <class S>
double disagreement_as(const Case& c, const Tensors& t, const Contender& a, const Contender& b) {
  const auto count = static_cast<std::size_t>(c.count());
  S* const result = t.result.as<S>();
  const auto run = [](const Contender& contender) {
    contender.call(1);
    if (contender.deliver) contender.deliver();
  };
  run(a);
  const std::vector<S> kept(result, result + count);
  std::fill_n(result, count, std::numeric_limits<S>::max());  // b may not count as having written what a did
  run(b);
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double d = std::abs(static_cast<double>(kept[i]) - static_cast<double>(result[i]));
    if (std::isnan(d)) return d;
    difference = std::max(difference, d);
    scale = std::max(scale, std::abs(static_cast<double>(kept[i])));
  }
  return difference / scale;
}

}  // namespace

Tensors::Tensors(const Case& c, std::size_t offset) {
  const auto bytes = static_cast<std::size_t>(c.bytes());
  const auto parameter_bytes = bytes / static_cast<std::size_t>(c.count() / parameters_of(c));
  for (Buffer* buffer : {&x, &dy, &result}) *buffer = Buffer(bytes, offset);
  for (Buffer* buffer : {&weight, &bias, &running_mean, &running_variance}) *buffer = Buffer(parameter_bytes);
  fill(c, x, 1, 0.1);
  if (c.apart) c.precision == Precision::float32 ? move_images_apart<float>(c, x) : move_images_apart<double>(c, x);
  fill(c, dy, 2, 0);
  fill(c, weight, 3, 1.5);
  fill(c, bias, 4, 0);
  fill(c, running_mean, 5, 0);
  fill(c, running_variance, 6, 1.5);
}

std::vector<Contender> contenders(const Case& c, const Tensors& t, bool with_eigen_expression) {
  std::byte *const x = t.x.data(), *const dy = t.dy.data(), *const result = t.result.data();
  const std::size_t bytes = t.x.bytes();
  const Call copy = repeated([=, exact = static_cast<std::size_t>(c.bytes())] { std::memcpy(result, x, exact); });
  const Call ours = tensornorm_layer(c, t);
  std::vector<Contender> all = {
      {"memcpy", copy, false},
      {"tensornorm", ours},
      {"streaming_copy", repeated([=] { streaming_copy(result, x, bytes); }), false},
      {"hand_loop", plain::hand_loop(c, t)},
      {"hand_loop_native", native::hand_loop(c, t)},
  };
  if (c.job == Job::backward) {
    all.push_back({"triad", repeated([=] { triad(result, x, dy, bytes); }), false});
    all.push_back({"streaming_triad", repeated([=] { streaming_triad(result, x, dy, bytes); }), false});
  }
  all.push_back({"memcpy+reader", with_reader(copy, t.result), false});
  all.push_back({"tensornorm+reader", with_reader(ours, t.result)});
  if (with_eigen_expression) all.push_back({.name = "eigen_expression", .call = eigen_expression(c, t), .rough = true});
  std::erase_if(all, [](const Contender& contender) { return !contender.call; });
  return all;
}

bool agrees(const Case& c, const Tensors& tensors, const Contender& contender) {
  const Contender loop{"hand_loop", plain::hand_loop(c, tensors)};
  const double difference = c.precision == Precision::float32 ? disagreement_as<float>(c, tensors, loop, contender)
                                                              : disagreement_as<double>(c, tensors, loop, contender);
  return difference < 1e-3;
}

}  // namespace bench
