// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <tensornorm/kernels/dispatch.hpp>

namespace tensornorm::kernels {

enum class Store { ordinary, streaming };
/// Streaming stores are such; elsewhere they are ordinary ones.
#if defined(__clang__) || (defined(__x86_64__) && defined(__GNUC__))
inline constexpr bool kStreams = true;
#else
inline constexpr bool kStreams = false;
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
#endif

/// Makes the compiler read `object` from memory at its next use.
template <class T>
TENSORNORM_INLINE void reload([[maybe_unused]] T& object) {
#if defined(__GNUC__)
  asm("" : "+m"(object));
#endif
}

/// Orders streaming stores before what the thread does next.
template <Store kStore>
TENSORNORM_INLINE void fence() {
#if defined(__x86_64__) && defined(__GNUC__)
  if constexpr (kStore == Store::streaming) asm volatile("sfence" ::: "memory");
#endif
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
