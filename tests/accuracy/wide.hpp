// SPDX-License-Identifier: MIT
// A number type with 113 bits and 15 of exponent: squares of doubles are exact in it, and none leaves its range.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

namespace accuracy {

#if LDBL_MANT_DIG >= 113
using Wide = long double;
#else
__extension__ typedef __float128 Wide;
#endif

template <class Real>
Real magnitude(Real x) {
  return x < 0 ? -x : x;
}

/// By one step of Newton's from a long double, which has more than half of the digits and all of the range; no library
/// is linked for it.
inline Wide square_root(Wide x) {
  if (x == 0) return 0;
  const Wide root = std::sqrt(static_cast<long double>(x));
  return (root + x / root) / 2;
}

/// What a binary number type can hold.
struct Format {
  std::string name;
  int digits;  // of the significand
  int least;   // log2 of the smallest denormal number
  double largest;

  /// The distance between numbers as large as this.
  Wide ulp(Wide size) const {
    int exponent = 0;
    std::frexp(static_cast<long double>(magnitude(size)), &exponent);
    return std::ldexp(1.0L, size == 0 ? least : std::max(exponent - digits, least));
  }
  /// |actual - exact| in ulp of `scale`. A number that cannot be held has to be infinite; infinite is the error of what
  /// is not.
  double error(double actual, Wide exact, Wide scale) const {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    if (magnitude(exact) >= Wide(largest) + ulp(Wide(largest)) / 2)
      return actual == (exact < 0 ? -infinite : infinite) ? 0 : infinite;
    if (!std::isfinite(actual)) return infinite;
    return static_cast<double>(magnitude(Wide(actual) - exact) / ulp(scale));
  }
};

template <class T>
Format format_of() {
  if constexpr (std::is_same_v<T, float>)
    return {"float", 24, -149, double(std::numeric_limits<float>::max())};
  else if constexpr (std::is_same_v<T, double>)
    return {"double", 53, -1074, std::numeric_limits<double>::max()};
  else if constexpr (std::is_same_v<T, Eigen::half>)
    return {"half", 11, -24, 65504};
  else
    return {"bfloat16", 8, -133, 0x1.fep127};
}

/// As a double, which holds all of them.
template <class T>
double plain(T x) {
  if constexpr (std::is_same_v<T, double>)
    return x;
  else
    return static_cast<double>(static_cast<float>(x));
}

}  // namespace accuracy
