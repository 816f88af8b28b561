// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <tensornorm/core/scalar.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#include <type_traits>

namespace tensornorm::kernels {

enum class Store { ordinary, streaming };
/// Streaming stores are such; elsewhere they are ordinary ones.
#if defined(__clang__) || (defined(__x86_64__) && defined(__GNUC__))
inline constexpr bool kStreams = true;
#else
inline constexpr bool kStreams = false;
#endif
/// Parts of vectors of more than 16 bytes are loaded by an instruction.
#if !defined(__clang__) && defined(__x86_64__) && defined(__GNUC__)
inline constexpr bool kMasks = true;
#else
inline constexpr bool kMasks = false;
#endif

/// Registers hold numbers with more digits than their types have: what has to be rounded goes through memory, by reload().
#if defined(__i386__) && !defined(__SSE2_MATH__)
inline constexpr bool kRegistersHoldMore = true;
#else
inline constexpr bool kRegistersHoldMore = false;
#endif

inline namespace TENSORNORM_ABI {

#if defined(__GNUC__)
// Outside the class: g++ miscompiles a dependent vector_size typedef inside it.
template <class T, int kLanes>
struct vector_of {
  typedef T type __attribute__((vector_size(sizeof(T) * kLanes)));
};

/// Writes a vector to memory of any alignment; streaming: to memory of the vector's own, past the caches.
///
/// kVex: the code around it has AVX, among which an instruction of the older encoding would be slow.
template <Store kStore, bool kVex, class Vector>
TENSORNORM_INLINE void write(const Vector& v, void* p) {
  if constexpr (kStore == Store::ordinary) __builtin_memcpy(p, &v, sizeof v);
#if defined(__clang__)
  else __builtin_nontemporal_store(v, reinterpret_cast<Vector*>(p));
#elif defined(__x86_64__)
  else if constexpr (sizeof v == 8) asm("movnti %1, %0" : "=m"(*reinterpret_cast<Vector*>(p)) : "r"(v));
  else if constexpr (!kVex) asm("movntps %1, %0" : "=m"(*reinterpret_cast<Vector*>(p)) : "x"(v));
  else asm("vmovntps %1, %0" : "=m"(*reinterpret_cast<Vector*>(p)) : "v"(v));
#else
  else __builtin_memcpy(p, &v, sizeof v);
#endif
}

template <class T>
struct lane_integer;
template <>
struct lane_integer<float> {
  using type = std::int32_t;
};
template <>
struct lane_integer<double> {
  using type = std::int64_t;
};

/// 16 integers of 0, 16 of all ones, 16 of 0: a window into it keeps the lanes from any one on, or up to any one.
template <class T>
struct LaneMasks {
  using Integer = typename lane_integer<T>::type;
  alignas(64) static constexpr Integer values[48] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,   //
                                                     -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                                     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};
  static const Integer* from(int first) { return values + 16 - first; }
  static const Integer* below(int end) { return values + 32 - end; }
};

#if !defined(__clang__) && defined(__x86_64__)  // where kMasks
/// The mask of lanes [first, end).
TENSORNORM_INLINE std::uint16_t lane_mask(int first, int end) { return static_cast<std::uint16_t>((1U << end) - (1U << first)); }

/// Lanes [first, end) of a vector of 64 bytes, to the one at p, of which nothing else is written.
template <class T, class Vector>
TENSORNORM_INLINE void store_masked(const Vector& v, T* p, int first, int end) {
  auto& to = *reinterpret_cast<char(*)[sizeof v]>(p);  // at any address
  if constexpr (sizeof(T) == 4) asm("vmovups %1, %0 %{%2%}" : "+m"(to) : "v"(v), "Yk"(lane_mask(first, end)));
  else asm("vmovupd %1, %0 %{%2%}" : "+m"(to) : "v"(v), "Yk"(lane_mask(first, end)));
}

/// Lanes [first, end) of v become those of the vector at p, of which nothing else is read.
template <class T, class Vector>
TENSORNORM_INLINE void load_masked(Vector& v, const T* p, int first, int end) {
  const auto& from = *reinterpret_cast<const char(*)[sizeof v]>(p);  // at any address
  if constexpr (sizeof v == 64) {
    const std::uint16_t chosen = lane_mask(first, end);
    if constexpr (sizeof(T) == 4) asm("vmovups %1, %0 %{%2%}" : "+v"(v) : "m"(from), "Yk"(chosen));
    else asm("vmovupd %1, %0 %{%2%}" : "+v"(v) : "m"(from), "Yk"(chosen));
  } else {
    typename vector_of<typename lane_integer<T>::type, int(sizeof v / sizeof(T))>::type chosen, below, bits, part;
    __builtin_memcpy(&chosen, LaneMasks<T>::from(first), sizeof chosen);
    __builtin_memcpy(&below, LaneMasks<T>::below(end), sizeof below);
    chosen &= below;
    if constexpr (sizeof(T) == 4) asm("vmaskmovps %2, %1, %0" : "=x"(part) : "x"(chosen), "m"(from));
    else asm("vmaskmovpd %2, %1, %0" : "=x"(part) : "x"(chosen), "m"(from));
    __builtin_memcpy(&bits, &v, sizeof bits);
    bits = part | (bits & ~chosen);
    __builtin_memcpy(&v, &bits, sizeof bits);
  }
}
#endif
#endif

/// Copies n < kCapacity elements by overlapping moves of fixed size: no call to memcpy.
template <int kCapacity, class T>
TENSORNORM_INLINE void copy_few(T* to, const T* from, Index n) {
  constexpr int half = kCapacity / 2;
  if constexpr (half == 0) {
    return;
  } else {
    if (n < half) return copy_few<half>(to, from, n);
    struct Block {
      T values[std::size_t(half)];
    } first, last;
    std::memcpy(static_cast<void*>(&first), from, sizeof first);
    std::memcpy(static_cast<void*>(&last), from + n - half, sizeof last);
    std::memcpy(static_cast<void*>(to), &first, sizeof first);
    std::memcpy(static_cast<void*>(to + n - half), &last, sizeof last);
  }
}

/// One element, from memory of any alignment.
template <class A, class T>
TENSORNORM_INLINE A load_one(const T* p) {
  if constexpr (std::is_trivially_copyable_v<T>) {
    T value;
    std::memcpy(static_cast<void*>(&value), static_cast<const void*>(p), sizeof value);
    return static_cast<A>(value);
  } else {
    return static_cast<A>(*p);
  }
}

/// Makes the compiler read `object` from memory at its next use.
template <class T>
TENSORNORM_INLINE void reload([[maybe_unused]] T& object) {
#if defined(__GNUC__)
  asm("" : "+m"(object));
#endif
}

/// Orders streaming stores before what the thread does next.
TENSORNORM_INLINE void fence() {
#if defined(__SSE__) && defined(__GNUC__)
  asm volatile("sfence" ::: "memory");
#endif
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
