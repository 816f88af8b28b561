// SPDX-License-Identifier: MIT
// What tests do with many numbers one by one: compiled once for each type that most of them use, with the build's flags.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

namespace support {

using Index = Eigen::Index;
using Shape = std::vector<Index>;
using Reals = std::vector<long double>;

inline Index size_of(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>());
}

/// Moves coordinates on to those of the next flat RowMajor index; after the last come the first.
inline void advance(Shape& at, const Shape& shape) {
  for (std::size_t axis = shape.size(); axis-- > 0; at[axis] = 0)
    if (++at[axis] < shape[axis]) return;
}

/// Of mean 0 and deviation 1.
std::vector<double> normal_values(std::size_t size, unsigned seed);

template <class T>
struct Numbers {
  using Vector = std::vector<T>;

  /// As wide as there is.
  static Reals widened(const Vector& values) {
    Reals result;
    result.reserve(values.size());
    for (const T& value : values) result.push_back(static_cast<long double>(value));
    return result;
  }
  /// Normal values; after `drawn` of them they come again.
  static Vector random(Index size, unsigned seed, double mean, double deviation, std::size_t drawn) {
    Vector values(static_cast<std::size_t>(size));
    const std::vector<double> normal = normal_values(std::min(values.size(), drawn), seed);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = i < drawn ? static_cast<T>(normal[i] * deviation + mean) : values[i - drawn];
    return values;
  }
  /// f(value, number in memory) for the values in logical order.
  template <class Values, class Memory, class F>
  static void for_each(Values& values, Memory* memory, const Shape& shape, const Shape& strides, const F& f) {
    Shape at(shape.size());
    for (auto& value : values) {
      Index offset = 0;
      for (std::size_t axis = 0; axis < shape.size(); ++axis) offset += at[axis] * strides[axis];
      f(value, memory[offset]);
      advance(at, shape);
    }
  }
  static Vector gather(const T* memory, const Shape& shape, const Shape& strides) {
    Vector values(static_cast<std::size_t>(size_of(shape)));
    for_each(values, memory, shape, strides, [](T& value, const T& number) { value = number; });
    return values;
  }
  static void scatter(const Vector& values, T* memory, const Shape& shape, const Shape& strides) {
    for_each(values, memory, shape, strides, [](const T& value, T& number) { number = value; });
  }
  static testing::AssertionResult same_bits(const Vector& actual, const Vector& expected) {
    if (actual.size() != expected.size())
      return testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
    std::size_t different = 0;
    std::size_t first = 0;
    for (std::size_t i = actual.size(); i-- > 0;) {
      if (std::memcmp(&actual[i], &expected[i], sizeof(T)) != 0) {
        ++different;
        first = i;
      }
    }
    if (different == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << different << " of " << actual.size() << " differ, the first at " << first
                                       << ": " << testing::PrintToString(actual[first]) << ", expected "
                                       << testing::PrintToString(expected[first]);
  }
};

extern template struct Numbers<float>;
extern template struct Numbers<double>;
extern template struct Numbers<long double>;
extern template struct Numbers<Eigen::half>;
extern template struct Numbers<Eigen::bfloat16>;

/// max |values|, 0 for none, NaN where one is.
long double largest_of(const Reals& values);
/// `factor` times each.
Reals scaled(Reals values, long double factor);
/// |actual - expected| <= tolerance for every element. A NaN agrees with nothing.
testing::AssertionResult all_within(const Reals& actual, const Reals& expected, const Reals& tolerances);

}  // namespace support
