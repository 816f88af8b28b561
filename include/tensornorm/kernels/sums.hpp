// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/kernels/simd.hpp>

namespace tensornorm::kernels {

/// a * b + c, rounded once for float and double.
template <class S>
TENSORNORM_INLINE S fused(S a, S b, S c) {
#if defined(__GNUC__)
  if constexpr (std::is_same_v<S, double>) return __builtin_fma(a, b, c);
  else if constexpr (std::is_same_v<S, float>) return __builtin_fmaf(a, b, c);
  else return a * b + c;
#else
  if constexpr (std::is_floating_point_v<S>) return std::fma(a, b, c);
  else return a * b + c;
#endif
}
/// The same of lanes, on every instruction set.
template <class L>
  requires is_lanes<L>
TENSORNORM_INLINE L fused(L a, L b, L c) {
  if constexpr (L::fuses) {
    c.fma(a, b);
    return c;
  } else {
    using T = typename L::Number;
    T x[L::width], y[L::width], z[L::width];
    a.store(x);
    b.store(y);
    c.store(z);
    for (int i = 0; i < L::width; ++i) z[i] = fused<T>(x[i], y[i], z[i]);
    return L::load(z);
  }
}

inline namespace TENSORNORM_ABI {

/// Neither infinite nor NaN.
template <class S>
TENSORNORM_INLINE bool is_finite(S x) {
  return x - x == S(0);
}

// Doubles have no wider type to be added up in: what rounding takes from a long sum of them is kept beside it, and goes along with what
// is added next (Kahan 1965). Once per block, tile or row that is free.

/// x, or 0 where it is infinite or no number.
template <class S>
TENSORNORM_INLINE S finite_or_zero(const S& x) {
  return is_finite<S>(x) ? x : S(0);
}
template <class T, int kWidth, int kHardware>
TENSORNORM_INLINE Lanes<T, kWidth, kHardware> finite_or_zero(const Lanes<T, kWidth, kHardware>& x) {
  using L = Lanes<T, kWidth, kHardware>;
  if constexpr (kWidth == 1) return L(finite_or_zero(x.v));
  else return L().or_where_zero(x - x, x);
}

/// x, or 0 where it is below; NaN stays. Of numbers, or of lanes of them.
template <class V>
TENSORNORM_INLINE V not_below_zero(const V& x) {
  if constexpr (is_lanes<V>) return x.not_below_zero();
  else return x < V(0) ? V(0) : x;
}
/// x, or `other` where `test` is 0. Of numbers, or of lanes of them.
template <class V>
TENSORNORM_INLINE V or_where_zero(const V& x, const V& test, const V& other) {
  if constexpr (is_lanes<V>) return x.or_where_zero(test, other);
  else return test == V(0) ? other : x;
}
/// b, or 1 where b is 0: a divisor. Of numbers, or of lanes of them.
template <class V>
TENSORNORM_INLINE V or_one(const V& b) {
  V divisor = or_where_zero(b, b, V(1));
#if defined(__clang__)
  if constexpr (is_lanes<V> || std::is_floating_point_v<V>) reload(divisor);  // or it would divide by b, and choose then
#endif
  return divisor;
}
/// a / b, or 0 where b is 0. Of numbers, or of lanes of them.
template <class V>
TENSORNORM_INLINE V quotient_or_zero(const V& a, const V& b) {
  return or_where_zero(V(a / or_one(b)), b, V(0));
}
/// 1 / sqrt(x), or 0 where x is 0. Of numbers, or of lanes of them.
template <class V>
TENSORNORM_INLINE V reciprocal_root(const V& x) {
  using std::sqrt;
  if constexpr (requires(V root) { V::reciprocal_root(x, root); }) {
    V root;
    if (V::reciprocal_root(x, root)) return root;
  }
  return quotient_or_zero(V(1), V(sqrt(x)));
}
/// What lanes have in each, or V itself.
template <class V>
struct number_of {
  using type = V;
};
template <class V>
  requires is_lanes<V>
struct number_of<V> {
  using type = typename V::Number;
};
/// n, in lanes all of them.
template <class V>
TENSORNORM_INLINE V number(Index n) {
  return V(static_cast<typename number_of<V>::type>(n));
}
/// 1 / n of a power of two: of doubles without a division.
template <class S>
TENSORNORM_INLINE S reciprocal_power(Index n) {
  if constexpr (std::is_same_v<S, double>) return std::bit_cast<double>(std::uint64_t(1023 - std::countr_zero(std::uint64_t(n))) << 52);
  else return S(1) / S(n);
}
/// a / n. Of numbers, or of lanes of them. By a power of two as a product: the same bits in a third of the time.
template <class V>
TENSORNORM_INLINE V divided(const V& a, Index n) {
  using S = typename number_of<V>::type;
  if constexpr (std::is_floating_point_v<S>)
    if (n > 0 && (n & (n - 1)) == 0) return a * V(reciprocal_power<S>(n));
  return a / number<V>(n);
}

/// sum + rest once more, as the rounded sum and what rounding took from it (Knuth 1969), which is nothing where the sum is infinite.
/// Of numbers, or of lanes of them.
template <class L>
TENSORNORM_INLINE void settle(L& sum, L& rest) {
  const L before = sum;
  sum = before + rest;
  if constexpr (kRegistersHoldMore) reload(sum);
  const L added = sum - before, kept = sum - added, of_sum = before - kept, of_rest = rest - added;
  rest = finite_or_zero(L(of_sum + of_rest));
}

/// What began as A is added up in S with a rest: S is no wider.
template <class A, class S>
inline constexpr bool keeps_rest = std::is_same_v<A, S>;
/// Terms of a sum that keeps rests which are added up without: where all roundings go one way, they are as many in ulp.
inline constexpr Index kPlainTerms = 4;

/// sum += value; with kKeep its rest, 0 at first, is kept.
template <bool kKeep, class S>
TENSORNORM_INLINE void accumulate(S& sum, [[maybe_unused]] S& rest, S value) {
  if constexpr (kKeep) {
    rest = rest + value;
    settle(sum, rest);
  } else {
    sum = sum + value;
  }
}
/// sum += factor * value.
template <bool kKeep, class S>
TENSORNORM_INLINE void accumulate(S& sum, [[maybe_unused]] S& rest, S factor, S value) {
  if constexpr (kKeep) {
    rest = fused<S>(factor, value, rest);
    settle(sum, rest);
  } else {
    sum = fused<S>(factor, value, sum);
  }
}

/// Sums in memory, of what began as A.
template <class A, class S>
struct SumArray {
  static constexpr bool keeps = keeps_rest<A, S>;

  S* sum = nullptr;
  S* rest = nullptr;  ///< sum, where there is none
  TENSORNORM_INLINE SumArray from(Index i) const { return {sum + i, rest + i}; }
  TENSORNORM_INLINE S& operator[](Index i) const { return sum[i]; }
  void place(ScratchPlan& plan, Index count, std::byte* memory) {
    plan.place(sum, count, memory);
    rest = sum;
    if constexpr (keeps) plan.place(rest, count, memory);
  }
  void clear(Index count) const {
    std::fill_n(sum, count, S(0));
    if (keeps) std::fill_n(rest, count, S(0));
  }
  TENSORNORM_INLINE void add(Index i, S value) const { accumulate<keeps>(sum[i], rest[i], value); }
  TENSORNORM_INLINE void add(Index i, S factor, S value) const { accumulate<keeps>(sum[i], rest[i], factor, value); }
  /// The same of lanes, from i on.
  template <class... L>
    requires(is_lanes<L> && ...)
  TENSORNORM_INLINE void add(Index i, const L&... term) const {
    using V = std::common_type_t<L...>;
    V sums = V::load(sum + i), rests = V::load(rest + i);
    accumulate<keeps>(sums, rests, term...);
    sums.store(sum + i);
    if constexpr (keeps) rests.store(rest + i);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
