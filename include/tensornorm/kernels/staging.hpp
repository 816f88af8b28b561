// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstring>
#include <tensornorm/kernels/normalize.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Short pieces of one stretch of memory, gathered in the L1 cache and written past the caches by whole lines: a line that is streamed
/// must not be touched twice. The first and the last one may be parts, and are written by ordinary stores, as is one of kPacedGatheredLines
/// where streams are paced.
template <class T, Index kLongest>
class LineStage {
 public:
  /// `to`: where the stretch begins, aligned to its elements.
  TENSORNORM_INLINE explicit LineStage(T* to) : to_(to), first_(elements_past_line(to)), filled_(first_) {}
  LineStage(const LineStage&) = delete;
  LineStage& operator=(const LineStage&) = delete;

  /// Memory for the next n <= kLongest elements of the stretch, to be written before the next call.
  template <class I>
  TENSORNORM_INLINE T* next(Index n) {
    if (filled_ + n > kRoom || (paced_ && filled_ >= kPacedGatheredLines * kLine<T>)) write_lines<I>();
    T* const room = elements() + filled_;
    filled_ += n;
    return room;
  }
  /// Writes what is still here.
  template <class I>
  TENSORNORM_INLINE void finish() {
    write_lines<I>();
    copy(to_, first_, filled_);
  }

 private:
  static constexpr Index kRoom = 2 * kLongest;
  static_assert(kLine<T> * Index(sizeof(T)) == 64 && kLine<T> <= kLongest, "a line and a piece fit");

  T* elements() { return reinterpret_cast<T*>(memory_); }
  void copy(T* to, Index begin, Index end) {
    std::memcpy(static_cast<void*>(to), memory_ + std::size_t(begin) * sizeof(T), std::size_t(end - begin) * sizeof(T));
  }

  template <class I>
  TENSORNORM_INLINE void write_lines() {
    const Index whole = filled_ / kLine<T> * kLine<T>;
    if (whole == 0) return;
    Index i = 0;
    if (first_ > 0) {
      i = kLine<T>;
      copy(to_, first_, i);
      to_ += i - first_;
      first_ = 0;
    }
    const Index streamed = whole - (paced_ ? kLine<T> : 0);
    for (; i < streamed; i += kLine<T>, to_ += kLine<T>) stream_line<I>(memory_ + std::size_t(i) * sizeof(T), to_);
    if (i < whole) {
      copy(to_, i, whole);
      to_ += kLine<T>;
    }
    std::memcpy(memory_, memory_ + std::size_t(whole) * sizeof(T), std::size_t(filled_ - whole) * sizeof(T));
    filled_ -= whole;
  }
  template <class I>
  TENSORNORM_INLINE static void stream_line(const std::byte* from, void* to) {
#if defined(__GNUC__)
    typename vector_of<float, I::bytes / int(sizeof(float))>::type v;
    for (std::size_t k = 0; k < 64; k += sizeof v) {
      std::memcpy(&v, from + k, sizeof v);
      write<Store::streaming, (sizeof v > 16)>(v, static_cast<std::byte*>(to) + k);
    }
#else
    std::memcpy(to, from, 64);
#endif
  }

  const bool paced_ = paces_streams();
  T* to_;         ///< where the first element that is here goes
  Index first_;   ///< its place in memory_, beside its place in a line
  Index filled_;  ///< the place after the last one
  alignas(64) std::byte memory_[std::size_t(kRoom) * sizeof(T)];
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
