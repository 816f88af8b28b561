// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>
#include <tensornorm/core/scalar.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace tensornorm {

// What stays in the processor's caches until it is read again.

/// n times so many bytes, or the most that can be counted: more than any cache holds.
inline Index traffic_of(Index n, Index bytes) {
  constexpr Index most = std::numeric_limits<Index>::max();
  return bytes > most / n ? most : n * bytes;
}

/// Bytes of x that are still in the L2 cache when they are normalized.
inline constexpr Index kCacheBytes = Index{512} << 10;
/// Bytes of the shortest rows of which the next one's beginning is fetched before one is written (shorter ones were slower), and of that
/// beginning (of rows of 32 KiB and more, all of it was slower).
inline constexpr Index kShortestFetchedRow = 1536, kFetchedOfNextRow = 2048;
/// Bytes of the longest rows that are taken together: where all is in a quarter of the last level, and where it is not; where it is far, those
/// keep memory waiting; and of what is streamed, where x and y are more than the last level.
inline constexpr Index kRowTogether = 3584, kShortRowTogether = 1024, kRowTogetherFar = 2048, kShortRowTogetherFar = 256;
inline constexpr Index kRowTogetherStreamed = 2047;
/// Bytes of the longest rows beside parameters of which the next one is not fetched while gradients are written past the caches: the sums have
/// asked for it, or for most of it. Not of 16 bits, where that was slower.
inline constexpr Index kFetchedBySums = Index{4} << 10;
/// Parameters of at most so many bytes, and met by at least so many rows, are copied to where lines hold their vectors as they hold those of what
/// is written beside them: where each vector reached across two lines, rows took up to twice as long, past the caches too.
inline constexpr Index kMostInStep = Index{64} << 10, kFewestInStep = 16;
/// Bytes of the longest slices that are asked for before they are read: a longer one the processor fetches by itself, once it has seen that it
/// is read.
inline constexpr Index kFetchedSlice = 2048;
/// Statistics of fewer bytes of x and dy are written before the next one is read: its sums would be over before the stores are.
inline constexpr Index kBesideNextBytes = Index{32} << 10;
/// Elements of 4 bytes or fewer in the shortest run that is written past the caches, but for is_streamed_row() and is_streamed_column();
/// of wider ones as many bytes.
inline constexpr Index kStreamedRun = 768;
/// Bytes of the shortest that these two take where the last level is far. Measured where each run goes on in the next.
inline constexpr Index kStreamedFar = 384;
/// Statistics of fewer bytes that are given are written past a cache only where all of it is three times as large.
inline constexpr Index kUnitBytes = Index{8} << 10;

/// Bytes of the cache of a level (1: of data), as the system says; where it does not, `otherwise`.
inline Index cache_size([[maybe_unused]] int level, Index otherwise) {
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
  const long size = sysconf(level == 1 ? _SC_LEVEL1_DCACHE_SIZE : level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
  if (size > 0) return Index(size);
#endif
  return otherwise;
}

/// Bytes of the last-level cache a thread reaches: what the system says, but not above 32 MiB, since some systems add up the caches
/// of all cores (335 MB was seen where there were 32).
inline Index last_level_cache() {
  constexpr Index most = Index{32} << 20;
  static const Index bytes = std::min(cache_size(3, most), most);
  return bytes;
}

inline Index first_level_cache() {
  static const Index bytes = cache_size(1, Index{32} << 10);
  return bytes;
}

inline Index second_level_cache() {
  static const Index bytes = cache_size(2, 2 * kCacheBytes);
  return bytes;
}

/// Reading the last-level cache takes nearly as long as reading memory: so it was on a server of Intel's, where it is one for many cores.
inline bool last_level_is_far() { return kernels::is_intel(); }

/// Whether the second of two passes over x, where its stores stream, fetches the next statistic, of so many bytes. What does not stay in
/// the L2 cache until it is read has only gone to the last level. (Over x and dy it does so where that is not far: even little of both
/// was slower.)
inline bool fetches_next(Index bytes, bool far = last_level_is_far()) { return !far || bytes < kCacheBytes; }

/// Bytes of the next row, its first ones, to fetch before a row is written by ordinary stores; the processor goes on from there by itself.
/// `traffic`: bytes read and written, which the L2 cache does not hold; in place those of x.
inline Index fetched_of_next_row(Index row, Index traffic, bool far = last_level_is_far(), Index cache = second_level_cache()) {
  return far && traffic > cache && row >= kShortestFetchedRow ? std::min(row, kFetchedOfNextRow) : 0;
}

/// Whether the slices of the next statistic, of so many bytes each, are asked for while one is written by ordinary stores. `traffic`: bytes read
/// and written. That costs a tenth of the time where they are in the caches, and saves up to a third where they are not. Forward x has mostly
/// just been made; backward it is what forward read, before all the layers above. Where the last level is far, not tried.
inline bool fetches_slices(Index slice, Index traffic, bool forward, bool far = last_level_is_far(), Index cache = last_level_cache()) {
  return !far && slice <= kFetchedSlice && traffic > cache / (forward ? 4 : 16);
}

/// Whether the gradients of a statistic, where they stream, are written beside the sums of the next one: it reads and writes at once, but
/// has the x and dy of both in hand.
///
/// `bytes`: of the x and dy of a statistic; `beside`: of the parameters and their gradients beside them. So it is faster where the L2
/// cache keeps all of it, or not even one statistic. (Where the last level is near, fetching the next statistic does as much.)
inline bool writes_beside_next(Index bytes, Index beside, bool far = last_level_is_far(), Index cache = second_level_cache()) {
  return far && bytes >= kBesideNextBytes && ((bytes < cache && 2 * bytes + beside < cache) || bytes > cache);
}

/// Of the last-level cache what is counted on to be here still when it is read next: half of one that is near, which other cores fill with
/// what is theirs. (Of one that is far, the most that last_level_cache() tells: it is many times that.)
inline Index lasting_cache(bool far = last_level_is_far(), Index cache = last_level_cache()) { return far ? cache : cache / 2; }

/// So much read and written by strips of columns, whose next use of x is far away, is out of the cache before anybody reads it.
inline bool leaves_cache(Index traffic, Index cache = lasting_cache()) { return traffic > 3 * cache / 4; }

/// Streaming stores take runs of so many bytes.
inline bool is_streamed_run(Index bytes, Index element) { return bytes >= kStreamedRun * std::min(element, Index{4}); }

/// And shorter ones where rows are walked, but for forward with given statistics: half of that; a quarter where a run is as long as whole
/// lines, or where `several` make a statistic; where the last level is far, of kStreamedFar. Not of 16 bits, which take longer to be converted
/// than to be written.
inline bool is_streamed_row(Index bytes, Index element, bool several, bool far = last_level_is_far()) {
  constexpr Index whole = 4 * kStreamedRun;
  if (element < 4) return is_streamed_run(bytes, element);
  if (far) return bytes >= kStreamedFar;
  return bytes >= whole / 2 || (bytes >= whole / 4 && (several || bytes % 64 == 0));
}

/// And runs within rows of columns: a quarter of is_streamed_run()'s; of kStreamedFar where the last level is far and each goes
/// on in the next.
inline bool is_streamed_column(Index bytes, Index element, bool gapless, bool far = last_level_is_far()) {
  return is_streamed_run(traffic_of(4, bytes), element) || (gapless && far && bytes >= kStreamedFar);
}

}  // namespace tensornorm
