// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <limits>
#include <tensornorm/core/scalar.hpp>
#include <tensornorm/kernels/vector.hpp>

namespace tensornorm::kernels {

/// Elements of 16 bits: floats wherever they are computed with, converted as they are loaded and stored.
template <class E>
concept Narrow = std::same_as<E, Eigen::half> || std::same_as<E, Eigen::bfloat16>;

inline namespace TENSORNORM_ABI {

#if defined(__GNUC__)

/// kLanes elements of 16 bits as integers, and the words of 32 bits they are computed in. By itself g++ takes four instructions and
/// more where there is one.
template <int kLanes>
struct Bits {
  using Floats = typename vector_of<float, kLanes>::type;
  using Words = typename vector_of<std::int32_t, kLanes>::type;
  using Unsigned = typename vector_of<std::uint32_t, kLanes>::type;  // for sums that wrap where there is a NaN
  using Elements = typename vector_of<std::uint16_t, kLanes>::type;

  /// Zeros above each element.
  TENSORNORM_INLINE static void extend(const Elements& from, Words& to) {
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (kLanes >= 8) {
      asm("vpmovzxwd %1, %0" : "=v"(to) : "vm"(from));
    } else {
      using Eight = vector_of<short, 8>::type;
      const vector_of<long long, 2>::type four{reinterpret_cast<long long>(from), 0};
      to = reinterpret_cast<Words>(__builtin_ia32_punpcklwd128(reinterpret_cast<Eight>(four), Eight{}));
    }
#else
    to = __builtin_convertvector(from, Words);
#endif
  }
  /// The lower half of each word, which is a number that fits.
  TENSORNORM_INLINE static void truncate(const Words& from, Elements& to) {
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (kLanes == 16) {
      asm("vpmovdw %1, %0" : "=v"(to) : "v"(from));
    } else if constexpr (kLanes == 8) {
      asm("vextracti128 $1, %1, %0\n\tvpackssdw %0, %x1, %0" : "=&x"(to) : "x"(from));
    } else {
      const auto elements = __builtin_ia32_packssdw128(from, from);
      __builtin_memcpy(&to, &elements, sizeof to);
    }
#else
    to = __builtin_convertvector(from, Elements);
#endif
  }
};

/// Narrow elements to and from floats.
///
/// widen is exact. narrow rounds to nearest, ties to even, beyond the range to infinity; a denormal is kept, and so vcvtneps2bf16,
/// which flushes them, is not used; a NaN stays one if it is quiet, as arithmetic leaves it.
template <Narrow E, int kLanes>
struct Conversion;

template <int kLanes>
struct Conversion<Eigen::bfloat16, kLanes> : Bits<kLanes> {
  using B = Bits<kLanes>;
  using Floats = typename B::Floats;
  using Words = typename B::Words;
  using Unsigned = typename B::Unsigned;
  using Elements = typename B::Elements;

  TENSORNORM_INLINE static void widen(const Elements& from, Floats& to) {
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (kLanes == 16) {
      const typename vector_of<short, 32>::type spread = {0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                                                 0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
      asm("vpermw %g1, %2, %0%{%3%}%{z%}" : "=v"(to) : "v"(from), "v"(spread), "Yk"(0xaaaaaaaaU));
      return;
    }
#endif
    Words bits;
    B::extend(from, bits);
    to = reinterpret_cast<Floats>(bits << 16);
  }
  TENSORNORM_INLINE static void narrow(const Floats& from, Elements& to) {
    const Unsigned bits = reinterpret_cast<Unsigned>(from);
    const Words is_number = from == from;  // rounding would carry out of a NaN with all bits set
    const Unsigned share = ((bits >> 16) & 1) + 0x7fff;
    const Words result = reinterpret_cast<Words>(bits + (reinterpret_cast<Unsigned>(is_number) & share));
#if !defined(__clang__) && defined(__x86_64__)
    if constexpr (kLanes == 16) {
      const typename vector_of<short, 32>::type odd = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
      asm("vpermw %1, %2, %g0" : "=v"(to) : "v"(result), "v"(odd));
      return;
    }
#endif
    B::truncate(result >> 16, to);
  }
};

template <int kLanes>
struct Conversion<Eigen::half, kLanes> : Bits<kLanes> {
  using B = Bits<kLanes>;
  using Floats = typename B::Floats;
  using Words = typename B::Words;
  using Unsigned = typename B::Unsigned;
  using Elements = typename B::Elements;

#if defined(__x86_64__)
  /// Vectors of more than 16 bytes are those of instruction sets that have F16C too.
  static constexpr bool in_hardware = kLanes >= 8;
#else
  static constexpr bool in_hardware = false;
#endif

  TENSORNORM_INLINE static void widen(const Elements& from, Floats& to) {
    if constexpr (in_hardware) {
#if defined(__clang__)
      typename vector_of<__fp16, kLanes>::type halves;
      __builtin_memcpy(&halves, &from, sizeof halves);
      to = __builtin_convertvector(halves, Floats);
#elif defined(__x86_64__)
      asm("vcvtph2ps %1, %0" : "=v"(to) : "vm"(from));
#endif
    } else {
      Words bits;
      B::extend(from, bits);
      // The product moves the bias of the exponent, and makes denormals normal; only infinity and NaN need the highest exponent.
      const Words sign = (bits << 16) & kSign, magnitude = (bits << 13) & (0x7fff << 13);
      const Words is_special = magnitude > (31 << 23) - 1;
      to = reinterpret_cast<Floats>(reinterpret_cast<Words>(reinterpret_cast<Floats>(magnitude) * 0x1p112F) | (is_special & (255 << 23)) | sign);
    }
  }
  TENSORNORM_INLINE static void narrow(const Floats& from, Elements& to) {
    if constexpr (in_hardware) {
#if defined(__clang__)
      const auto halves = __builtin_convertvector(from, typename vector_of<__fp16, kLanes>::type);
      __builtin_memcpy(&to, &halves, sizeof to);
#elif defined(__x86_64__)
      asm("vcvtps2ph $0, %1, %0" : "=v"(to) : "v"(from));
#endif
    } else {
      const Words bits = reinterpret_cast<Words>(from), sign = bits & kSign, magnitude = bits ^ sign;
      const Words is_small = magnitude < (113 << 23), is_special = magnitude > (143 << 23) - 1, is_nan = magnitude > (255 << 23);
      // Below 2^-14 an ulp of half is one of 0.5: adding that rounds there.
      const Words small = reinterpret_cast<Words>(reinterpret_cast<Floats>(magnitude) + 0.5F) - (126 << 23);
      const Unsigned wide = reinterpret_cast<Unsigned>(magnitude);
      const Words normal = reinterpret_cast<Words>((wide + ((wide >> 13) & 1) + (0xfffU - (112U << 23))) >> 13);
      const Words special = 0x7c00 | (is_nan & (0x200 | ((magnitude >> 13) & 0x3ff)));
      const Words regular = (is_small & small) | (~is_small & normal);
      B::truncate((is_special & special) | (~is_special & regular) | (sign >> 16), to);
    }
  }

 private:
  static constexpr std::int32_t kSign = std::numeric_limits<std::int32_t>::min();
};

#endif

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
