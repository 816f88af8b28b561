// SPDX-License-Identifier: MIT
// Short runs with given statistics that are met again, written past the caches: gathered, or whole lines as they come. The same bits as of
// ordinary stores, all of y and nothing else.
#include <gtest/gtest.h>

#include <tensornorm/ops/forward_op.hpp>
#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/dispatch_level.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/nests.hpp"

namespace tensornorm {
namespace {

using kernels::Store;

template <class T>
class FrozenRuns : public testing::Test {
 protected:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;
  using Arguments = kernels::ForwardArguments<T>;
  static constexpr Index kAround = 64;  ///< elements before and after y

  enum class By { rows, runs, streamed_runs };

  /// Runs [first, last) of (images, channels, length), y beginning `offset` elements after an address of 64 bytes; with kAround elements
  /// before it and after it.
  static std::vector<T> run(Index images, Index channels, Index length, Index offset, Index first, Index last, By by) {
    const LoopNest nest = support::nest_of_roles<Eigen::RowMajor>({images, channels, length}, "rKr");
    const RowWalk walk = make_frozen_row_walk(nest);
    const auto x = support::random_values<T>(nest.size(), 1, 3, 2);
    const auto weight = support::random_values<A>(channels, 2, 1, 0.5), bias = support::random_values<A>(channels, 3, 0, 1);
    auto mean = support::random_values<S>(channels, 4, 3, 1), rstd = support::random_values<S>(channels, 5, 1, 0.1);
    std::vector<S> mean_lo(mean.size(), S(0));
    std::vector<T> room(static_cast<std::size_t>(nest.size() + 3 * kAround), T(77));
    T* y = room.data() + kAround;
    while (reinterpret_cast<std::uintptr_t>(y) % 64 != 0) ++y;
    y += offset;

    Arguments args;
    args.x = x.data();
    args.y = y;
    args.weight = weight.data();
    args.bias = bias.data();
    args.samples = nest.samples;
    args.statistics = {mean.data(), mean_lo.data(), rstd.data(), nullptr};
    std::vector<kernels::Coefficients<A>> made(static_cast<std::size_t>(channels));
    if (by == By::rows) kernels::dispatch(kernels::RowForward<Arguments>{args, walk, Store::ordinary, true, first, last});
    else kernels::dispatch(kernels::FrozenRunForward<Arguments>{args, walk, by == By::streamed_runs, first, last, made.data()});
    return {y - kAround, y + nest.size() + kAround};
  }
};
using Types = testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(FrozenRuns, Types);

TYPED_TEST(FrozenRuns, AreTheSameBitsHoweverTheyAreWritten) {
  constexpr Index images = 2, channels = 37;
  const Index line = kernels::kLine<TypeParam>;
  for (const bool intel : {false, true}) {
    const support::OnIntel maker(intel);
    support::at_each_level([&](kernels::Level) {
      for (const Index length : {line, 2 * line, 3 * line, 5 * line, 34 * line, Index{2}, Index{7}, line + 1, Index{49}, Index{150},
                                 kFrozenRun - 1, kFrozenRun})
        for (const Index offset : {Index{0}, Index{1}, line / 2, line - 1})
          for (const Index first : {Index{0}, Index{11}}) {
            if (length > kFrozenRun) continue;
            const Index last = first == 0 ? images * channels : channels + 5;
            SCOPED_TRACE("runs of " + std::to_string(length) + ", y moved by " + std::to_string(offset));
            const auto of = [&](typename TestFixture::By by) { return this->run(images, channels, length, offset, first, last, by); };
            const auto expected = of(TestFixture::By::rows);
            const auto begin = expected.begin() + TestFixture::kAround;
            ASSERT_TRUE(std::all_of(expected.begin(), begin + first * length, [](TypeParam v) { return v == TypeParam(77); }));
            ASSERT_TRUE(support::same_bits(of(TestFixture::By::runs), expected));
            ASSERT_TRUE(support::same_bits(of(TestFixture::By::streamed_runs), expected));
          }
    });
  }
}

}  // namespace
}  // namespace tensornorm
