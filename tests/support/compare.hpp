// SPDX-License-Identifier: MIT
// Comparisons that report the worst element, and the one place where tolerances are explained.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "numbers.hpp"

namespace support {

/// As wide as there is; what is so already is not copied.
template <class T>
decltype(auto) widened(const std::vector<T>& values) {
  if constexpr (std::is_same_v<T, long double>) return (values);
  else return Numbers<T>::widened(values);
}

/// The larger of two numbers, NaN where one of them is.
template <class T>
T larger(T a, T b) {
  return std::isnan(a) || a >= b ? a : b;
}

/// max |values|, 0 for none, NaN where one is.
template <class T>
long double largest(const std::vector<T>& values) {
  return largest_of(widened(values));
}

/// The distance from 1 to the next number. Eigen's for half is that of a type with three more digits.
template <class Scalar>
long double unit_of() {
  return std::is_same_v<Scalar, Eigen::half> ? 0x1p-10L
                                             : static_cast<long double>(std::numeric_limits<Scalar>::epsilon());
}

/// k * eps * scale, eps that of Scalar: one unit of k is one ulp of a number as large as scale.
template <class Scalar>
long double ulps(double k, long double scale) {
  return static_cast<long double>(k) * unit_of<Scalar>() * scale;
}

/// The same, with a scale for each element.
template <class Scalar>
Reals ulps(double k, Reals scales) {
  return scaled(std::move(scales), ulps<Scalar>(k, 1));
}

/// |actual - expected| <= tolerance for every element. A NaN agrees with nothing.
template <class A, class E>
testing::AssertionResult all_near(const std::vector<A>& actual, const std::vector<E>& expected, const Reals& tolerances) {
  return all_within(widened(actual), widened(expected), tolerances);
}

template <class A, class E>
testing::AssertionResult all_near(const std::vector<A>& actual, const std::vector<E>& expected, long double tolerance) {
  return all_near(actual, expected, Reals(expected.size(), tolerance));
}

/// The same bits, or NaN both: its sign is the processor's choice.
template <class T>
bool same_number(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

template <class T>
testing::AssertionResult same_bits(const std::vector<T>& actual, const std::vector<T>& expected) {
  return Numbers<T>::same_bits(actual, expected);
}

}  // namespace support
