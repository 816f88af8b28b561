// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tensornorm/kernels/simd.hpp>
#include <type_traits>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Lanes [first, end) of the vector at p, of which nothing else is read; the others hold `fill`.
template <class L, class A, class T>
TENSORNORM_INLINE L load_part(const T* p, Index first, Index end, A fill) {
  if constexpr (std::is_same_v<A, T>) {
    return L::load_part(p, int(first), int(end), fill);
  } else {
    T few[L::width];
    std::memset(static_cast<void*>(few), 0, sizeof few);
    copy_few<L::width>(few + first, p + first, end - first);
    A values[L::width];
    L::load(few).store(values);
    for (Index i = 0; i < first; ++i) values[i] = fill;
    for (Index i = end; i < L::width; ++i) values[i] = fill;
    return L::load(values);
  }
}

/// The first n lanes from memory, n < width; the others hold `fill`.
template <class L, class A, class T>
TENSORNORM_INLINE L load_few(const T* p, Index n, A fill = A(0)) {
  return load_part<L, A>(p, 0, n, fill);
}

/// n < width lanes, those from `first` on, to memory.
template <class L, class T>
TENSORNORM_INLINE void store_few(const L& lanes, T* p, Index n, Index first = 0) {
  if constexpr (std::is_same_v<T, typename L::Number>) {
    lanes.store_part(p - first, int(first), int(first + n));
  } else {
    T values[L::width];
    lanes.store(values);
    copy_few<L::width>(p, values + first, n);
  }
}

/// A job: to[i] = from[i] in Wide, whose lanes load T.
template <class Wide, class T>
struct Widen {
  using A = Wide;

  const T* from;
  A* to;
  Index n;

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    using L = HardwareLanes<A, I>;
    Index i = 0;
    for (; i + L::width <= n; i += L::width) L::load(from + i).store(to + i);
    if (i < n) store_few(load_few<L, A>(from + i, n - i), to + i, n - i);
  }
};

// A loader turns memory at an element into lanes: a whole vector, or the few that are left.

/// The whole vector at p.
template <class L>
struct WholeLoader {
  template <class T>
  TENSORNORM_INLINE L operator()(const T* p) const {
    return L::load(p);
  }
};
/// The first n elements at p.
template <class L, class A>
struct FewLoader {
  Index n;
  template <class T>
  TENSORNORM_INLINE L operator()(const T* p) const {
    return load_few<L, A>(p, n);
  }
};

/// The last n elements of the vector at p, which begins `width - n` elements before the first that is read; the others are 0.
template <class L, class A>
struct LastLoader {
  Index n;
  template <class T>
  TENSORNORM_INLINE L operator()(const T* p) const {
    return load_part<L, A>(p, L::width - n, L::width, A(0));
  }
};

/// Elements of a cache line.
template <class T>
inline constexpr Index kLine = 64 / Index(sizeof(T)) > 0 ? 64 / Index(sizeof(T)) : 1;
/// Elements from p to the next address a whole vector of n elements may be stored at; anything below n where no number of elements leads there.
template <class T>
TENSORNORM_INLINE Index elements_to_alignment(const T* p, Index n) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return Index((0 - address) / sizeof(T)) & (n - 1);
}

/// Elements of p's cache line before it.
template <class T>
TENSORNORM_INLINE Index elements_past_line(const T* p) {
  return Index(reinterpret_cast<std::uintptr_t>(p) / sizeof(T)) & (kLine<T> - 1);
}

/// How far ahead of a read its line is asked for: 3 KiB (tried: 1.5 and 6 KiB, 10-20 % slower from memory).
template <class T>
inline constexpr Index kFetchAhead = 48 * kLine<T>;

/// What is asked for while a run is read: so many elements on, in it or in the run after it. Where two operands are read, the strides
/// are those of x: of another one, laid out otherwise, a wrong place may be asked for.
struct ReadAhead {
  Index distance = 0;                             ///< elements; 0: nothing is asked for
  Index end = std::numeric_limits<Index>::max();  ///< elements of the run
  Index jump = 0;                                 ///< elements from there to where the next one begins

  /// Where element i is read.
  TENSORNORM_INLINE Index from(Index i) const {
    const Index ahead = i + distance;
    return ahead < end ? ahead : ahead + jump;
  }
  /// The same for a part of the run that begins at element i.
  TENSORNORM_INLINE ReadAhead part(Index i) const { return {distance, end - i, jump}; }
};

/// kFetchAhead on in a run of so many elements, or in the one that begins `next` elements after it.
template <class T>
TENSORNORM_INLINE ReadAhead read_on(Index extent, Index next) {
  return {std::min(kFetchAhead<T>, extent), extent, next - extent};
}

/// Asks for the line at p, into the second-level cache: in the sums of columns the first has no room for what is needed so much later.
template <class T>
TENSORNORM_INLINE void fetch_to_l2([[maybe_unused]] const T* p) {
#if defined(__GNUC__)
  __builtin_prefetch(p, 0, 1);
#endif
}
/// Asks for the line at p of an array that is gone through from end to end; to_l2: fetches_to_l2(), which a loop asks before it begins.
template <class T>
TENSORNORM_INLINE void fetch(const T* p, bool to_l2) {
  if (to_l2) return fetch_to_l2(p);
#if defined(__GNUC__)
  __builtin_prefetch(p, 0, 3);
#endif
}
/// Asks for a run that is read soon.
template <class T>
TENSORNORM_INLINE void fetch_run(const T* x, Index n, bool to_l2) {
  for (Index i = 0; i < n; i += kLine<T>) fetch(x + i, to_l2);
}
/// On AMD's processors fetch() asks as a load does, which waits where too many are under way: streaming stores outrun others, which are
/// thrown away. On Intel's eval took 1.1 times as long so: stores past the caches may wait for the same buffers.
TENSORNORM_INLINE bool fetches_to_l2() { return is_intel(); }
/// On AMD's processors the last whole line of what is streamed is stored as usual, which waits until it has come from memory. So do the
/// stores behind it, while reads go on: where nothing but streaming stores was under way, these held reads up, and took up to 1.5 times
/// as long. On Intel's it was slower.
TENSORNORM_INLINE bool paces_streams() { return !is_intel(); }

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
