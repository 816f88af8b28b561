// SPDX-License-Identifier: MIT
// Rows taken together give the bits of rows one by one: however long they are, wherever y is written to, whatever is among them.
#include <gtest/gtest.h>

#include <tensornorm/ops/forward_op.hpp>
#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/dispatch_level.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm {
namespace {

using kernels::Store;

template <class T>
class ShortRowsTest : public testing::Test {
 protected:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;
  using Args = kernels::ForwardArguments<T>;
  static constexpr Index kRows = 21;    ///< twice eight, and some
  static constexpr Index kAround = 64;  ///< elements before and after y that are not to change

  struct Result {
    std::vector<T> y;
    std::vector<S> statistics;
  };
  static bool is_room(const T& value) { return value == T(77); }

  /// f(args, walk) on rows with what weight and bias say: beside the elements, or one for each row. y begins `offset` elements after a line.
  template <class F>
  static Result run(const std::vector<T>& x, Index n, const StatisticsRule& rule, bool beside, Index offset, F f) {
    const auto weight = support::random_values<A>(std::max(n, kRows), 3, 1, 0.5), bias = support::random_values<A>(std::max(n, kRows), 4, 0, 1);
    RowWalk walk = RowWalk::of_one_row(n, beside);
    walk.kept.push({kRows, {n, n, n}, 1, beside ? 0 : 1});
    Result result;
    std::vector<T> room(std::size_t(kRows * n + 3 * kAround), T(77));
    T* y = room.data() + kAround;
    while (reinterpret_cast<std::uintptr_t>(y) % 64 != 0) ++y;
    y += offset;
    result.statistics.assign(4 * kRows, S(77));
    S* const statistics = result.statistics.data();
    Args args;
    args.x = x.data();
    args.y = y;
    args.weight = weight.data();
    args.bias = bias.data();
    args.rule = rule;
    args.samples = n;
    args.statistics = {statistics, statistics + kRows, statistics + 2 * kRows, statistics + 3 * kRows};
    f(args, walk);
    result.y.assign(y, y + kRows * n);
    EXPECT_TRUE(std::all_of(room.data(), y, is_room));
    EXPECT_TRUE(std::all_of(y + kRows * n, room.data() + room.size(), is_room));
    return result;
  }

  /// The same numbers, zeros of one sign, or NaN both. Not byte by byte: some of a long double's say nothing.
  template <class V>
  static bool same(const std::vector<V>& a, const std::vector<V>& b) {
    const auto alike = [](const V& p, const V& q) {
      return (p == q && std::signbit(double(p)) == std::signbit(double(q))) || (p != p && q != q);
    };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), alike);
  }

  /// Of ordinary rows alone, which are finished in lanes.
  static std::vector<T> ordinary_rows_of(Index n) { return support::random_values<T>(kRows * n, 1, 3, 2); }
  /// And among them those that are taken by themselves.
  static std::vector<T> rows_of(Index n) {
    auto x = ordinary_rows_of(n);
    const auto row = [&](Index k, auto value) {
      for (Index i = 0; i < n; ++i) x[std::size_t(k * n + i)] = T(value(i, double(x[std::size_t(k * n + i)])));
    };
    row(2, [](Index, double) { return 0.0; });
    row(5, [](Index, double) { return -0.0; });
    row(9, [](Index, double) { return 42.0; });
    row(10, [](Index i, double v) { return i < 16 ? v + 1000 : v; });  // a bad pivot
    row(12, [](Index, double v) { return v * 1e-30; });
    row(17, [n](Index i, double v) { return i == n - 1 ? std::numeric_limits<double>::quiet_NaN() : v; });
    row(20, [](Index i, double v) { return i == 0 ? std::numeric_limits<double>::infinity() : v; });
    return x;
  }
};
using Scalars = testing::Types<float, double, Eigen::half, Eigen::bfloat16, long double>;
TYPED_TEST_SUITE(ShortRowsTest, Scalars);

TYPED_TEST(ShortRowsTest, TheSameBitsAsOneByOne) {
  using Arguments = typename TestFixture::Args;
  constexpr Index block = kernels::kBlock<typename TestFixture::A>;
  constexpr Index longest = kernels::kLongestTogether<typename TestFixture::A, typename TestFixture::S>;
  for (const Index n : {Index{2}, Index{17}, Index{100}, block - 1, block, block + 1, block + 17, 2 * block, longest - 1, longest}) {
    if (n > longest) continue;
    SCOPED_TRACE(n);
    for (const bool ordinary : {true, false}) {
      const auto x = ordinary ? this->ordinary_rows_of(n) : this->rows_of(n);
      for (const bool centered : {true, false})
        for (const bool beside : {true, false})
          support::at_each_level([&](kernels::Level) {
            StatisticsRule rule;
            rule.centered = centered;
            const auto expected = this->run(x, n, rule, beside, 0, [](const Arguments& args, const RowWalk& walk) {
              kernels::dispatch(kernels::RowForward<Arguments>{args, walk, Store::ordinary, false, 0, walk.kept.size(), 0, true});
            });
            for (const Store store : {Store::ordinary, Store::streaming})
              for (const bool fetches : {true, false})
                for (const Index offset : {0, 5}) {
                  const support::OnIntel not_paced(offset == 0 && fetches);
                  const auto actual = this->run(x, n, rule, beside, offset, [&](const Arguments& args, const RowWalk& walk) {
                    // In two parts, as two threads would have them.
                    kernels::dispatch(kernels::ShortRowForward<Arguments>{args, walk, store, fetches, 0, 3});
                    kernels::dispatch(kernels::ShortRowForward<Arguments>{args, walk, store, fetches, 3, walk.kept.size()});
                  });
                  EXPECT_TRUE(this->same(actual.y, expected.y)) << "streams: " << (store == Store::streaming) << ", offset " << offset;
                  EXPECT_TRUE(this->same(actual.statistics, expected.statistics));
                }
          });
    }
  }
}

}  // namespace
}  // namespace tensornorm
