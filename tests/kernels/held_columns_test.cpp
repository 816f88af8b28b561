// SPDX-License-Identifier: MIT
// Columns whose sums are held in registers have the bits of others: of every width, from every place in a line, and nothing beside their
// elements is read.
#include <gtest/gtest.h>

#include <tensornorm/kernels/column_gradient_sums.hpp>
#include <tensornorm/kernels/column_moment_sums.hpp>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

using support::at_each_level;

template <class T>
class HeldColumns : public testing::Test {
 protected:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;
  static constexpr Index kBeside = 3;

  /// Sums that begin with others, as those of the rows after a first part do.
  struct Sums {
    std::vector<S> plain, centered;
    std::vector<A> rests, centered_rests;
    explicit Sums(Index width)
        : plain(std::size_t(width + virtual_width<A>), S(0.5)), centered(plain), rests(plain.size()), centered_rests(rests) {}
    TileSums<A> tile() { return {rests.data(), centered_rests.data()}; }
    bool operator==(const Sums& other) const {
      return same(plain, other.plain) && same(centered, other.centered) && same(rests, other.rests) && same(centered_rests, other.centered_rests);
    }
    /// The same numbers, or NaN both.
    template <class V>
    static bool same(const std::vector<V>& a, const std::vector<V>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](V p, V q) { return p == q || (p != p && q != q); });
    }
  };

  /// Rows of `width` elements, `offset` elements past a line, with NaN before and after them; or in a vector as long as they are, in which a
  /// sanitizer sees what is read beside them.
  class Rows {
   public:
    Rows(const std::vector<T>& values, Index offset, bool alone) : room_(alone ? values : std::vector<T>()) {
      first_ = room_.data();
      if (alone) return;
      room_.assign(values.size() + 4 * kLine<T>, std::numeric_limits<T>::quiet_NaN());
      first_ = room_.data() + kLine<T>;
      first_ += elements_to_alignment(first_, kLine<T>) + offset;
      std::copy(values.begin(), values.end(), first_);
    }
    const T* data() const { return first_; }

   private:
    std::vector<T> room_;
    T* first_;
  };

  /// Where x and dy begin in a line; below 0: both alone.
  static constexpr Index line = virtual_width<A>;
  static constexpr std::pair<Index, Index> places[] = {{0, 0}, {1, 1}, {line / 4, line / 4}, {line - 1, line - 1}, {1, 2}, {0, 3}, {3, 0}, {-1, -1}};

  /// The same rows with something beside each, which are no held ones.
  static std::vector<T> apart(const std::vector<T>& rows, Index width) {
    std::vector<T> result;
    for (std::size_t i = 0; i < rows.size(); i += std::size_t(width)) {
      result.insert(result.end(), rows.begin() + std::ptrdiff_t(i), rows.begin() + std::ptrdiff_t(i) + width);
      result.insert(result.end(), std::size_t(kBeside), std::numeric_limits<T>::quiet_NaN());
    }
    return result;
  }
  /// In two calls, the first of so many rows.
  template <bool kFromMemory>
  static Sums moments(const T* x, Index rows, Index stride, Index width, const std::vector<A>& pivot, Index first = 0) {
    Sums sums(width);
    const auto add = [&](Index from, Index to) {
      dispatch_as<A>([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        column_moments<kFromMemory, A, S, I>(x + from * stride, to - from, stride, width, pivot.data(), sums.tile(), sums.plain.data(),
                                             sums.centered.data());
      });
    };
    if (first > 0) add(0, first);
    add(first, rows);
    return sums;
  }
  template <bool kFromMemory>
  static Sums gradients(const T* x, const T* dy, Index rows, Index stride, Index width, const std::vector<A>& mean, Index first = 0) {
    Sums sums(width);
    const auto add = [&](Index from, Index to) {
      dispatch_as<A>([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        column_gradient_sums<kFromMemory, A, S, I>(x + from * stride, dy + from * stride, to - from, stride, stride, width, mean.data(),
                                                   sums.tile(), sums.plain.data(), sums.centered.data());
      });
    };
    if (first > 0) add(0, first);
    add(first, rows);
    return sums;
  }
};
using Scalars = testing::Types<float, Eigen::bfloat16>;
TYPED_TEST_SUITE(HeldColumns, Scalars);

#if defined(__x86_64__)
// Or what follows would compare others with themselves.
static_assert(holds_columns<float, double, Isa<64>, true> && holds_columns<float, double, Isa<32>, false>);
static_assert(turns_rows<float, Isa<64>, float> && !turns_rows<float, Isa<64>, Eigen::bfloat16>);
#endif

TYPED_TEST(HeldColumns, TheSameBitsAsOthers) {
  using Sum = typename TestFixture::A;
  for (Index lines = kFewestHeldLines; lines <= kHeldGradientLines; ++lines)
    for (const Index rows : {1, 2, 3, 7, 8, 16, 21, 31, 32, 33, 39, 100}) {
      if (!is_held(lines, kHeldGradientLines)) continue;
      const Index width = lines * TestFixture::line, kept = rows > kTileRows ? kTileRows : 0;
      auto x = support::random_values<TypeParam>(rows * width, 1, 3, 2), dy = support::random_values<TypeParam>(rows * width, 2, 0, 1);
      if (rows > 7) {  // each is to stay in its column
        x[std::size_t(5 * width - 1)] = std::numeric_limits<TypeParam>::infinity();
        dy[std::size_t(6 * width)] = std::numeric_limits<TypeParam>::quiet_NaN();
      }
      const auto pivot = support::random_values<Sum>(width, 3, 3, 1);
      const auto x_apart = TestFixture::apart(x, width), dy_apart = TestFixture::apart(dy, width);
      at_each_level([&](Level) {
        const Index stride = width + TestFixture::kBeside;
        const auto moments = TestFixture::template moments<false>(x_apart.data(), rows, stride, width, pivot);
        const auto gradients = TestFixture::template gradients<false>(x_apart.data(), dy_apart.data(), rows, stride, width, pivot);
        for (const auto& [offset, of_dy] : TestFixture::places) {
          SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(width) + " from " + std::to_string(offset) + ", " + std::to_string(of_dy));
          const typename TestFixture::Rows at_x(x, offset, offset < 0), at_dy(dy, of_dy, offset < 0);
          EXPECT_EQ(moments, TestFixture::template moments<true>(at_x.data(), rows, width, width, pivot));
          EXPECT_EQ(moments, TestFixture::template moments<false>(at_x.data(), rows, width, width, pivot));
          EXPECT_EQ(gradients, TestFixture::template gradients<true>(at_x.data(), at_dy.data(), rows, width, width, pivot));
          EXPECT_EQ(gradients, TestFixture::template gradients<false>(at_x.data(), at_dy.data(), rows, width, width, pivot));
          EXPECT_EQ(moments, TestFixture::template moments<false>(at_x.data(), rows, width, width, pivot, kept));
          EXPECT_EQ(gradients, TestFixture::template gradients<true>(at_x.data(), at_dy.data(), rows, width, width, pivot, kept));
        }
      });
    }
}

}  // namespace
}  // namespace tensornorm::kernels
