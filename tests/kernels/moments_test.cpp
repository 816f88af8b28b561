// SPDX-License-Identifier: MIT
// The moments kernels against two passes in long double, over sizes about every boundary, misalignments and means.
#include <gtest/gtest.h>

#include <tensornorm/kernels/column_moment_sums.hpp>
#include <tensornorm/kernels/moments.hpp>

#include <cmath>
#include <cstring>
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

/// What a statistic comes down to; the mean as hi + lo.
struct Result {
  long double mean, variance;
};

/// Two passes in long double, the mean itself in two (its sum has an error of the offset's size, its correction none):
/// exact to some 2^-64, beyond anything compared with it here.
template <class T>
Result reference(const std::vector<T>& x) {
  const auto n = static_cast<long double>(x.size());
  long double mean = 0, correction = 0, m2 = 0;
  for (const T value : x) mean += value / n;
  for (const T value : x) correction += value - mean;
  mean += correction / n;
  for (const T value : x) m2 += (value - mean) * (value - mean);
  return {mean, m2 / n};
}

/// |a - b| in units in the last place of b as a T.
template <class T>
double ulps_between(long double a, long double b) {
  const T at = static_cast<T>(std::abs(b));
  const T ulp = std::nextafter(at, std::numeric_limits<T>::infinity()) - at;
  return static_cast<double>(std::abs(a - b) / static_cast<long double>(ulp));
}

template <class T>
using StatisticOf = std::conditional_t<std::is_same_v<T, float>, double, T>;

template <class T>
Welford<StatisticOf<T>> row_state(const T* x, std::size_t n, std::size_t slices = 1, std::size_t pitch = 0) {
  tensornorm::kernels::ScaledWelford<T, StatisticOf<T>> moments;
  run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
    for (std::size_t i = 0; i < slices; ++i)
      row_moments<T, StatisticOf<T>, I>(x + i * pitch, static_cast<Index>(n), true, moments);
  });
  moments.set_scale(1);
  return moments.state;
}

template <class T>
Result result_of(const Welford<T>& state) {
  return {static_cast<long double>(state.mean()) + static_cast<long double>(state.mean_lo()),
          static_cast<long double>(state.variance())};
}

/// The bits of every number of a state.
template <class T>
std::vector<T> bits_of(const Welford<T>& state) {
  return {static_cast<T>(state.count()), state.mean(), state.mean_lo(), state.m2()};
}

template <class T>
class RowMoments : public testing::Test {
 protected:
  static constexpr std::size_t N = virtual_width<T>;
  static constexpr std::size_t B = kBlock<T>;
  static constexpr std::size_t C = kChunk;

  static std::vector<std::size_t> sizes() {
    return {1,         3,     7, 16,    N - 1, N,         N + 1, 3 * N, 8 * N + 2, B - 1, B,         B + 1, 3 * B,
            8 * B + 2, C - 1, C, C + 1, 3 * C, 8 * C + 2, 768,   65536, 2 * C + 1, 4 * N, 5 * N - 1, 999};
  }
  /// The squares lose half an ulp of T each, as independent errors, and 4 ulp of the variance is far beyond their sum;
  /// the mean's error is that of a tree of T about the pivot, a few ulp of the deviation.
  static void expect_accurate(const Result& actual, const std::vector<T>& x, double deviation) {
    const Result expected = reference(x);
    const auto eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    EXPECT_LE(static_cast<double>(std::abs(actual.mean - expected.mean)), 4 * eps * deviation);
    if (x.size() == 1)
      EXPECT_EQ(actual.variance, 0);
    else
      EXPECT_LE(ulps_between<T>(actual.variance, expected.variance), 4);
  }
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(RowMoments, Scalars);

TYPED_TEST(RowMoments, AllSizesAndMeansWithinFourUlpOfTheVariance) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const std::size_t n : this->sizes())
      for (const double mean : {0.0, 100.0, 1e4, -1e6}) {
        SCOPED_TRACE("n = " + std::to_string(n) + ", mean " + std::to_string(mean));
        const auto x = support::random_values<T>(static_cast<Index>(n), unsigned(n), mean, 1);
        this->expect_accurate(result_of(row_state(x.data(), n)), x, 1);
      }
  });
}

TYPED_TEST(RowMoments, AllSizesInOneWord) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (std::size_t n = 1; n <= 6 * this->N + 1; ++n) {
      SCOPED_TRACE("n = " + std::to_string(n));
      const auto x = support::random_values<T>(static_cast<Index>(n), 3, 1, 1);
      this->expect_accurate(result_of(row_state(x.data(), n)), x, 1);
    }
  });
}

TYPED_TEST(RowMoments, TheSameBitsAtAnyAddress) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const std::size_t n : this->sizes()) {
      if (n > 5000) continue;
      const auto x = support::random_values<T>(static_cast<Index>(n), 1, 5, 1);
      const auto expected = bits_of(row_state(x.data(), n));
      // Surrounded by numbers that would show, at every offset in bytes of an element and some of a vector.
      std::vector<T> memory(n + 4 * this->N, T(1e30));
      for (std::size_t offset = 1; offset < 3 * this->N * sizeof(T); offset += offset < sizeof(T) ? 1 : sizeof(T)) {
        auto* bytes = reinterpret_cast<unsigned char*>(memory.data()) + offset;
        std::memcpy(bytes, x.data(), n * sizeof(T));
        EXPECT_TRUE(support::same_bits(bits_of(row_state(reinterpret_cast<const T*>(bytes), n)), expected))
            << "n = " << n << " at " << offset;
      }
    }
  });
}

TYPED_TEST(RowMoments, TheSameBitsOnEveryInstructionSetWithFma) {
  using T = TypeParam;
  for (const std::size_t n : this->sizes()) {
    const auto x = support::random_values<T>(static_cast<Index>(n), 1, 3, 2);
    std::vector<std::vector<StatisticOf<T>>> seen;
    at_each_level([&](Level level) {
      if (support::has_fma(level)) seen.push_back(bits_of(row_state(x.data(), n)));
    });
    for (const auto& bits : seen) EXPECT_TRUE(support::same_bits(bits, seen.front())) << "n = " << n;
  }
}

TYPED_TEST(RowMoments, AConstantIsItselfWithoutVariance) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const std::size_t n : this->sizes())
      for (const T value : {T(0), T(0.1), T(-7.7e5), T(1e-30), T(1e30), T(3)}) {
        const std::vector<T> x(n, value);
        const auto state = row_state(x.data(), n);
        EXPECT_EQ(state.mean(), StatisticOf<T>(value)) << "n = " << n;
        EXPECT_EQ(state.mean_lo(), 0) << "n = " << n;
        EXPECT_EQ(state.m2(), 0) << "n = " << n << " of " << value;
      }
  });
}

// The first elements, of which the pivot is the mean, lie far from the rest.
TYPED_TEST(RowMoments, ABadPivotIsReplaced) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const std::size_t n : {10 * this->N, this->B, this->C, 2 * this->C + 5, std::size_t{65536}})
      for (const double outlier : {50.0, 1e3}) {
        SCOPED_TRACE("n = " + std::to_string(n) + ", outlier " + std::to_string(outlier));
        auto x = support::random_values<T>(static_cast<Index>(n), 9, -20, 1);
        for (std::size_t i = 0; i < std::size_t(kPivotElements); ++i) x[i] = T(outlier + 0.01 * double(i));
        this->expect_accurate(result_of(row_state(x.data(), n)), x, std::sqrt(double(reference(x).variance)));
      }
  });
}

// Chunks whose means differ: each takes the running mean for its pivot.
TYPED_TEST(RowMoments, ADriftingMeanIsFollowed) {
  using T = TypeParam;
  at_each_level([this](Level) {
    auto x = support::random_values<T>(static_cast<Index>(8 * this->C), 9, 0, 1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(double(x[i]) + 1e3 * double(i / this->C));
    this->expect_accurate(result_of(row_state(x.data(), x.size())), x, std::sqrt(double(reference(x).variance)));
  });
}

TYPED_TEST(RowMoments, SlicesAddUp) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const std::size_t length : {std::size_t{1}, std::size_t{5}, this->N + 1, this->B + 3, this->C + 1}) {
      const std::size_t pitch = length + 3, slices = 9;
      auto memory = support::random_values<T>(static_cast<Index>(slices * pitch), 2, 10, 1);
      std::vector<T> x;
      for (std::size_t i = 0; i < slices; ++i) {
        x.insert(x.end(), memory.begin() + std::ptrdiff_t(i * pitch),
                 memory.begin() + std::ptrdiff_t(i * pitch + length));
        for (std::size_t gap = length; gap < pitch; ++gap) memory[i * pitch + gap] = T(1e30);
      }
      SCOPED_TRACE("length " + std::to_string(length));
      this->expect_accurate(result_of(row_state(memory.data(), length, slices, pitch)), x, 1);
    }
  });
}

TYPED_TEST(RowMoments, ANaNOrInfinitySpoilsItsOwnStatistic) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()})
      for (const std::size_t at : {std::size_t{0}, this->N + 3, this->C + 7}) {
        auto x = support::random_values<T>(static_cast<Index>(2 * this->C), 2);
        x[at] = bad;
        EXPECT_FALSE(std::isfinite(row_state(x.data(), x.size()).mean()));
        EXPECT_TRUE(std::isnan(row_state(x.data(), x.size()).variance()));
      }
  });
}

TYPED_TEST(RowMoments, SquareSumsAboutZero) {
  using T = TypeParam;
  at_each_level([this](Level) {
    for (const std::size_t n : this->sizes())
      for (const double mean : {0.0, 100.0}) {
        const auto x = support::random_values<T>(static_cast<Index>(n), 4, mean, 1);
        tensornorm::kernels::ScaledWelford<T, StatisticOf<T>> moments;
        run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
          row_moments<T, StatisticOf<T>, I>(x.data(), static_cast<Index>(n), false, moments);
        });
        long double expected = 0;
        for (const T value : x) expected += static_cast<long double>(value) * value;
        EXPECT_LE((ulps_between<T>(moments.state.m2(), expected)), 4) << "n = " << n << ", mean " << mean;
      }
  });
}

TEST(RowMomentsOfAnyNumber, LongDoubleGoesThroughTheSameKernel) {
  const auto doubles = support::random_values<double>(5000, 1, 3, 2);
  const std::vector<long double> x(doubles.begin(), doubles.end());
  const Result expected = reference(x), actual = result_of(row_state(x.data(), x.size()));
  // One lane: 256 numbers in a row before they are folded.
  EXPECT_NEAR(double(actual.mean - expected.mean), 0, 1e-17);
  EXPECT_NEAR(double(actual.variance / expected.variance - 1), 0, 1e-17);
}

// ---- columns ----

template <class T>
class ColumnMoments : public testing::Test {
 protected:
  using S = StatisticOf<T>;
  static constexpr Index N = virtual_width<T>;

  struct Sums {
    std::vector<S> sum, squares;
  };
  /// Starts from `before` in every sum, so that what is added is seen to be added; `past`: elements from a line to the tile, which decide
  /// where vectors begin.
  static Sums sums_of(const T* x, Index rows, Index stride, Index width, const std::vector<T>& pivot, S before = S(0), Index past = 0) {
    const auto n = static_cast<std::size_t>(width);
    constexpr std::size_t padding = 16;  // whole vectors are written
    Sums result{std::vector<S>(n + padding, before), std::vector<S>(n + padding, before)};
    std::vector<T> plain(n + 4 * padding), centered(n + 4 * padding);
    const auto at_place = [&](std::vector<T>& tile) { return tile.data() + elements_to_alignment(tile.data(), kLine<T>) + past; };
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      column_moments<true, T, S, I>(x, rows, stride, width, pivot.data(), TileSums<T>{at_place(plain), at_place(centered)},
                                    result.sum.data(), result.squares.data());
    });
    for (auto* sums : {&result.sum, &result.squares}) {
      for (std::size_t c = n; c < n + padding; ++c) EXPECT_EQ((*sums)[c], before) << "the padding takes part";
      sums->resize(n);
    }
    if constexpr (!std::is_same_v<T, S>) {  // elsewhere the sums' rests
      EXPECT_EQ(plain, std::vector<T>(plain.size()));
      EXPECT_EQ(centered, std::vector<T>(plain.size()));
    }
    return result;
  }
  /// All widths about the vectors of every instruction set.
  static std::vector<Index> widths() {
    std::vector<Index> result;
    for (Index width = 1; width <= 4 * N + 1; ++width) result.push_back(width);
    result.push_back(8 * N + 2);
    return result;
  }
  static const std::vector<Index>& rows() {
    static const std::vector<Index> result{1, 2, 3, kTileRows - 1, kTileRows, kTileRows + 1, 5 * kTileRows + 3, 1000};
    return result;
  }
};
TYPED_TEST_SUITE(ColumnMoments, Scalars);

TYPED_TEST(ColumnMoments, AllWidthsRowsAndStrides) {
  using T = TypeParam;
  using Sum = StatisticOf<T>;
  at_each_level([this](Level) {
    for (const Index width : this->widths())
      for (const Index rows : this->rows()) {
        if (rows == 1000 && width % 7 != 3) continue;
        const Index stride = width + width % 3;
        // No more memory than there are elements: a sanitizer sees a read beyond.
        auto x = support::random_values<T>((rows - 1) * stride + width, 1, 3, 1);
        for (Index r = 0; r + 1 < rows; ++r)
          for (Index c = width; c < stride; ++c) x[static_cast<std::size_t>(r * stride + c)] = T(1e30);
        const auto pivot = support::random_values<T>(width, 2, 3, 0.1);
        const auto sums = this->sums_of(x.data(), rows, stride, width, pivot, Sum(0.5), (width + rows) % kLine<T>);
        for (std::size_t c = 0; c < static_cast<std::size_t>(width); ++c) {
          long double sum = 0, squares = 0, size = 0;
          for (Index r = 0; r < rows; ++r) {
            const long double d = static_cast<long double>(x[static_cast<std::size_t>(r * stride) + c]) - pivot[c];
            sum += d;
            size += std::abs(d);
            squares += d * d;
          }
          // Each difference rounds once, each tile's sum of 16 a few times more, all in T.
          const auto eps = static_cast<long double>(std::numeric_limits<T>::epsilon());
          ASSERT_NEAR(double(sums.sum[c] - Sum(0.5)), double(sum), double(4 * eps * (size + 1)))
              << width << " x " << rows;
          ASSERT_NEAR(double(sums.squares[c] - Sum(0.5)), double(squares), double(4 * eps * (squares + 1)));
        }
      }
  });
}

// What a column's sums are depends on nothing beside it: not on its position, the width, the tile's place, or the instruction set.
TYPED_TEST(ColumnMoments, AColumnIsTheSameWhereverItStands) {
  using T = TypeParam;
  constexpr Index wide = 6 * virtual_width<T> + 5, rows = 5 * kTileRows + 3;
  const auto x = support::random_values<T>(rows * wide, 1, 3, 1);
  const auto pivot = support::random_values<T>(wide, 2, 3, 0.1);
  std::vector<StatisticOf<T>> first_level;
  at_each_level([&](Level level) {
    const auto all = this->sums_of(x.data(), rows, wide, wide, pivot);
    for (const Index width : this->widths())
      for (Index from = 0; from + width <= wide; from += 5) {
        const std::vector<T> some_pivots(pivot.begin() + from, pivot.begin() + from + width);
        const auto some = this->sums_of(x.data() + from, rows, wide, width, some_pivots, 0, (width + from) % kLine<T>);
        const auto cut = [&](const auto& sums) {
          return std::vector(sums.begin() + from, sums.begin() + from + width);
        };
        ASSERT_TRUE(support::same_bits(some.sum, cut(all.sum))) << width << " from " << from;
        ASSERT_TRUE(support::same_bits(some.squares, cut(all.squares))) << width << " from " << from;
      }
    if (!support::has_fma(level)) return;
    auto both = all.sum;
    both.insert(both.end(), all.squares.begin(), all.squares.end());
    if (first_level.empty()) first_level = both;
    EXPECT_TRUE(support::same_bits(both, first_level));
  });
}

TYPED_TEST(ColumnMoments, ANaNStaysInItsColumn) {
  using T = TypeParam;
  constexpr Index rows = 20;
  at_each_level([this](Level) {
    for (const Index width : this->widths()) {
      auto x = support::random_values<T>(rows * width, 1);
      const std::vector<T> pivot(static_cast<std::size_t>(width), T(0.5));
      const auto clean = this->sums_of(x.data(), rows, width, width, pivot);
      const auto at = static_cast<std::size_t>(width / 2);
      x[7 * static_cast<std::size_t>(width) + at] = std::numeric_limits<T>::quiet_NaN();
      auto spoilt = this->sums_of(x.data(), rows, width, width, pivot);
      EXPECT_TRUE(std::isnan(spoilt.sum[at]) && std::isnan(spoilt.squares[at]));
      spoilt.sum[at] = clean.sum[at];
      spoilt.squares[at] = clean.squares[at];
      EXPECT_TRUE(support::same_bits(spoilt.sum, clean.sum)) << width;
      EXPECT_TRUE(support::same_bits(spoilt.squares, clean.squares)) << width;
    }
  });
}

// Products of numbers this small are rounded: one instruction set must not fuse them with what they are added to where another does not.
TEST(FirstPivot, OfDenormalsIsTheSameWhereverProductsAreFused) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    auto x = support::random_values<float>(16, seed);
    for (float& value : x) value *= 1e-38f;
    std::vector<float> first_level;
    at_each_level([&](Level level) {
      if (!support::has_fma(level)) return;
      std::vector<float> pivot(1);
      run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA { pivot[0] = first_pivot<float, I>(x.data(), 16); });
      if (first_level.empty()) first_level = pivot;
      EXPECT_TRUE(support::same_bits(pivot, first_level)) << "seed " << seed;
    });
  }
}

template <class T>
class FirstPivotOf : public testing::Test {
 public:
  static T pivot_of(const std::vector<T>& x) {
    T pivot = 0;
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA { pivot = first_pivot<T, I>(x.data(), static_cast<Index>(x.size())); });
    return pivot;
  }
};
using PivotTypes = testing::Types<float, double, long double>;
TYPED_TEST_SUITE(FirstPivotOf, PivotTypes);

// A pivot near the first of a few elements would be a bad one more often than not, and all of them be added up again.
TYPED_TEST(FirstPivotOf, AFewElementsIsTheMeanOfAPowerOfTwoOfThem) {
  using T = TypeParam;
  at_each_level([](Level) {
    for (Index n = 1; n <= 40; ++n) {
      std::vector<T> x(static_cast<std::size_t>(n));
      for (Index i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = static_cast<T>(i * i);
      const Index count = n >= 16 ? 16 : n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
      const T sum = static_cast<T>((count - 1) * count * (2 * count - 1) / 6);
      EXPECT_EQ(TestFixture::pivot_of(x), sum / static_cast<T>(count)) << n;
    }
  });
}

TYPED_TEST(FirstPivotOf, EqualElementsIsOneOfThem) {
  using T = TypeParam;
  at_each_level([](Level) {
    for (const Index n : {1, 2, 5, 8, 15, 16, 17, 40})
      for (int i = 1; i < 200; ++i) {
        const T value = T(1) / static_cast<T>(i);
        EXPECT_EQ(TestFixture::pivot_of(std::vector<T>(static_cast<std::size_t>(n), value)), value) << n;
      }
  });
}

}  // namespace
}  // namespace tensornorm::kernels
