// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/scalar.hpp>
#include <tensornorm/kernels/hardware_lanes.hpp>
#include <utility>

namespace tensornorm::kernels {

/// Lanes a reduction runs in: fixed per type, so that the reduction tree, and with it every bit, is the same on all instruction sets that
/// fuse products.
template <class A>
inline constexpr int virtual_width = 1;
template <>
inline constexpr int virtual_width<float> = 16;
template <>
inline constexpr int virtual_width<double> = 8;

inline namespace TENSORNORM_ABI {

constexpr int smaller(int a, int b) { return a < b ? a : b; }

/// kWidth numbers of type T in hardware vectors of kHardware: halves down to one vector. No product is added except by fma().
///
/// The copy constructor is user-provided so that lanes are passed in memory: no -Wpsabi warning, no ABI that depends on flags. g++ leaves
/// such objects in memory where they are const: coefficients that a loop keeps, and the maps that hold them, are not.
template <class T, int kWidth, int kHardware>
class Lanes {
 public:
  using Number = T;
  using Half = Lanes<T, kWidth / 2, kHardware>;
  static constexpr int width = kWidth, hardware = kHardware;
  static constexpr bool fuses = Half::fuses;

  TENSORNORM_INLINE Lanes() {}
  TENSORNORM_INLINE explicit Lanes(T value) : lo(value), hi(value) {}
  TENSORNORM_INLINE Lanes(const Half& l, const Half& h) : lo(l), hi(h) {}
  TENSORNORM_INLINE Lanes(const Lanes& o) : lo(o.lo), hi(o.hi) {}
  TENSORNORM_INLINE Lanes& operator=(const Lanes& o) {
    lo = o.lo;
    hi = o.hi;
    return *this;
  }
  template <class E>
  TENSORNORM_INLINE static Lanes load(const E* p) {
    return Lanes(Half::load(p), Half::load(p + kWidth / 2));
  }
  /// f(0), f(1), ...
  template <class F>
  TENSORNORM_INLINE static Lanes of(const F& f) {
    return Lanes(Half::of(f), Half::of([&](int i) TENSORNORM_INLINE_LAMBDA { return f(kWidth / 2 + i); }));
  }
  static constexpr bool masks = Half::masks;
  TENSORNORM_INLINE static Lanes load_part(const T* p, int first, int end, T fill) {
    const auto half = [&](int from) TENSORNORM_INLINE_LAMBDA {
      const int begin = lane_of_half(first, from), past = lane_of_half(end, from);
      if constexpr (!masks) {
        if (begin == past) return Half(fill);
        if (past - begin == Half::width) return Half::load(p + from);
      }
      return Half::load_part(p + from, begin, past, fill);
    };
    return Lanes(half(0), half(kWidth / 2));
  }
  TENSORNORM_INLINE void store_part(T* p, int first, int end) const {
    const auto store_half = [&](const Half& half, int from) TENSORNORM_INLINE_LAMBDA {
      const int begin = lane_of_half(first, from), past = lane_of_half(end, from);
      if (begin == past) return;
      if (past - begin == Half::width) half.store(p + from);
      else half.store_part(p + from, begin, past);
    };
    store_half(lo, 0);
    store_half(hi, kWidth / 2);
  }
  template <Store kStore = Store::ordinary, class E>
  TENSORNORM_INLINE void store(E* p) const {
    lo.template store<kStore>(p);
    hi.template store<kStore>(p + kWidth / 2);
  }
  friend TENSORNORM_INLINE Lanes operator+(const Lanes& a, const Lanes& b) { return Lanes(a.lo + b.lo, a.hi + b.hi); }
  friend TENSORNORM_INLINE Lanes operator-(const Lanes& a, const Lanes& b) { return Lanes(a.lo - b.lo, a.hi - b.hi); }
  friend TENSORNORM_INLINE Lanes operator*(const Lanes& a, const Lanes& b) { return Lanes(a.lo * b.lo, a.hi * b.hi); }
  friend TENSORNORM_INLINE Lanes operator/(const Lanes& a, const Lanes& b) { return Lanes(a.lo / b.lo, a.hi / b.hi); }
  friend TENSORNORM_INLINE Lanes sqrt(const Lanes& a) { return Lanes(sqrt(a.lo), sqrt(a.hi)); }
  /// *this += a * b, rounded once where the instruction set has it.
  TENSORNORM_INLINE void fma(const Lanes& a, const Lanes& b) {
    lo.fma(a.lo, b.lo);
    hi.fma(a.hi, b.hi);
  }
  /// The first half of the lanes plus the last.
  TENSORNORM_INLINE Half halved() const { return lo + hi; }
  TENSORNORM_INLINE T sum() const { return halved().sum(); }
  /// Lanes below `first`, or from `end` on, become +0.
  TENSORNORM_INLINE Lanes zero_below(int first) const { return Lanes(lo.zero_below(first), hi.zero_below(first - kWidth / 2)); }
  TENSORNORM_INLINE Lanes zero_from(int end) const { return Lanes(lo.zero_from(end), hi.zero_from(end - kWidth / 2)); }
  /// Lanes below 0 become 0; NaN stays.
  TENSORNORM_INLINE Lanes not_below_zero() const { return Lanes(lo.not_below_zero(), hi.not_below_zero()); }
  /// Lanes where `test` is 0 become those of `other`.
  TENSORNORM_INLINE Lanes or_where_zero(const Lanes& test, const Lanes& other) const {
    return Lanes(lo.or_where_zero(test.lo, other.lo), hi.or_where_zero(test.hi, other.hi));
  }

  Half lo, hi;

 private:
  /// The lane of the half that begins at lane `from`, or its first, or the end of it.
  TENSORNORM_INLINE static constexpr int lane_of_half(int lane, int from) { return lane < from ? 0 : smaller(lane - from, Half::width); }
};

/// One number of any type, long double or a user's own: the scalar path through the same kernels.
template <class T>
class Lanes<T, 1, 1> {
 public:
  using Number = T;
  static constexpr int width = 1, hardware = 1;
  static constexpr bool fuses = false, masks = false;
  Lanes() : v(0) {}
  explicit Lanes(T value) : v(value) {}
  template <class E>
  static Lanes load(const E* p) {
    return Lanes(static_cast<T>(*p));
  }
  template <class F>
  static Lanes of(const F& f) {
    return Lanes(f(0));
  }
  static Lanes load_part(const T* p, int first, int end, T fill) { return Lanes(first < end ? *p : fill); }
  void store_part(T* p, int first, int end) const {
    if (first < end) *p = v;
  }
  template <Store kStore = Store::ordinary, class E>
  void store(E* p) const {
    *p = static_cast<E>(v);
  }
  friend Lanes operator+(const Lanes& a, const Lanes& b) { return Lanes(a.v + b.v); }
  friend Lanes operator-(const Lanes& a, const Lanes& b) { return Lanes(a.v - b.v); }
  friend Lanes operator*(const Lanes& a, const Lanes& b) { return Lanes(a.v * b.v); }
  void fma(const Lanes& a, const Lanes& b) { v = a.v * b.v + v; }
  T sum() const { return v; }
  Lanes or_where_zero(const Lanes& test, const Lanes& other) const { return is_exact_zero(test.v) ? other : *this; }
  Lanes zero_below(int first) const { return first > 0 ? Lanes() : *this; }
  Lanes zero_from(int end) const { return end > 0 ? *this : Lanes(); }

  T v;
};

/// Lanes of a, then of b, as many as a has: lane i comes from From::lane(i), counted through both.
template <class From, class T, int kLanes>
TENSORNORM_INLINE Lanes<T, kLanes, kLanes> shuffled(const Lanes<T, kLanes, kLanes>& a, const Lanes<T, kLanes, kLanes>& b) {
  using L = Lanes<T, kLanes, kLanes>;
  return [&]<int... i>(std::integer_sequence<int, i...>) TENSORNORM_INLINE_LAMBDA {
#if defined(__clang__)
    return L(__builtin_shufflevector(a.v, b.v, From::lane(i)...));
#else
    return L(__builtin_shuffle(a.v, b.v, typename L::Integers{From::lane(i)...}));
#endif
  }(std::make_integer_sequence<int, kLanes>());
}

/// Lanes of F rounded to as many of L: a vector in a register, as one written by halves would be waited for when it is read.
template <class L, class F>
TENSORNORM_INLINE L rounded(const F& wide) {
  if constexpr (std::is_same_v<L, F>) {
    return wide;
  } else {
#if defined(__clang__) || (defined(__x86_64__) && defined(__GNUC__))
    if constexpr (L::width == L::hardware && F::width == 2 * F::hardware && sizeof(L) > 16) {
      using Half = typename vector_of<typename L::Number, L::width / 2>::type;
      const Half low = __builtin_convertvector(wide.lo.v, Half), high = __builtin_convertvector(wide.hi.v, Half);
#if defined(__clang__)
      return [&]<int... i>(std::integer_sequence<int, i...>) TENSORNORM_INLINE_LAMBDA {
        return L(typename L::Vector(__builtin_shufflevector(low, high, i...)));
      }(std::make_integer_sequence<int, L::width>());
#else
      L all;
      if constexpr (sizeof(L) == 64) asm("vinsertf64x4 $1, %t2, %g1, %g0" : "=v"(all.v) : "v"(low), "v"(high));
      else asm("vinsertf128 $1, %x2, %t1, %t0" : "=x"(all.v) : "x"(low), "x"(high));
      return all;
#endif
    }
#endif
    typename L::Number values[std::size_t(L::width)];
    wide.store(values);
    return L::load(values);
  }
}

template <class L>
inline constexpr bool is_lanes = false;
template <class T, int kWidth, int kHardware>
inline constexpr bool is_lanes<Lanes<T, kWidth, kHardware>> = true;

template <class A, class I>
inline constexpr int hardware_width = smaller(virtual_width<A>, virtual_width<A> == 1 ? 1 : I::bytes / int(sizeof(A)));

/// The lanes of a reduction: virtual_width of them whatever the hardware.
template <class A, class I>
using VirtualLanes = Lanes<A, virtual_width<A>, hardware_width<A, I>>;
/// The lanes of elementwise work, where the width changes no bit: one hardware vector.
template <class A, class I>
using HardwareLanes = Lanes<A, hardware_width<A, I>, hardware_width<A, I>>;
/// Lanes of S come from numbers in memory of type T, and go there.
template <class S, class T>
inline constexpr bool has_lanes_of = virtual_width<S> > 1 && (std::is_same_v<T, S> || (std::is_same_v<T, float> && std::is_same_v<S, double>));
/// As many statistics-type lanes as VirtualLanes<A> has, into which float lanes are folded.
template <class A, class S, class I>
using FoldLanes = Lanes<S, virtual_width<A>, hardware_width<S, I>>;

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
