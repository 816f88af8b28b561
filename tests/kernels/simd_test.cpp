// SPDX-License-Identifier: MIT
// Lanes of every hardware width against loops over scalars, and the reduction tree against itself written out.
#include <gtest/gtest.h>

#include <tensornorm/kernels/lane_sums.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/sums.hpp>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

using support::at_each_level;
using support::run_in_instruction_set;
using support::same_bits;

/// Lane i and lane i + n / 2 are added until one is left: the order promised for every instruction set.
template <class T>
T tree(std::vector<T> lanes) {
  for (std::size_t half = lanes.size() / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] = lanes[i] + lanes[i + half];
  return lanes[0];
}

template <class T>
class Simd : public testing::Test {
 protected:
  static constexpr int N = virtual_width<T>;
  using Values = std::vector<T>;

  /// N values, each group of bits of them different, some of them special.
  static Values values(unsigned seed) {
    Values result = support::random_values<T>(N, seed, 0.1, 100.0);
    result[1] = T(-0.0);
    result[2] = T(0.0);
    return result;
  }
  /// f.operator()<L>() once with one vector of the hardware, once with the virtual lanes made of several, and check(L::width) after each: what f
  /// calls, down to the last function, is compiled for each L and instruction set.
  template <class F, class Check>
  static void for_both_lanes(const F& f, const Check& check) {
    int width = 0;
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      f.template operator()<HardwareLanes<T, I>>();
      width = HardwareLanes<T, I>::width;
    });
    check(width);
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA { f.template operator()<VirtualLanes<T, I>>(); });
    check(N);
  }
  static void expect_first(int n, const Values& actual, const Values& expected) {
    EXPECT_TRUE(same_bits(Values(actual.begin(), actual.begin() + n), Values(expected.begin(), expected.begin() + n)));
  }
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Simd, Scalars);

TYPED_TEST(Simd, HardwareLanesFillOneVector) {
  at_each_level([](Level level) {
    int width = 0, virtual_lanes = 0;
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      width = HardwareLanes<TypeParam, I>::width;
      virtual_lanes = VirtualLanes<TypeParam, I>::width;
    });
    EXPECT_EQ(width, (16 << static_cast<int>(std::max(level, kOwnLevel))) / static_cast<int>(sizeof(TypeParam)));
    EXPECT_EQ(virtual_lanes, virtual_width<TypeParam>);
  });
}

TYPED_TEST(Simd, QuotientsAndRootsAreRoundedOnce) {
  using T = TypeParam;
  at_each_level([this](Level) {
    auto a = this->values(1), b = this->values(2);
    for (T& value : a) value = std::abs(value);  // no root of them is a NaN, whose sign is anybody's
    a[0] = T(-0.0);
    b[1] = T(3);
    b[2] = std::numeric_limits<T>::infinity();
    a[3] = std::numeric_limits<T>::max();
    a[4] = std::numeric_limits<T>::denorm_min();
    std::vector<T> quotient(this->N), root(this->N), positive(this->N), fused_sum(this->N);
    const auto compute = [&]<class L>() TENSORNORM_INLINE_LAMBDA {
      const L x = L::load(a.data()), y = L::load(b.data());
      (x / y).store(quotient.data());
      sqrt(x).store(root.data());
      not_below_zero(y).store(positive.data());
      fused(x, y, x).store(fused_sum.data());
    };
    this->for_both_lanes(compute, [&](int width) {
      const auto expect = [&](const std::vector<T>& actual, auto f) {
        std::vector<T> expected;
        for (std::size_t i = 0; i < a.size(); ++i) expected.push_back(f(a[i], b[i]));
        this->expect_first(width, actual, expected);
      };
      expect(quotient, [](T x, T y) { return x / y; });
      expect(root, [](T x, T) { return std::sqrt(x); });
      expect(positive, [](T, T y) { return y < 0 ? T(0) : y; });
      expect(fused_sum, [](T x, T y) { return std::fma(x, y, x); });  // on every instruction set
    });
  });
}

TYPED_TEST(Simd, QuotientsByZeroAreZero) {
  using T = TypeParam;
  at_each_level([this](Level) {
    auto x = this->values(1);  // zeros of both signs among them
    std::vector<T> expected, inverse(this->N);
    for (const T value : x) expected.push_back(value == 0 ? T(0) : T(1) / value);
    std::feclearexcept(FE_ALL_EXCEPT);
    const auto compute = [&]<class L>() TENSORNORM_INLINE_LAMBDA { quotient_or_zero(L(T(1)), L::load(x.data())).store(inverse.data()); };
    this->for_both_lanes(compute, [&](int width) {
      EXPECT_EQ(std::fetestexcept(FE_DIVBYZERO | FE_INVALID), 0);
      this->expect_first(width, inverse, expected);
    });
  });
}

TYPED_TEST(Simd, QuotientsByACountAreThoseOfADivision) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  at_each_level([this](Level) {
    auto x = this->values(1);
    x[3] = Limits::max();
    x[4] = Limits::denorm_min() * 5;
    x[5] = Limits::min();
    x[6] = Limits::infinity();
    constexpr Index most = std::numeric_limits<Index>::max() / 2 + 1;
    for (const Index n : std::initializer_list<Index>{1, 2, 3, 4, 7, 8, 10, 16, 31, 32, 768, 1024, 1 << 24, most / 2, most}) {
      std::vector<T> expected, quotient(this->N);
      for (const T value : x) {
        expected.push_back(value / T(n));
        EXPECT_TRUE(same_bits(std::vector{divided(value, n)}, std::vector{value / T(n)})) << value << " / " << n;
      }
      this->for_both_lanes([&]<class L>() TENSORNORM_INLINE_LAMBDA { divided(L::load(x.data()), n).store(quotient.data()); },
                           [&](int width) { this->expect_first(width, quotient, expected); });
    }
  });
}

/// Numbers between 1 and 4 whose roots lie next to the middle between two doubles: the squares of m + 1/2 less so small a k that, with a quarter,
/// they are whole multiples of what doubles of their size are. 2-adic roots of 1 - 4 k are 2 m + 1.
std::vector<double> with_roots_near_ties() {
  std::vector<double> found;
  for (const int digits : {52, 53})
    for (int k = -64; k <= 64; k += 2) {
      const std::uint64_t square = 1 - 4 * static_cast<std::uint64_t>(k), most = std::uint64_t{1} << (digits + 2);
      std::vector<std::uint64_t> roots{1, 3, 5, 7};  // modulo 8, of which each odd number is one
      for (std::uint64_t modulus = 16; modulus <= most; modulus *= 2) {
        std::vector<std::uint64_t> lifted;
        for (const std::uint64_t root : roots)
          for (const std::uint64_t step : {std::uint64_t{0}, modulus / 4, modulus / 2, modulus / 4 * 3}) {
            const std::uint64_t r = (root + step) % modulus;
            if ((r * r - square) % modulus == 0 && std::find(lifted.begin(), lifted.end(), r) == lifted.end()) lifted.push_back(r);
          }
        roots = lifted;
      }
      for (const std::uint64_t root : roots)
        for (std::uint64_t m = (root - 1) / 2; m < std::uint64_t{1} << 53; m += most / 2) {
          const double middle = double(m), x = std::fma(middle, middle, middle), scale = std::ldexp(1.0, -104);
          if (m >= std::uint64_t{1} << 52) found.push_back(x * scale);
        }
    }
  return found;
}

/// Integers of 53 bits the inverses of which lie next to such a middle: 2^106 is 1 or 2 away from a multiple of them.
std::vector<double> with_inverses_near_ties() {
  const std::vector<std::uint64_t> found{9007199254740991, 9007199120523265, 4526458347800502, 4543885306550786, 4619723575576654, 4663060627120798,
                                         4696637379339158, 4732570949897334, 5017593869129758, 5813097674954626, 6258053705355746, 6762858185200722};
  std::vector<double> result;
  for (const std::uint64_t b : found) {
    std::uint64_t rest = 1;
    for (int i = 0; i < 106; ++i) rest = 2 * rest % b;
    EXPECT_LE(std::min(rest, b - rest), 2U) << b;
    result.push_back(double(b));
  }
  return result;
}

TEST(SimdRoots, OfTheInverseAreRoundedAsQuotientAndRoot) {
  std::vector<double> x = support::random_values<double>(1 << 16, 1, 2.5, 1.499);
  const auto add_around = [&](double value) {
    for (const double to : {0.0, std::numeric_limits<double>::infinity()}) {
      double at = value;
      for (int i = 0; i < 4; ++i, at = std::nextafter(at, to)) x.push_back(at);
    }
  };
  const std::vector<double> roots = with_roots_near_ties();
  EXPECT_GT(roots.size(), 50U);
  x.insert(x.end(), roots.begin(), roots.end());
  for (const double s : with_inverses_near_ties()) add_around(s * s);
  for (const double power : {1.0, 2.0, 4.0}) add_around(power);
  for (const int exponent : {-1074, -1000, -901, -899, -60, 0, 1, 62, 899, 901, 1020}) {
    std::vector<double> scaled, expected;
    for (const double value : x) scaled.push_back(std::ldexp(value, exponent));
    for (const double value : {0.0, std::numeric_limits<double>::infinity(), 1e-300, 3.0}) scaled.push_back(value);
    scaled.resize((scaled.size() + 7) / 8 * 8, 2.0);
    for (const double value : scaled) {
      const volatile double root = std::sqrt(value);  // rounded, where registers hold more
      expected.push_back(value == 0 ? 0 : 1 / root);
    }
    at_each_level([&](Level) {
      std::vector<double> actual(scaled.size());
      run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        using L = HardwareLanes<double, I>;
        for (std::size_t i = 0; i < scaled.size(); i += std::size_t(L::width)) reciprocal_root(L::load(&scaled[i])).store(&actual[i]);
      });
      EXPECT_TRUE(same_bits(actual, expected)) << "exponent " << exponent;
    });
  }
}

TEST(SimdRoots, RaiseNoExceptionAndKeepNaN) {
  at_each_level([](Level) {
    const double infinity = std::numeric_limits<double>::infinity();
    const std::vector<double> x{0, 1, infinity, 4, 1e-310, 1, 1, std::numeric_limits<double>::quiet_NaN(),  // and of ordinary ones
                                0x1p-900, 0x1p900, 1, 0x1.fffffffffffffp-1, 4, 1e-200, 1e200, 3};
    std::vector<double> actual(x.size());
    std::feclearexcept(FE_ALL_EXCEPT);
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      using L = HardwareLanes<double, I>;
      for (std::size_t i = 0; i < x.size(); i += std::size_t(L::width)) reciprocal_root(L::load(&x[i])).store(&actual[i]);
    });
    EXPECT_EQ(std::fetestexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW), 0);
    EXPECT_EQ(actual[0], 0);
    EXPECT_EQ(actual[2], 0);
    EXPECT_EQ(actual[3], 0.5);
    EXPECT_TRUE(std::isnan(actual[7]));
  });
}

TEST(SimdRounded, DoublesBecomeAVectorOfFloats) {
  const std::vector<double> x = support::random_values<double>(virtual_width<float>, 3, 0.1, 1e30);
  const std::vector<float> expected(x.begin(), x.end());
  at_each_level([&](Level) {
    std::vector<float> actual(expected.size());
    std::vector<double> same(x.size());
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      using L = HardwareLanes<float, I>;
      using F = Lanes<double, L::width, hardware_width<double, I>>;
      for (std::size_t i = 0; i < x.size(); i += std::size_t(L::width)) {
        rounded<L>(F::load(&x[i])).store(&actual[i]);
        rounded<F>(F::load(&x[i])).store(&same[i]);
      }
    });
    EXPECT_TRUE(same_bits(actual, expected));
    EXPECT_TRUE(same_bits(same, x));
  });
}

TYPED_TEST(Simd, LoadsAndStoresAnywhere) {
  using T = TypeParam;
  at_each_level([this](Level) {
    const auto from = this->values(1);
    for (std::size_t offset = 0; offset < 2 * sizeof(T); ++offset) {
      std::vector<unsigned char> source((this->N + 2) * sizeof(T)), target(source.size());
      std::memcpy(source.data() + offset, from.data(), from.size() * sizeof(T));
      const auto copy = [&]<class L>() TENSORNORM_INLINE_LAMBDA {
        L::load(reinterpret_cast<const T*>(source.data() + offset)).store(reinterpret_cast<T*>(target.data() + offset));
      };
      this->for_both_lanes(copy, [&](int width) {
        std::vector<T> stored(this->N);
        std::memcpy(stored.data(), target.data() + offset, stored.size() * sizeof(T));
        this->expect_first(width, stored, from);
      });
    }
  });
}

TYPED_TEST(Simd, BroadcastsEveryBit) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  at_each_level([this](Level) {
    for (const T value : {T(1.5), T(0.0), T(-0.0), Limits::infinity(), -Limits::max(), Limits::denorm_min()}) {
      std::vector<T> lanes(this->N);
      this->for_both_lanes([&]<class L>() TENSORNORM_INLINE_LAMBDA { L(value).store(lanes.data()); },
                           [&](int width) { this->expect_first(width, lanes, std::vector<T>(this->N, value)); });
    }
  });
}

TYPED_TEST(Simd, AddsSubtractsAndMultipliesAsScalarsDo) {
  using T = TypeParam;
  at_each_level([this](Level level) {
    const auto a = this->values(1), b = this->values(2), c = this->values(3);
    std::vector<T> sum(this->N), difference(this->N), product(this->N), fused(this->N);
    const auto compute = [&]<class L>() TENSORNORM_INLINE_LAMBDA {
      const L x = L::load(a.data()), y = L::load(b.data());
      (x + y).store(sum.data());
      (x - y).store(difference.data());
      (x * y).store(product.data());
      L z = L::load(c.data());
      z.fma(x, y);
      z.store(fused.data());
    };
    this->for_both_lanes(compute, [&](int width) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
        EXPECT_EQ(sum[i], a[i] + b[i]);
        EXPECT_EQ(difference[i], a[i] - b[i]);
        EXPECT_EQ(product[i], a[i] * b[i]);
        const T rounded_once = std::fma(a[i], b[i], c[i]);
        if (support::has_fma(level)) EXPECT_EQ(fused[i], rounded_once);
        // Rounded twice: half an ulp of the product and half an ulp of the sum.
        else
          EXPECT_NEAR(fused[i], rounded_once,
                      std::numeric_limits<T>::epsilon() * (std::abs(product[i]) + std::abs(rounded_once)));
      }
    });
  });
}

TYPED_TEST(Simd, TheReductionTreeIsTheSameOnEveryInstructionSet) {
  using T = TypeParam;
  for (unsigned seed = 1; seed < 50; ++seed) {
    const auto lanes = support::random_values<T>(this->N, seed, 1e3, 1e3);
    const std::vector<T> expected{tree(lanes)};
    at_each_level([&](Level) {
      std::vector<T> sum(1);
      run_in_instruction_set([&]<class I>()
                                 TENSORNORM_INLINE_LAMBDA { sum[0] = VirtualLanes<T, I>::load(lanes.data()).sum(); });
      EXPECT_TRUE(same_bits(sum, expected)) << seed;
    });
  }
}

// Rows taken together and the rest of them, in their own type and in double.
TYPED_TEST(Simd, SumsOfRowsAreThoseOfEach) {
  using T = TypeParam;
  constexpr std::size_t n = Simd<T>::N;
  T rows[kTogether][n];
  for (Index count = 1; count <= kTogether; ++count) {
    std::vector<T> expected;
    std::vector<double> expected_wide;
    for (Index i = 0; i < count; ++i) {
      const auto lanes = support::random_values<T>(n, unsigned(100 * count + i), 1e3, 1e3);
      std::copy(lanes.begin(), lanes.end(), rows[i]);
      expected.push_back(tree(lanes));
      expected_wide.push_back(tree(std::vector<double>(lanes.begin(), lanes.end())));
    }
    at_each_level([&](Level) {
      std::vector<T> sums(std::size_t(count) + 1, T(7));
      std::vector<double> wide(sums.size(), 7);
      run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        sums_of_rows<VirtualLanes<T, I>>(rows, count, sums.data());
        sums_of_rows<FoldLanes<T, double, I>>(rows, count, wide.data());
      });
      EXPECT_TRUE(sums.back() == T(7) && wide.back() == 7) << count;
      sums.pop_back();
      wide.pop_back();
      EXPECT_TRUE(same_bits(sums, expected)) << count;
      EXPECT_TRUE(same_bits(wide, expected_wide)) << count;
    });
  }
}

TYPED_TEST(Simd, IsWithinAsksForEveryLane) {
  using T = TypeParam;
  at_each_level([](Level) {
    std::vector<char> wrong;
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      using L = HardwareLanes<T, I>;
      if constexpr (L::width > 1) {
        const L least(T(-2)), most(T(3));
        T values[L::width];
        const auto is = [&]() TENSORNORM_INLINE_LAMBDA { return L::load(values).is_within(least, most); };
        for (int lane = 0; lane < L::width; ++lane) {
          std::fill(std::begin(values), std::end(values), T(1));
          for (const T inside : {T(-2), T(-0.0), T(3)}) {
            values[lane] = inside;
            if (!is()) wrong.push_back('i');
          }
          constexpr T inf = std::numeric_limits<T>::infinity();
          for (const T outside : {std::nextafter(T(-2), T(-3)), std::nextafter(T(3), T(4)), inf, -inf, std::numeric_limits<T>::quiet_NaN()}) {
            values[lane] = outside;
            if (is()) wrong.push_back('o');
          }
        }
      }
    });
    EXPECT_EQ(wrong.size(), 0U);
  });
}

TYPED_TEST(Simd, ZeroBelowAndZeroFromClearWhateverIsThere) {
  using T = TypeParam;
  at_each_level([this](Level) {
    auto from = this->values(1);
    from[0] = -std::numeric_limits<T>::infinity();
    from[3] = std::numeric_limits<T>::quiet_NaN();
    for (int first = -1; first <= this->N; ++first) {
      std::vector<T> lanes(this->N);
      auto expected = from;
      const auto expect = [&](int width) { this->expect_first(width, lanes, expected); };
      for (int i = 0; i < first; ++i) expected[static_cast<std::size_t>(i)] = T(0.0);
      this->for_both_lanes([&]<class L>() TENSORNORM_INLINE_LAMBDA { L::load(from.data()).zero_below(first).store(lanes.data()); }, expect);
      expected = from;
      for (int i = std::max(first, 0); i < this->N; ++i) expected[static_cast<std::size_t>(i)] = T(0.0);
      this->for_both_lanes([&]<class L>() TENSORNORM_INLINE_LAMBDA { L::load(from.data()).zero_from(first).store(lanes.data()); }, expect);
    }
  });
}

TYPED_TEST(Simd, StreamsToAlignedMemory) {
  using T = TypeParam;
  at_each_level([this](Level) {
    const auto from = this->values(1);
    alignas(64) T to[virtual_width<T>] = {};
    const auto stream = [&]<class L>() TENSORNORM_INLINE_LAMBDA {
      L::load(from.data()).template store<Store::streaming>(to);
      fence();
    };
    this->for_both_lanes(stream, [&](int width) { this->expect_first(width, std::vector<T>(to, to + this->N), from); });
  });
}

TYPED_TEST(Simd, AFewElementsAreLoadedAndStoredAndNoMore) {
  using T = TypeParam;
  at_each_level([this](Level) {
    const auto from = this->values(1);
    for (Index n = 0; n < this->N; ++n) {
      const auto count = static_cast<std::size_t>(n);
      // As much memory as there are elements: a sanitizer sees a read beyond, but for those by masks, which g++ has.
      const std::vector<T> few(from.begin(), from.begin() + n);
      std::vector<T> loaded(this->N), loaded_last(this->N), stored(count), stored_last(count);
      run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        using L = VirtualLanes<T, I>;
        load_few<L, T>(few.data(), n, T(7)).store(loaded.data());
        if (n > 0) LastLoader<L, T>{n}(few.data() - (this->N - n)).store(loaded_last.data());
        store_few(L::load(from.data()), stored.data(), n);
        if (n > 0) store_few(L::load(from.data()), stored_last.data(), n, this->N - n);
      });
      std::vector<T> expected(this->N, T(7));
      std::copy(few.begin(), few.end(), expected.begin());
      EXPECT_TRUE(same_bits(loaded, expected)) << n;
      std::vector<T> expected_last(this->N);
      std::copy(few.begin(), few.end(), expected_last.end() - n);
      EXPECT_TRUE(same_bits(loaded_last, expected_last)) << n;
      EXPECT_TRUE(same_bits(stored, few)) << n;
      EXPECT_TRUE(same_bits(stored_last, std::vector<T>(from.end() - n, from.end()))) << n;
    }
  });
}

TYPED_TEST(Simd, AnyPartOfAVectorIsLoadedAndStored) {
  using T = TypeParam;
  at_each_level([this](Level) {
    const auto from = this->values(1);
    for (Index first = 0; first <= this->N; ++first)
      for (Index end = first; end <= this->N; ++end) {
        std::vector<T> loaded(this->N), expected(this->N, T(7)), stored = expected;
        run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
          load_part<VirtualLanes<T, I>, T>(from.data(), first, end, T(7)).store(loaded.data());
          VirtualLanes<T, I>::load(from.data()).store_part(stored.data(), int(first), int(end));
        });
        std::copy(from.begin() + first, from.begin() + end, expected.begin() + first);
        EXPECT_TRUE(same_bits(loaded, expected)) << first << ' ' << end;
        EXPECT_TRUE(same_bits(stored, expected)) << first << ' ' << end;
      }
  });
}

TYPED_TEST(Simd, CopiesUpToSixteenElements) {
  using T = TypeParam;
  const auto from = support::random_values<T>(16, 1);
  for (std::size_t n = 0; n <= 16; ++n) {
    std::vector<T> to(18, T(7));
    copy_few<16>(to.data() + 1, from.data(), static_cast<Index>(n));
    std::vector<T> expected(18, T(7));
    std::copy_n(from.begin(), n, expected.begin() + 1);
    EXPECT_TRUE(same_bits(to, expected)) << n;
  }
}

TEST(SimdWidening, DoublesAreLoadedFromFloats) {
  at_each_level([](Level) {
    const auto narrow = support::random_values<float>(16, 1);
    std::vector<double> wide(16), few(8);
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      FoldLanes<float, double, I>::load(narrow.data()).store(wide.data());
      load_few<VirtualLanes<double, I>, double>(narrow.data(), 3, -1.0).store(few.data());
    });
    EXPECT_TRUE(same_bits(wide, std::vector<double>(narrow.begin(), narrow.end())));
    EXPECT_TRUE(same_bits(few, {double(narrow[0]), double(narrow[1]), double(narrow[2]), -1, -1, -1, -1, -1}));
  });
}

TEST(SimdScalar, AnyNumberTypeIsOneLane) {
  using L = Lanes<long double, 1, 1>;
  static_assert(std::is_same_v<VirtualLanes<long double, Isa<64>>, L>);
  const long double x = 3.0L, y = 0.5L;
  L sum(1.0L);
  sum.fma(L::load(&x), L::load(&y));
  EXPECT_EQ(sum.sum(), 2.5L);
  EXPECT_EQ((L(x) + L(y)).v, 3.5L);
  EXPECT_EQ((L(x) - L(y)).v, 2.5L);
  EXPECT_EQ((L(x) * L(y)).v, 1.5L);
  EXPECT_EQ(L(x).zero_below(1).v, 0.0L);
  EXPECT_EQ(L(x).zero_below(0).v, 3.0L);
  EXPECT_EQ(L(x).zero_from(1).v, 3.0L);
  EXPECT_EQ(L(x).zero_from(0).v, 0.0L);
  float narrow = 0;
  L(x).store(&narrow);
  EXPECT_EQ(narrow, 3.0F);
}

TEST(LoadOne, ReadsAtAnyAddress) {
  unsigned char bytes[16] = {};
  const double value = -123.25;
  for (std::size_t offset = 0; offset < 8; ++offset) {
    std::memcpy(bytes + offset, &value, sizeof value);
    EXPECT_EQ((load_one<long double>(reinterpret_cast<const double*>(bytes + offset))), -123.25L);
  }
}

}  // namespace
}  // namespace tensornorm::kernels
