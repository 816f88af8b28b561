// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>
#include <tensornorm/kernels/load.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// What is done to each element. A map names its coefficients once per run: one value for all of it, or an array beside it.

/// One value for the whole run.
template <class L>
struct Uniform {
  L value;
  template <class Loader>
  TENSORNORM_INLINE const L& at(Index, const Loader&) const {
    return value;
  }
};
/// A value per element of the run.
template <class L, class P>
struct PerElement {
  const P* values;
  template <class Loader>
  TENSORNORM_INLINE L at(Index i, const Loader& load) const {
    return load(values + i);
  }
};

/// y = (x - mean) * scale + shift.
template <class L, class Coefficient>
struct ScaleMap {
  Coefficient mean, scale, shift;
  TENSORNORM_INLINE ScaleMap(const Coefficient& m, const Coefficient& a, const Coefficient& b) : mean(m), scale(a), shift(b) {}
  template <class Loader>
  TENSORNORM_INLINE L operator()(const L& x, Index i, const Loader& load) const {
    L y = shift.at(i, load);
    y.fma(x - mean.at(i, load), scale.at(i, load));
    return y;
  }
  /// The map at i, for any x.
  template <class Loader>
  TENSORNORM_INLINE ScaleMap<L, Uniform<L>> held(Index i, const Loader& load) const {
    return {{mean.at(i, load)}, {scale.at(i, load)}, {shift.at(i, load)}};
  }
  template <class T>
  TENSORNORM_INLINE static void prefetch(const T* x, Index i, bool to_l2) {
    fetch(x + i, to_l2);
  }
};

/// y = ((x - mean) * scale + shift) * weight + bias.
template <class L, class Coefficient, class Weight, class Bias = Weight>
struct AffineMap : ScaleMap<L, Coefficient> {
  Weight weight;
  Bias bias;
  TENSORNORM_INLINE AffineMap(const Coefficient& m, const Coefficient& a, const Coefficient& b, const Weight& w, const Bias& c)
      : ScaleMap<L, Coefficient>(m, a, b), weight(w), bias(c) {}
  /// With weight and bias as they are, of every element.
  template <class Loader>
  TENSORNORM_INLINE AffineMap<L, Uniform<L>, Weight, Bias> held(Index i, const Loader& load) const {
    return {{this->mean.at(i, load)}, {this->scale.at(i, load)}, {this->shift.at(i, load)}, weight, bias};
  }
  template <class Loader>
  TENSORNORM_INLINE L operator()(const L& x, Index i, const Loader& load) const {
    L y = bias.at(i, load);
    y.fma(ScaleMap<L, Coefficient>::operator()(x, i, load), weight.at(i, load));
    return y;
  }
};

/// Elements come from vectors, and there are stores past the caches.
template <class A>
inline constexpr bool streams_vectors = kStreams && virtual_width<A> > 1;

/// A part of a vector, lanes [first, first + count) of that at x, written by itself. What is not there counts as the element beside it, or a
/// coefficient that is far from 0 might overflow.
template <class A, class I, class T, class Y, class Map, class Load>
TENSORNORM_INLINE void transform_part(const T* x, Y* y, Index at, Index first, Index count, const Map& map, const Load& load) {
  using L = HardwareLanes<A, I>;
  const L lanes = load_part<L, A>(x + at, first, first + count, load_one<A>(x + at + first));
  store_few(map(lanes, at, load), y + at + first, count, first);
}
/// A first or a last part of a vector of what is written is best written by itself: there are masks, and vectors are lines.
template <class A, class I, class Y>
inline constexpr bool writes_parts = HardwareLanes<A, I>::masks && HardwareLanes<A, I>::width == kLine<Y> && std::is_same_v<A, Y>;

/// transform_run() of a vector or more, by ordinary stores.
///
/// Stores are aligned. A first or a last part of a vector is written by a mask, since a line that is written twice takes longer; where there
/// are no masks, by a vector that overlaps those beside it, formed before anything is written.
template <class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_vectors(const T* x, Y* y, Index n, const Map& map) {
  using L = HardwareLanes<A, I>;
  constexpr Index w = L::width;
  const WholeLoader<L> whole;
  const auto at = [&](Index i) TENSORNORM_INLINE_LAMBDA { return map(L::load(x + i), i, whole); };
  const Index head = n >= 4 * w ? elements_to_alignment(y, w) : 0, last_one = n - w;
  const auto write_whole = [&]() TENSORNORM_INLINE_LAMBDA {
    Index i = head;
    for (const Index last_pair = n - 2 * w; i <= last_pair; i += 2 * w) {
      at(i).store(y + i);
      at(i + w).store(y + i + w);
    }
    for (; i <= last_one; i += w) at(i).store(y + i);
    return i;
  };
  if constexpr (writes_parts<A, I, Y>) {
    if (head > 0) transform_part<A, I>(x, y, head - w, w - head, head, map, LastLoader<L, A>{head});
    if (const Index i = write_whole(); i < n) transform_part<A, I>(x, y, i, 0, n - i, map, FewLoader<L, A>{n - i});
  } else {
    const bool headed = head > 0, tailed = ((n - head) & (w - 1)) != 0;
    L first, last;
    if (tailed) last = at(last_one);
    if (headed) first = at(0);
    write_whole();
    if (tailed) last.store(y + last_one);
    if (headed) first.store(y);
  }
}

/// transform_run() of elements [begin, end), two lines or more or whole aligned ones, past the caches; never in place.
///
/// Whole lines are streamed, and the elements before and after them stored as usual: a line that is streamed must not be touched twice, nor
/// by a masked vector that reaches into it. Where it is to be `paced`, the last line is stored so even if it is whole; where the part begins
/// at 0, the last whole line, since a part of a line is no pace.
template <class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void stream_vectors(const T* x, Y* y, Index begin, Index end, const Map& map, const ReadAhead& ahead, bool paced) {
  using L = HardwareLanes<A, I>;
  constexpr Index w = L::width;
  const WholeLoader<L> whole;
  const auto at = [&](Index i) TENSORNORM_INLINE_LAMBDA { return map(L::load(x + i), i, whole); };
  const Index last_one = end - w, before = elements_to_alignment(y + begin, kLine<Y>), head = begin + before;
  const Index usual = !paced ? 0 : begin > 0 ? 1 : kLine<Y>;
  const Index lines_end = head + (end - head - usual) / kLine<Y> * kLine<Y>;
  const bool to_l2 = fetches_to_l2();
  Index i = begin;
  if constexpr (writes_parts<A, I, Y>) {
    if (before > 0) transform_part<A, I>(x, y, head - w, w - before, before, map, LastLoader<L, A>{before});
  } else {
    for (; i + w <= head; i += w) at(i).store(y + i);
    if (i < head) store_few(at(i), y + i, head - i);
  }
  i = head;
  const auto fetch_ahead = [&](Index count) TENSORNORM_INLINE_LAMBDA {
    if (ahead.distance != 0)
      for (Index k = 0; k < count; k += kLine<T>) map.prefetch(x, ahead.from(i) + k, to_l2);
  };
  for (const Index last_pair = lines_end - 2 * w; i <= last_pair; i += 2 * w) {
    fetch_ahead(2 * w);
    at(i).template store<Store::streaming>(y + i);
    at(i + w).template store<Store::streaming>(y + i + w);
  }
  if (i < last_one) fetch_ahead(kLine<T>);
  for (; i < lines_end; i += w) at(i).template store<Store::streaming>(y + i);
  for (; i <= last_one; i += w) at(i).store(y + i);
  const Index left = end - i;
  if constexpr (writes_parts<A, I, Y>) {
    if (left > 0) transform_part<A, I>(x, y, i, 0, left, map, FewLoader<L, A>{left});
  } else {
    if (left > 0) store_few(at(last_one), y + i, left, w - left);
  }
}

/// Asks for the line that y[0, n) ends within, before the first is written: the ordinary store to a part of it would hold up those behind
/// it. A last line that is whole is not asked for: that wait is the pace.
template <class Y>
TENSORNORM_INLINE void fetch_end(const Y* y, Index n) {
  if (elements_past_line(y + n) != 0) fetch(y + (n - 1), fetches_to_l2());
}

/// Whole lines of a part, the last of which is stored as usual, where streams are paced: of long runs (33 is faster than 24 and 49), whose last
/// part has up to twice as many; and of what is gathered in the first level before it is written, whose stores wait with the others.
inline constexpr Index kPacedLines = 33, kPacedGatheredLines = 49;

/// y[i] = map(x[i], i) over n contiguous elements; y may be x, or what else the map reads at i, unless its stores stream. `ahead`:
/// what the streaming form fetches, whose data come from memory.
template <class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_run(const T* x, Y* y, Index n, const Map& map, const ReadAhead& ahead, Store store) {
  using L = HardwareLanes<A, I>;
  if (n < L::width) [[unlikely]] {
    const FewLoader<L, A> few{n};
    store_few(map(few(x), 0, few), y, n);
  } else if (store == Store::streaming && n >= 2 * kLine<Y>) {
    const bool paced = paces_streams();
    if (paced) fetch_end(y, n);
    const Index part = paced ? kPacedLines * kLine<Y> : n;
    for (Index begin = 0, end; begin < n; begin = end) {
      end = begin + elements_to_alignment(y + begin, kLine<Y>) + part;
      if (end > n - part) end = n;
      stream_vectors<A, I>(x, y, begin, end, map, ahead, paced);
    }
  } else {
    transform_vectors<A, I>(x, y, n, map);
  }
}

/// transform_run() of all that a call has, by ordinary stores: a single vector without the loops.
template <class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_alone(const T* x, Y* y, Index n, const Map& map) {
  using L = HardwareLanes<A, I>;
  if (n == L::width) map(L::load(x), 0, WholeLoader<L>{}).store(y);
  else transform_run<A, I>(x, y, n, map, {}, Store::ordinary);
}

/// Vectors of a run that are all formed before any of them is written, at most.
inline constexpr int kFewVectors = 4;

/// transform_run() of at least one vector and at most kVectors: they overlap, some may be the same, and all are formed before any of them
/// is written.
template <int kVectors, class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_few(const T* x, Y* y, Index n, const Map& map) {
  using L = HardwareLanes<A, I>;
  const WholeLoader<L> whole;
  const auto at = [&](int k) TENSORNORM_INLINE_LAMBDA { return std::min(Index(k) * L::width, n - L::width); };
  [&]<int... k>(std::integer_sequence<int, k...>) TENSORNORM_INLINE_LAMBDA {
    L results[] = {map(L::load(x + at(k)), at(k), whole)...};
    (results[k].store(y + at(k)), ...);
  }(std::make_integer_sequence<int, kVectors>());
}
/// The same of `count` times `again` runs, each `step` after the one before, that meet the same coefficients, which stay in registers, but for
/// what begin(map, i) sets in the map of each vector before the i-th time.
template <int kVectors, class A, class I, class T, class Y, class Map, class F>
TENSORNORM_INLINE void transform_few_runs(const T* x, Y* y, Index n, Index step, Index count, Index again, const Map& map, const F& begin) {
  using L = HardwareLanes<A, I>;
  const WholeLoader<L> whole;
  const auto at = [&](int k) TENSORNORM_INLINE_LAMBDA { return std::min(Index(k) * L::width, n - L::width); };
  [&]<int... k>(std::integer_sequence<int, k...>) TENSORNORM_INLINE_LAMBDA {
    decltype(map.held(0, whole)) maps[] = {map.held(at(k), whole)...};
    for (Index time = 0, i = 0; time < count; ++time) {
      (begin(maps[k], time), ...);
      for (Index run = 0; run < again; ++run, i += step) {
        L results[] = {maps[k](L::load(x + i + at(k)), i, whole)...};
        (results[k].store(y + i + at(k)), ...);
      }
    }
  }(std::make_integer_sequence<int, kVectors>());
}

/// Vectors of columns whose coefficients, so many for each, registers hold while rows are gone through; or all but a few of them.
template <class I, int kCoefficients>
inline constexpr int kHeldVectors = std::min(8, (I::bytes == 64 ? 32 : 16) / kCoefficients);

/// transform_run() of n rows, one after the other, of kVectors vectors with the same coefficients each, which stay in registers.
template <int kVectors, class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_rows(const T* x, Y* y, Index n, const Map& map) {
  using L = HardwareLanes<A, I>;
  constexpr Index w = L::width, columns = kVectors * w;
  const WholeLoader<L> whole;
  [&]<int... k>(std::integer_sequence<int, k...>) TENSORNORM_INLINE_LAMBDA {
    decltype(map.held(0, whole)) maps[] = {map.held(k * w, whole)...};
    for (Index i = 0, end = n * columns; i < end; i += columns) (maps[k](L::load(x + i + k * w), i, whole).store(y + i + k * w), ...);
  }(std::make_integer_sequence<int, kVectors>());
}

/// The shortest run there is a transform_few() for. Runs of half a vector of 16 or more take the vectors of half that width: parts of a vector
/// go through memory.
template <class A, class I>
inline constexpr Index kShortestFew = HardwareLanes<A, I>::width > 8 ? HardwareLanes<A, I>::width / 2 : HardwareLanes<A, I>::width;

/// Calls f(vectors, isa) for the transform_few() of runs of n elements; returns whether there is one.
template <class A, class I, class F>
TENSORNORM_INLINE bool with_few_vectors(Index n, const F& f) {
  constexpr Index w = HardwareLanes<A, I>::width;
  if (n < kShortestFew<A, I> || n > kFewVectors * w) return false;
  const std::integral_constant<int, 2> two;
  if constexpr (kShortestFew<A, I> < w) {
    if (n < w) {
      f(two, typename I::Half());
      return true;
    }
  }
  if (n <= 2 * w) f(two, I());
  else f(std::integral_constant<int, kFewVectors>(), I());
  return true;
}

/// Calls f(vectors, isa, first, count) for the parts [first, first + count) of runs of n elements, at least kShortestFew, for each of which
/// there is a transform_few().
template <class A, class I, class F>
TENSORNORM_INLINE void with_parts_of_few_vectors(Index n, const F& f) {
  constexpr Index w = HardwareLanes<A, I>::width;
  Index first = 0;
  for (Index count; n - first > kFewVectors * w; first += count) {
    count = std::min(kFewVectors * w, (n - first) / w * w - w);  // a vector is left
    f(std::integral_constant<int, kFewVectors>(), I(), first, count);
  }
  with_few_vectors<A, I>(n - first, [&]<class J>(auto vectors, J isa) TENSORNORM_INLINE_LAMBDA { f(vectors, isa, first, n - first); });
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
