// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/scalar.hpp>
#include <utility>

namespace tensornorm {

/// kSize elements in place, indexed by signed numbers as extents, axes and loops are.
template <class T, int kSize>
struct FixedArray {
  T values[std::size_t(kSize > 0 ? kSize : 1)];

  constexpr T& operator[](Index i) { return values[i]; }
  constexpr const T& operator[](Index i) const { return values[i]; }
  constexpr T* begin() { return values; }
  constexpr T* end() { return values + kSize; }
  constexpr const T* begin() const { return values; }
  constexpr const T* end() const { return values + kSize; }
  constexpr const T* data() const { return values; }
  static constexpr int size() { return kSize; }
  constexpr void fill(const T& value) {
    for (T& element : *this) element = value;
  }
  friend constexpr bool operator==(const FixedArray& a, const FixedArray& b) {
    return [&]<int... i>(std::integer_sequence<int, i...>) { return (... && (a[i] == b[i])); }(std::make_integer_sequence<int, kSize>());
  }
};

/// The extents of a tensor, or its strides in elements, by logical axis.
template <int kRank>
using Extents = FixedArray<Index, kRank>;

}  // namespace tensornorm
