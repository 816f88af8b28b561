// SPDX-License-Identifier: MIT
// Elements of 16 bits as lanes of float, against Eigen's own conversions of one number.
#include <gtest/gtest.h>

#include <tensornorm/kernels/fold.hpp>
#include <tensornorm/kernels/load.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

using support::at_each_level;
using support::run_in_instruction_set;

template <class E>
class Conversions : public testing::Test {
 protected:
  static std::uint16_t bits(E element) { return std::bit_cast<std::uint16_t>(element); }
  static E from_bits(unsigned pattern) { return std::bit_cast<E>(static_cast<std::uint16_t>(pattern)); }
  static bool is_nan(E element) { return std::isnan(static_cast<float>(element)); }

  /// Loaded into lanes of float, and stored from them.
  template <class To, class From>
  static std::vector<To> converted(const std::vector<From>& from) {
    std::vector<To> result(from.size());
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      using L = HardwareLanes<float, I>;
      for (std::size_t i = 0; i < from.size(); i += L::width) L::load(from.data() + i).store(result.data() + i);
    });
    return result;
  }
  static std::vector<float> widened(const std::vector<E>& elements) { return converted<float>(elements); }
  static std::vector<E> narrowed(const std::vector<float>& numbers) { return converted<E>(numbers); }
  /// Each of the numbers is rounded as Eigen rounds it.
  static void expect_rounded(const std::vector<float>& numbers) {
    const auto actual = narrowed(numbers);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (std::isnan(numbers[i])) continue;
      const bool right = bits(actual[i]) == bits(E(numbers[i]));
      if (!right && wrong++ == 0)
        ADD_FAILURE() << std::hexfloat << numbers[i] << " became " << std::hex << bits(actual[i]) << ", expected "
                      << bits(E(numbers[i]));
    }
    EXPECT_EQ(wrong, 0U);
  }
  static std::vector<E> all_elements() {
    std::vector<E> result;
    for (unsigned pattern = 0; pattern < 0x10000; ++pattern) result.push_back(from_bits(pattern));
    return result;
  }
};
using NarrowScalars = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(Conversions, NarrowScalars);

TYPED_TEST(Conversions, EveryElementIsWidenedExactly) {
  at_each_level([this](Level) {
    const auto elements = this->all_elements();
    const auto floats = this->widened(elements);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const auto expected = static_cast<float>(elements[i]);
      if (std::isnan(expected))
        EXPECT_TRUE(std::isnan(floats[i])) << i;
      else
        EXPECT_EQ(std::bit_cast<std::uint32_t>(floats[i]), std::bit_cast<std::uint32_t>(expected)) << i;
    }
  });
}

TYPED_TEST(Conversions, EveryElementComesBack) {
  at_each_level([this](Level) {
    const auto elements = this->all_elements();
    const auto back = this->narrowed(this->widened(elements));
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (this->is_nan(elements[i]))
        EXPECT_TRUE(this->is_nan(back[i])) << i;
      else
        EXPECT_EQ(this->bits(back[i]), i);
    }
  });
}

// Every float was compared once, with g++ 12 and clang 14 at each level; these are where another rounding would show: all
// 2^16 upper halves, each with the lower halves around the ties of either type.
TYPED_TEST(Conversions, FloatsAreRoundedToNearestTiesToEven) {
  const unsigned lower_halves[] = {0,      1,      0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x2fff, 0x3000,
                                   0x3001, 0x5000, 0x7000, 0x7fff, 0x8000, 0x8001, 0x9000, 0xf000, 0xffff};
  std::vector<float> numbers;
  for (unsigned upper = 0; upper < 0x10000; ++upper)
    for (const unsigned lower : lower_halves) numbers.push_back(std::bit_cast<float>(upper << 16 | lower));
  at_each_level([&](Level) { this->expect_rounded(numbers); });
}

TYPED_TEST(Conversions, FloatsOverTheWholeRange) {
  std::vector<float> numbers;
  for (std::uint64_t pattern = 0; pattern < (std::uint64_t{1} << 32); pattern += 4093)
    numbers.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(pattern)));
  while (numbers.size() % 16 != 0) numbers.push_back(0);
  at_each_level([&](Level) { this->expect_rounded(numbers); });
}

TYPED_TEST(Conversions, SpecialNumbers) {
  using E = TypeParam;
  const auto least = static_cast<float>(this->from_bits(1));  // a denormal
  const auto most = static_cast<float>(this->from_bits(std::is_same_v<E, Eigen::half> ? 0x7bff : 0x7f7f));
  const float infinity = std::numeric_limits<float>::infinity();
  // The last place of `most` is 2^-10 or 2^-7 of its power of two: beyond half of that it is infinity.
  const float beyond = std::is_same_v<E, Eigen::half> ? 65520.0F : std::bit_cast<float>(0x7f7f8000U);
  const std::vector<float> numbers{0.0F,  -0.0F, least,          -least,    3 * least, 0.5F * least,
                                   most,  -most, beyond,         -beyond,   infinity,  -infinity,
                                   1e-45F, 1.0F,  0.75F * least, std::nextafter(beyond, 0.0F)};
  const std::vector<float> expected{0.0F, -0.0F, least,    -least,    3 * least, 0.0F,  // the tie goes to even
                                    most, -most, infinity, -infinity, infinity,  -infinity,
                                    0.0F, 1.0F,  least,    most};
  at_each_level([&](Level) { EXPECT_TRUE(support::same_bits(this->widened(this->narrowed(numbers)), expected)); });
}

// Also where rounding would carry out of its payload.
TYPED_TEST(Conversions, ANaNStaysOne) {
  std::vector<float> numbers;
  for (const unsigned pattern : {0x7fc00000U, 0xffc00000U, 0x7fffffffU, 0xffffffffU, 0x7fc00001U, 0xffffff00U, 0x7fff8000U, 0xffff7fffU})
    numbers.insert(numbers.end(), 2, std::bit_cast<float>(pattern));
  at_each_level([&](Level) {
    for (const TypeParam element : this->narrowed(numbers)) EXPECT_TRUE(this->is_nan(element));
  });
}

TYPED_TEST(Conversions, StreamsToAlignedMemory) {
  using E = TypeParam;
  at_each_level([](Level) {
    const auto from = support::random_values<E>(16, 1);
    alignas(64) E to[16];
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      VirtualLanes<float, I>::load(from.data()).template store<Store::streaming>(to);
      fence();
    });
    EXPECT_TRUE(support::same_bits(std::vector<E>(to, to + 16), from));
  });
}

TYPED_TEST(Conversions, AFewElementsAreLoadedAndStoredAndNoMore) {
  using E = TypeParam;
  at_each_level([](Level) {
    const auto from = support::random_values<E>(16, 1);
    for (Index n = 0; n < 16; ++n) {
      // As much memory as there are elements: a sanitizer sees a read beyond.
      const std::vector<E> few(from.begin(), from.begin() + n);
      std::vector<float> loaded(16), loaded_last(16);
      std::vector<E> stored(few.size());
      run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        using L = VirtualLanes<float, I>;
        load_few<L, float>(few.data(), n, 0.1F).store(loaded.data());
        if (n > 0) LastLoader<L, float>{n}(few.data() - (16 - n)).store(loaded_last.data());
        store_few(L::load(from.data()), stored.data(), n);
      });
      std::vector<float> expected(16, 0.1F);
      std::copy(few.begin(), few.end(), expected.begin());
      EXPECT_TRUE(support::same_bits(loaded, expected)) << n;
      std::vector<float> expected_last(16);
      std::copy(few.begin(), few.end(), expected_last.end() - n);
      EXPECT_TRUE(support::same_bits(loaded_last, expected_last)) << n;
      EXPECT_TRUE(support::same_bits(stored, few)) << n;
    }
  });
}

TYPED_TEST(Conversions, ParametersAreWidenedInOneGo) {
  using E = TypeParam;
  at_each_level([](Level) {
    for (const Index n : {0, 1, 15, 16, 17, 100}) {
      const auto from = support::random_values<E>(n, 1);
      std::vector<float> to(from.size() + 1, 42.0F), expected(from.begin(), from.end());
      expected.push_back(42.0F);
      dispatch(Widen<float, E>{from.data(), to.data(), n});
      EXPECT_TRUE(support::same_bits(to, expected)) << n;
    }
  });
}

TYPED_TEST(Conversions, GradientsAreAddedInVectorsAsOneByOne) {
  using E = TypeParam;
  at_each_level([](Level) {
    for (const Index n : {0, 1, 63, 64, 65, 200}) {
      const auto before = support::random_values<E>(n, 1);
      const auto floats = support::random_values<float>(n, 2);
      const std::vector<double> doubles(floats.begin(), floats.end());
      std::vector<E> expected;
      for (std::size_t i = 0; i < floats.size(); ++i)
        expected.push_back(static_cast<E>(static_cast<float>(static_cast<double>(before[i]) + doubles[i])));
      std::vector<E> from_floats = before, from_doubles = before;
      dispatch(AddRounded<double, E, float>{from_floats.data(), floats.data(), n});
      dispatch(AddRounded<double, E, double>{from_doubles.data(), doubles.data(), n});
      EXPECT_TRUE(support::same_bits(from_floats, expected)) << n;
      EXPECT_TRUE(support::same_bits(from_doubles, expected)) << n;
    }
  });
}

// Added as floats: the sum in double, rounded, is the same.
TEST(Gradients, OfFloatsAreAddedInVectorsAsInDouble) {
  at_each_level([](Level) {
    for (const Index n : {0, 1, 15, 16, 17, 1000}) {
      auto before = support::random_values<float>(n, 1), gradients = support::random_values<float>(n, 2);
      for (std::size_t i = 0; i < gradients.size(); ++i) gradients[i] *= i % 3 == 0 ? 1e-6F : i % 3 == 1 ? 1e30F : 1.0F;
      std::vector<float> expected;
      for (std::size_t i = 0; i < before.size(); ++i) expected.push_back(static_cast<float>(double(before[i]) + double(gradients[i])));
      dispatch(AddRounded<double, float, float>{before.data(), gradients.data(), n});
      EXPECT_TRUE(support::same_bits(before, expected)) << n;
    }
  });
}

}  // namespace
}  // namespace tensornorm::kernels
