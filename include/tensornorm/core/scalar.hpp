// SPDX-License-Identifier: MIT
#pragma once

#if __cplusplus < 202002L
#error "tensornorm: expected C++20, as of -std=c++20"
#endif

#include <Eigen/Core>
#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "tensornorm: expected Eigen 3.4 or 5"
#endif
#include <concepts>
#include <cstddef>
#include <tensornorm/core/inlining.hpp>
#include <type_traits>

namespace tensornorm {

/// Signed size of tensors and offsets into them: 64 bits where the machine has them, whatever Eigen's own index is.
using Index = std::ptrdiff_t;

/// The type in which elements of type T are added up and normalized: float for the 16-bit types, T itself otherwise.
template <class T>
struct accumulator {
  using type = T;
};
template <>
struct accumulator<Eigen::half> {
  using type = float;
};
template <>
struct accumulator<Eigen::bfloat16> {
  using type = float;
};
template <class T>
using accumulator_t = typename accumulator<T>::type;

/// The type in which block statistics are merged and 1 / sqrt(variance + eps) is formed: double where that is enough.
template <class T>
struct statistic {
  using type = accumulator_t<T>;
};
template <class T>
  requires std::same_as<accumulator_t<T>, float>
struct statistic<T> {
  using type = double;
};
template <class T>
using statistic_t = typename statistic<T>::type;

/// A real number type that can be normalized: not an integer, not complex. It owns no memory, since working memory is not constructed.
///
/// Beside float, double and the 16-bit types that is long double and a type of the user's own, a dual number for example: the kernels
/// take it one number at a time. It needs + - * / and comparisons, construction from any arithmetic type, a `sqrt` beside it, and
/// Eigen::NumTraits; functions that print it also <<.
template <class T>
concept RealScalar = !std::is_integral_v<T> && !bool(Eigen::NumTraits<T>::IsComplex) && !bool(Eigen::NumTraits<T>::IsInteger) &&
                     std::is_trivially_destructible_v<T>;

/// Whether a floating-point number is 0; never of a type of the user's own, which may hold more than its value.
template <class T>
constexpr bool is_exact_zero([[maybe_unused]] const T& x) {
  if constexpr (std::is_floating_point_v<T>) return x == T(0);
  else return false;
}

/// NaN and epsilon by Eigen's traits, which a type of the user's own has, unlike those of the standard library.
template <class T>
TENSORNORM_INLINE T nan_of() {
  return T(Eigen::NumTraits<T>::quiet_NaN());
}
template <class T>
TENSORNORM_INLINE double epsilon_of() {
  if constexpr (std::is_same_v<T, Eigen::half>) return 0x1p-10;  // Eigen 3.4 has an eighth of it
  else return double(Eigen::NumTraits<T>::epsilon());
}

}  // namespace tensornorm
