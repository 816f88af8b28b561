// SPDX-License-Identifier: MIT
// Comparisons that report the worst element, and the one place where tolerances are explained.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <limits>
#include <type_traits>
#include <vector>

namespace support {

/// The larger of two numbers, NaN where one of them is.
template <class T>
T larger(T a, T b) {
  return std::isnan(a) || a >= b ? a : b;
}

/// max |values|, 0 for none, NaN where one is.
template <class T>
long double largest(const std::vector<T>& values) {
  long double result = 0;
  for (const T value : values) {
    const long double size = std::abs(static_cast<long double>(value));
    if (!(size <= result)) result = size;
    if (std::isnan(size)) break;
  }
  return result;
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
std::vector<long double> ulps(double k, std::vector<long double> scales) {
  for (long double& scale : scales) scale = ulps<Scalar>(k, scale);
  return scales;
}

/// |actual - expected| <= tolerance for every element. A NaN agrees with nothing.
template <class A, class E>
testing::AssertionResult all_near(const std::vector<A>& actual, const std::vector<E>& expected,
                                  const std::vector<long double>& tolerances) {
  if (actual.size() != expected.size() || tolerances.size() != expected.size())
    return testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  std::size_t worst = 0;
  long double worst_excess = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const long double distance = std::abs(static_cast<long double>(actual[i]) - static_cast<long double>(expected[i]));
    const long double excess = distance == 0 ? 0 : std::isnan(distance) || !std::isfinite(tolerances[i]) ? HUGE_VALL : distance / tolerances[i];
    if (excess > worst_excess) {
      worst = i;
      worst_excess = excess;
    }
  }
  if (worst_excess <= 1) return testing::AssertionSuccess();
  return testing::AssertionFailure() << std::setprecision(17) << "element " << worst << " of " << actual.size() << ": "
                                     << static_cast<double>(actual[worst]) << ", expected "
                                     << static_cast<double>(expected[worst]) << std::setprecision(3) << ", off by "
                                     << static_cast<double>(worst_excess) << " times the tolerance of "
                                     << static_cast<double>(tolerances[worst]);
}

template <class A, class E>
testing::AssertionResult all_near(const std::vector<A>& actual, const std::vector<E>& expected, long double tolerance) {
  return all_near(actual, expected, std::vector<long double>(expected.size(), tolerance));
}

/// The same bits, or NaN both: its sign is the processor's choice.
template <class T>
bool same_number(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

template <class T>
testing::AssertionResult same_bits(const std::vector<T>& actual, const std::vector<T>& expected) {
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

}  // namespace support
