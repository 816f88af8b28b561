// SPDX-License-Identifier: MIT
// The columns' sums of gradients against long double, over widths and rows about every boundary and places of all arrays.
#include <gtest/gtest.h>

#include <tensornorm/kernels/column_gradient_sums.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

using support::at_each_level;
using support::run_in_instruction_set;

template <class T>
class ColumnGradientSums : public testing::Test {
 protected:
  static constexpr Index N = virtual_width<T>;
  struct Sums {
    std::vector<double> plain, centered;
  };
  /// x and dy are as long as their elements: a sanitizer sees a read beyond. `past`: elements from a line to the tile.
  template <bool kFromMemory>
  static Sums sums_of(const std::vector<T>& x, const std::vector<T>& dy, Index rows, Index x_stride, Index dy_stride, Index width,
                      const std::vector<T>& mean, Index past) {
    const std::size_t n = static_cast<std::size_t>(width), padded = n + 16;
    Sums result{std::vector<double>(padded, 0.5), std::vector<double>(padded, 0.5)};
    std::vector<T> means(padded), plain(padded + 48), centered(padded + 48);
    std::copy(mean.begin(), mean.end(), means.begin());
    const auto at_place = [&](std::vector<T>& tile) { return tile.data() + elements_to_alignment(tile.data(), kLine<T>) + past; };
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      column_gradient_sums<kFromMemory, T, double, I>(x.data(), dy.data(), rows, x_stride, dy_stride, width, means.data(),
                                                      TileSums<T>{at_place(plain), at_place(centered)}, result.plain.data(),
                                                      result.centered.data());
    });
    for (auto* sums : {&result.plain, &result.centered}) {
      for (std::size_t c = n; c < padded; ++c) EXPECT_EQ((*sums)[c], 0.5) << "the padding takes part";
      sums->resize(n);
    }
    return result;
  }
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(ColumnGradientSums, Scalars);

TYPED_TEST(ColumnGradientSums, WidthsRowsStridesAndPlaces) {
  using T = TypeParam;
  std::vector<std::vector<double>> first_level;
  at_each_level([&](Level level) {
    std::vector<std::vector<double>> all;
    for (Index width = 1; width <= 4 * this->N + 1; width += width % 5 == 4 ? 3 : 1)
      for (const Index rows : {Index{1}, Index{3}, kTileRows - 1, kTileRows, 5 * kTileRows + 3}) {
        SCOPED_TRACE(std::to_string(rows) + " rows of " + std::to_string(width));
        const Index x_stride = width + rows % 3, dy_stride = width + width % 2;
        const auto x = support::random_values<T>((rows - 1) * x_stride + width, 1, 3, 1);
        const auto dy = support::random_values<T>((rows - 1) * dy_stride + width, 2, 0.5, 1);
        const auto mean = support::random_values<T>(width, 3, 3, 0.1);
        const Index past = (width + rows) % kLine<T>;
        const auto sums = this->template sums_of<false>(x, dy, rows, x_stride, dy_stride, width, mean, past);
        for (const Index other : {Index{0}, (past + 1) % kLine<T>, kLine<T> - 1}) {
          const auto moved = this->template sums_of<true>(x, dy, rows, x_stride, dy_stride, width, mean, other);
          ASSERT_TRUE(support::same_bits(moved.plain, sums.plain)) << "tile at " << other << " for " << past;
          ASSERT_TRUE(support::same_bits(moved.centered, sums.centered)) << "tile at " << other << " for " << past;
        }
        for (Index c = 0; c < width; ++c) {
          long double plain = 0, centered = 0, size = 1, centered_size = 1;
          for (Index r = 0; r < rows; ++r) {
            const long double g = dy[static_cast<std::size_t>(r * dy_stride + c)];
            const long double d = static_cast<long double>(x[static_cast<std::size_t>(r * x_stride + c)]) - mean[static_cast<std::size_t>(c)];
            plain += g;
            centered += g * d;
            size += std::abs(g);
            centered_size += std::abs(g * d);
          }
          // Each difference rounds once, each tile's sum of 16 a few times more, all in T.
          const auto eps = static_cast<long double>(std::numeric_limits<T>::epsilon());
          const auto at = static_cast<std::size_t>(c);
          ASSERT_NEAR(double(sums.plain[at] - 0.5), double(plain), double(4 * eps * size)) << "column " << c;
          ASSERT_NEAR(double(sums.centered[at] - 0.5), double(centered), double(4 * eps * centered_size)) << "column " << c;
        }
        all.push_back(sums.plain);
        all.push_back(sums.centered);
      }
    if (!support::has_fma(level)) return;
    if (first_level.empty()) first_level = all;
    for (std::size_t i = 0; i < all.size(); ++i) ASSERT_TRUE(support::same_bits(all[i], first_level[i])) << i;
  });
}

}  // namespace
}  // namespace tensornorm::kernels
