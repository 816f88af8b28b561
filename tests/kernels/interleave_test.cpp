// SPDX-License-Identifier: MIT
// Rows whose elements take turns, and one after the other, against a loop over the elements, for every instruction set.
#include <gtest/gtest.h>

#include <tensornorm/kernels/interleave.hpp>

#include <cstddef>
#include <cstring>
#include <numeric>
#include <vector>

#include "support/instruction_sets.hpp"

namespace tensornorm::kernels {
namespace {

template <class T>
class Interleave : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(Interleave, Numbers);

TYPED_TEST(Interleave, MovesEachElementAndNothingElse) {
  using T = TypeParam;
  support::at_each_level([](Level) {
    for (const Index count : {2, 3, 4, 7, 8, 16})
      for (Index length = 1; length < 70; ++length) {
        const Index stride = length + length % 3;
        std::vector<T> turns(static_cast<std::size_t>(count * length + 1)), rows(static_cast<std::size_t>(count * stride + 1), T(-1)), expected = rows;
        std::iota(turns.begin(), turns.end(), T(1));
        for (Index k = 0; k < count; ++k)
          for (Index i = 0; i < length; ++i) expected[static_cast<std::size_t>(k * stride + i)] = turns[static_cast<std::size_t>(i * count + k)];
        dispatch(InterleavedRows<T>{rows.data(), stride, turns.data(), count, length, true});
        ASSERT_EQ(rows, expected) << count << " rows of " << length;
        std::vector<T> again(turns.size(), T(-1));
        dispatch(InterleavedRows<T>{rows.data(), stride, again.data(), count, length, false});
        turns.back() = T(-1);
        ASSERT_EQ(again, turns) << count << " rows of " << length;
        ASSERT_EQ(rows, expected) << count << " rows of " << length;

        // At an address that is not a multiple of anything, where a sanitizer sees a load that assumes more.
        std::vector<std::byte> bytes((turns.size() + 1) * sizeof(T), std::byte{7});
        std::byte* const odd = bytes.data() + 1;
        dispatch(InterleavedRows<T>{rows.data(), stride, reinterpret_cast<T*>(odd), count, length, false});
        ASSERT_EQ(std::memcmp(odd, turns.data(), (turns.size() - 1) * sizeof(T)), 0);
        ASSERT_EQ(odd[(turns.size() - 1) * sizeof(T)], std::byte{7});
        rows.assign(rows.size(), T(-1));
        dispatch(InterleavedRows<T>{rows.data(), stride, reinterpret_cast<T*>(odd), count, length, true});
        ASSERT_EQ(rows, expected) << count << " rows of " << length;
      }
  });
}

}  // namespace
}  // namespace tensornorm::kernels
