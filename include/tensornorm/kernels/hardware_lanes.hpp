// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <tensornorm/kernels/conversion.hpp>
#include <tensornorm/kernels/vector.hpp>
#include <utility>
#if defined(__x86_64__) && defined(__GNUC__)
#include <emmintrin.h>
#endif

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

template <class T, int kWidth, int kHardware>
class Lanes;

#if defined(__GNUC__)
/// Lanes of one hardware vector; simd.hpp has those of several, and what all of their functions do.
template <class T, int kLanes>
  requires(kLanes > 1)
class Lanes<T, kLanes, kLanes> {
 public:
  using Number = T;
  using Vector = typename vector_of<T, kLanes>::type;
  using Integers = typename vector_of<typename lane_integer<T>::type, kLanes>::type;
  static constexpr int width = kLanes, hardware = kLanes;
  /// fma() rounds once.
#if (defined(__FMA__) && defined(__x86_64__)) || defined(__aarch64__) || (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
  static constexpr bool fuses = true;
#else
  static constexpr bool fuses = sizeof(Vector) > 16;
#endif

  TENSORNORM_INLINE Lanes() : v{} {}
  TENSORNORM_INLINE explicit Lanes(const Vector& vector) : v(vector) {}
  TENSORNORM_INLINE Lanes(const Lanes& o) : v(o.v) {}
  TENSORNORM_INLINE Lanes& operator=(const Lanes& o) {
    v = o.v;
    return *this;
  }
#if defined(__clang__)
  TENSORNORM_INLINE explicit Lanes(T value) : v(value - Vector{}) {}
#else
  // Other spellings of a broadcast become masked inserts, five times slower, at one flag setting or another.
  TENSORNORM_INLINE explicit Lanes(T value) {
    Vector first{};
    first[0] = value;
    v = __builtin_shuffle(first, Integers{});
  }
#endif
  TENSORNORM_INLINE static Lanes load(const T* p) {
    Lanes r;
    __builtin_memcpy(&r.v, p, sizeof(Vector));
    return r;
  }
  /// f(0), f(1), ...
  template <class F>
  TENSORNORM_INLINE static Lanes of(const F& f) {
    return [&]<int... i>(std::integer_sequence<int, i...>) TENSORNORM_INLINE_LAMBDA {
      return Lanes(Vector{f(i)...});
    }(std::make_integer_sequence<int, kLanes>());
  }
  static constexpr bool masks = kMasks && sizeof(Vector) > 16;  ///< load_masked() has this vector
  /// Lanes [first, end) of the vector at p, of which nothing else is read; the others hold `fill`.
  TENSORNORM_INLINE static Lanes load_part(const T* p, int first, int end, T fill) {
    if constexpr (!masks) {
      // Not through an array: what is read at once right after parts of it are written waits until they are in the cache.
#if defined(__clang__)
      if constexpr (sizeof(Vector) > 16) {
        const auto halves = Lanes<T, kLanes, kLanes / 2>::load_part(p, first, end, fill);
        return [&]<int... i>(std::integer_sequence<int, i...>) TENSORNORM_INLINE_LAMBDA {
          return Lanes(Vector(__builtin_shufflevector(halves.lo.v, halves.hi.v, i...)));
        }(std::make_integer_sequence<int, kLanes>());
      }
#endif
      return of([&](int i) TENSORNORM_INLINE_LAMBDA { return first <= i && i < end ? load_one<T>(p + i) : fill; });
    } else {
      Lanes r(fill);
      load_masked(r.v, p, first, end);
      return r;
    }
  }
  /// Lanes [first, end) to the vector at p, of which nothing else is written.
  TENSORNORM_INLINE void store_part(T* p, int first, int end) const {
    if constexpr (masks && sizeof(Vector) == 64) {
      store_masked(v, p, first, end);
    } else {
      T values[std::size_t(kLanes)];
      store(values);
      copy_few<kLanes>(p + first, values + first, end - first);
    }
  }
  template <Store kStore = Store::ordinary>
  TENSORNORM_INLINE void store(T* p) const {
    write<kStore, (sizeof(Vector) > 16)>(v, p);
  }
// Whether clang fuses a * b + c is said function by function, by a pragma that g++ would warn of.
#if defined(__clang__)
#define TENSORNORM_CONTRACT(onoff) _Pragma(onoff)
#else
#define TENSORNORM_CONTRACT(onoff)
#endif
  friend TENSORNORM_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
    TENSORNORM_CONTRACT("clang fp contract(off)")
    return Lanes(Vector(a.v + b.v));
  }
  friend TENSORNORM_INLINE Lanes operator-(const Lanes& a, const Lanes& b) {
    TENSORNORM_CONTRACT("clang fp contract(off)")
    return Lanes(Vector(a.v - b.v));
  }
  friend TENSORNORM_INLINE Lanes operator*(const Lanes& a, const Lanes& b) {
    TENSORNORM_CONTRACT("clang fp contract(off)")
    return Lanes(Vector(a.v * b.v));
  }
  friend TENSORNORM_INLINE Lanes operator/(const Lanes& a, const Lanes& b) { return Lanes(Vector(a.v / b.v)); }
  friend TENSORNORM_INLINE Lanes sqrt(const Lanes& a) {
    Lanes r;
#if defined(__x86_64__)
    // From a call for each lane, which might set errno, no compiler makes a vector's instruction.
#if !defined(__clang__)
    if constexpr (sizeof(Vector) > 16) {
      if constexpr (sizeof(T) == 4) asm("vsqrtps %1, %0" : "=v"(r.v) : "v"(a.v));
      else asm("vsqrtpd %1, %0" : "=v"(r.v) : "v"(a.v));
      return r;
    }
#endif
    for (std::size_t at = 0; at < sizeof(Vector); at += 16) {
      typename vector_of<T, 16 / int(sizeof(T))>::type part;
      __builtin_memcpy(&part, reinterpret_cast<const char*>(&a.v) + at, sizeof part);
      if constexpr (sizeof(T) == 4) part = _mm_sqrt_ps(part);
      else part = _mm_sqrt_pd(part);
      __builtin_memcpy(reinterpret_cast<char*>(&r.v) + at, &part, sizeof part);
    }
#else
    for (int i = 0; i < kLanes; ++i) r.v[i] = std::sqrt(a.v[i]);
#endif
    return r;
  }
#if !defined(__clang__) && defined(__x86_64__)
  /// root = 1 / sqrt(x) of each lane, root and quotient rounded to nearest, by products alone: in a third of the time. False, and nothing is done,
  /// where a lane is not from 2^-900 to 2^900.
  ///
  /// 14 bits become the digits of g = sqrt(x) and h = 1 / (2 g) but for the last (Goldschmidt 1964), of which what is left of x decides, and the same
  /// of 1 / g (Markstein 1990). Where g is just below a power of two, the nudge makes up for what the first of the last two steps falls short; the
  /// other corrects it anywhere else. The few x near enough to a tie for a doubt are in the test.
  TENSORNORM_INLINE static bool reciprocal_root(const Lanes& x, Lanes& root)
    requires(sizeof(Vector) == 64 && sizeof(T) == 8)
  {
    if (!x.is_within(Lanes(T(0x1p-900)), Lanes(T(0x1p900)))) return false;
    const auto minus = [](Lanes c, const Lanes& a, const Lanes& b) TENSORNORM_INLINE_LAMBDA {
      asm("vfnmadd231pd %2, %1, %0" : "+v"(c.v) : "v"(a.v), "v"(b.v));
      return c;
    };
    Lanes y, half(T(0.5)), one(T(1)), nudge(T(0x1p-80));
    asm("vrsqrt14pd %1, %0" : "=v"(y.v) : "v"(x.v));
    Lanes g = x * y, h = y * half;
    for (int step = 0; step < 2; ++step) {
      Lanes rest = minus(half, g, h);
      g.fma(g, rest);
      h.fma(h, rest);
    }
    g.fma(minus(x, g, g), h);
    root = h + h;
    root.fma(root, minus(one, g, root) + nudge);
    root.fma(root, minus(one, g, root));
    return true;
  }
#endif
  TENSORNORM_INLINE void fma(const Lanes& a, const Lanes& b) {
    TENSORNORM_CONTRACT("clang fp contract(on)")
#if !defined(__clang__) && defined(__x86_64__)
    // Contraction is left out where the product has a second use, or under -ffp-contract=off: asm leaves no choice.
#if !defined(__FMA__)
    if constexpr (sizeof(Vector) > 16)
#endif
    {
      if constexpr (sizeof(T) == 4) asm("vfmadd231ps %2, %1, %0" : "+v"(v) : "v"(a.v), "vm"(b.v));
      else asm("vfmadd231pd %2, %1, %0" : "+v"(v) : "v"(a.v), "vm"(b.v));
      return;
    }
#elif !defined(__clang__) && defined(__aarch64__)
    if constexpr (sizeof(T) == 4) asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(v) : "w"(a.v), "w"(b.v));
    else asm("fmla %0.2d, %1.2d, %2.2d" : "+w"(v) : "w"(a.v), "w"(b.v));
    return;
#elif !defined(__clang__) && defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF)
    // A list, which g++ takes for a vector again where there is one; of a loop it makes numbers in memory.
    const auto fused = [x = a.v, y = b.v, z = v]<int... i>(std::integer_sequence<int, i...>) TENSORNORM_INLINE_LAMBDA {
      return Vector{std::fma(x[i], y[i], z[i])...};
    };
    v = fused(std::make_integer_sequence<int, kLanes>());
    return;
#endif
    v = a.v * b.v + v;
  }
  TENSORNORM_INLINE auto halved() const
    requires(kLanes > 2)
  {
    typename vector_of<T, kLanes / 2>::type low, high;
    __builtin_memcpy(&low, &v, sizeof low);
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (sizeof(Vector) == 64) asm("vextractf64x4 $1, %1, %0" : "=v"(high) : "v"(v));  // g++ goes through memory
    else
#endif
      __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return Lanes<T, kLanes / 2, kLanes / 2>(low + high);
  }
  TENSORNORM_INLINE T sum() const {
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (sizeof(Vector) == 16) {  // g++ writes it to memory to read a half, and adds two numbers by a slow instruction
      const auto added = [](const Vector& lanes, const Integers& others) TENSORNORM_INLINE_LAMBDA {
        return Vector(lanes + __builtin_shuffle(lanes, others));
      };
      // All lanes are sums of lanes, or one that is not used might overflow.
      if constexpr (kLanes == 4) return added(added(v, Integers{2, 3, 0, 1}), Integers{1, 0, 3, 2})[0];
      else return added(v, Integers{1, 0})[0];
    } else
#endif
    if constexpr (kLanes > 2) {
      return halved().sum();
    } else if constexpr (kRegistersHoldMore) {
      T total = v[0] + v[1];
      reload(total);
      return total;
    } else {
      return v[0] + v[1];
    }
  }
  /// Every lane is at least that of `least` and at most that of `most`; NaN is not.
  TENSORNORM_INLINE bool is_within(const Lanes& least, const Lanes& most) const {
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (sizeof(Vector) == 64 && sizeof(T) == 8) {
      std::uint16_t below, above;
      asm("vcmpnge_uqpd %2, %1, %0" : "=Yk"(below) : "v"(v), "v"(least.v));  // quiet: NaN raises no exception
      asm("vcmpnle_uqpd %2, %1, %0" : "=Yk"(above) : "v"(v), "v"(most.v));
      return (below | above) == 0;
    }
    if constexpr (sizeof(Vector) == 32 && sizeof(T) == 8) {
      Vector below, above;
      int outside;
      asm("vcmpnge_uqpd %2, %1, %0" : "=x"(below) : "x"(v), "x"(least.v));
      asm("vcmpnle_uqpd %2, %1, %0" : "=x"(above) : "x"(v), "x"(most.v));
      asm("vorpd %1, %0, %0" : "+x"(below) : "x"(above));
      asm("vmovmskpd %1, %0" : "=r"(outside) : "x"(below));
      return outside == 0;
    }
#endif
    // Of comparisons with anything but 0 g++ 12 makes one number after the other.
    return ((least - *this).not_below_zero() + (*this - most).not_below_zero()).sum() == T(0);
  }
  TENSORNORM_INLINE Lanes zero_below(int first) const { return masked(LaneMasks<T>::from(within(first))); }
  TENSORNORM_INLINE Lanes zero_from(int end) const { return masked(LaneMasks<T>::below(within(end))); }
  TENSORNORM_INLINE Lanes not_below_zero() const { return or_where(v < Vector{}, Lanes()); }
  TENSORNORM_INLINE Lanes or_where_zero(const Lanes& test, const Lanes& other) const { return or_where(test.v == Vector{}, other); }
  /// kLanes doubles out of, or rounded to, kLanes floats.
  TENSORNORM_INLINE static Lanes load(const float* p)
    requires(sizeof(T) == 8)
  {
    typename vector_of<float, kLanes>::type narrow;
    __builtin_memcpy(&narrow, p, sizeof narrow);
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (sizeof(Vector) > 16) {  // of which g++ 12 makes two halves put together
      Lanes wide;
      asm("vcvtps2pd %1, %0" : "=v"(wide.v) : "vm"(narrow));
      return wide;
    }
#endif
    return Lanes(__builtin_convertvector(narrow, Vector));
  }
  template <Store kStore = Store::ordinary>
  TENSORNORM_INLINE void store(float* p) const
    requires(sizeof(T) == 8)
  {
    const auto narrow = __builtin_convertvector(v, typename vector_of<float, kLanes>::type);
    write<kStore, (sizeof(Vector) > 16)>(narrow, p);
  }
  /// kLanes floats out of kLanes elements of 16 bits.
  template <Narrow E>
  TENSORNORM_INLINE static Lanes load(const E* p)
    requires(sizeof(T) == 4)
  {
    typename Conversion<E, kLanes>::Elements elements;
    __builtin_memcpy(&elements, p, sizeof elements);
    Lanes r;
    Conversion<E, kLanes>::widen(elements, r.v);
    return r;
  }
  template <Store kStore = Store::ordinary, Narrow E>
  TENSORNORM_INLINE void store(E* p) const
    requires(sizeof(T) == 4)
  {
    typename Conversion<E, kLanes>::Elements elements;
    Conversion<E, kLanes>::narrow(v, elements);
    write<kStore, (sizeof(Vector) > 16)>(elements, p);
  }

  Vector v;

 private:
  TENSORNORM_INLINE static int within(int lane) { return lane < 0 ? 0 : lane > kLanes ? kLanes : lane; }
  TENSORNORM_INLINE Lanes masked(const typename lane_integer<T>::type* chosen) const {
    Integers mask, bits;
    __builtin_memcpy(&mask, chosen, sizeof mask);
    __builtin_memcpy(&bits, &v, sizeof bits);
    bits &= mask;
    Lanes r;
    __builtin_memcpy(&r.v, &bits, sizeof bits);
    return r;
  }
  TENSORNORM_INLINE Lanes or_where(const Integers& chosen, const Lanes& other) const {
    Integers bits, others;
    __builtin_memcpy(&bits, &v, sizeof bits);
    __builtin_memcpy(&others, &other.v, sizeof others);
    bits = (others & chosen) | (bits & ~chosen);
    Lanes r;
    __builtin_memcpy(&r.v, &bits, sizeof bits);
    return r;
  }
};
#endif

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
