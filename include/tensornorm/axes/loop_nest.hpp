// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/axes/policies.hpp>
#include <tensornorm/axes/roles.hpp>
#include <tensornorm/core/abi.hpp>
#include <tensornorm/core/fixed_array.hpp>
#include <tensornorm/core/inlining.hpp>
#include <tensornorm/core/scalar.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// Tensors that are walked together: x and y forward; x, dy and dx backward.
inline constexpr int kMaxOperands = 3;
/// Loops a nest can hold: a tensor of rank 8 with one axis split and a unit innermost loop.
inline constexpr int kMaxLoops = 10;

using Strides = Extents<kMaxOperands>;

/// One loop of a nest, strides in elements. statistic == 0: reduced. param == 0: weight and bias are broadcast along it.
struct Loop {
  Index extent;
  Strides data;
  Index statistic;
  Index param;
};

constexpr bool reduces(const Loop& loop) { return loop.statistic == 0; }

/// A step of `outer` is all of `inner`, in every operand: whatever statistics and parameters they meet.
constexpr bool adjoins(const Loop& outer, const Loop& inner) {
  for (int k = 0; k < kMaxOperands; ++k)
    if (outer.data[k] != inner.extent * inner.data[k]) return false;
  return true;
}

/// Where a walk stands: offsets in elements into the operands, the statistics and the parameters.
struct Offsets {
  Strides data{};
  Index statistic = 0;
  Index param = 0;

  TENSORNORM_INLINE constexpr void advance(const Loop& loop, Index steps) {
    for (int k = 0; k < kMaxOperands; ++k) data[k] += steps * loop.data[k];
    statistic += steps * loop.statistic;
    param += steps * loop.param;
  }
  friend TENSORNORM_INLINE constexpr Offsets operator+(Offsets a, const Offsets& b) {
    for (int k = 0; k < kMaxOperands; ++k) a.data[k] += b.data[k];
    a.statistic += b.statistic;
    a.param += b.param;
    return a;
  }
};

/// A few loops, slowest first. Only the first `depth` exist: a copy costs no more than they do.
struct LoopList {
  FixedArray<Loop, kMaxLoops> loops;
  int depth = 0;

  constexpr LoopList() {}  // NOLINT(modernize-use-equals-default): leaves the loops unset
  constexpr LoopList(const LoopList& other) : depth(other.depth) {
    for (int i = 0; i < depth; ++i) loops[i] = other.loops[i];
  }
  constexpr LoopList& operator=(const LoopList& other) {
    depth = other.depth;
    for (int i = 0; i < depth; ++i) loops[i] = other.loops[i];
    return *this;
  }
  constexpr void push(const Loop& loop) { loops[depth++] = loop; }
  constexpr Index size() const { return size_of(depth); }
  /// Of the outermost so many loops.
  constexpr Index size_of(int outermost) const {
    Index n = 1;
    for (int i = 0; i < outermost; ++i) n *= loops[i].extent;
    return n;
  }
};

/// Loops from the slowest in memory to the fastest; a tensor, its storage order and its policy reduced to strides.
///
/// The innermost loop is contiguous in every operand, and its statistic stride is 0 (row) or 1 (column), or any where statistics
/// are of one element and axes have changed places.
struct LoopNest : LoopList {
  Index statistics = 1;  ///< number of (mean, variance) pairs
  Index samples = 1;     ///< elements behind each of them
  Index params = 1;      ///< elements of weight

  constexpr Index size() const { return statistics * samples; }
  constexpr const Loop& innermost() const { return loops[depth - 1]; }

  /// Appends a faster loop, merged with the one before it where they advance in step.
  constexpr void append(const Loop& next, bool with_params = true) {
    if (next.extent == 1) return;
    if (depth > 0) {
      Loop& last = loops[depth - 1];
      const bool same_params = !with_params || last.param == next.extent * next.param;
      if (adjoins(last, next) && last.statistic == next.extent * next.statistic && same_params) {
        last = {last.extent * next.extent, next.data, next.statistic, with_params ? next.param : 0};
        return;
      }
    }
    loops[depth++] = {next.extent, next.data, next.statistic, with_params ? next.param : 0};
  }
  /// A nest without loops, or one whose innermost stride is not 1 (a strided matrix of one column), gets a loop of one element.
  constexpr void close() {
    bool contiguous = depth > 0;
    for (int k = 0; contiguous && k < kMaxOperands; ++k) contiguous = loops[depth - 1].data[k] == 1;
    if (!contiguous) loops[depth++] = {1, {1, 1, 1}, 0, 0};
  }
};

/// The axis, of the `rank` that a policy is asked about, that is the i-th from the fastest in memory. split: the one that was split, -1 for none.
///
/// kSlowest: of a ColMajor tensor the first so many axes, all of them before the split one, have changed places in memory with the others.
template <bool kRowMajor, int kSlowest = 0>
constexpr int axis_by_speed(int i, int rank, int split) {
  static_assert(!kRowMajor || kSlowest == 0);
  if constexpr (kRowMajor) return rank - 1 - i;
  i = (i + kSlowest) % rank;
  // The groups of a split axis are the slower of its two parts in either storage order: they change places.
  return split >= 0 && i == split ? split + 1 : split >= 0 && i == split + 1 ? split : i;
}

/// All axes that P reduces are faster in memory than those it keeps, and there are both: whatever the extents of a tensor, behind every
/// statistic is one run of elements. kSlowest: see axis_by_speed().
template <AxisPolicy P, int kRank, bool kRowMajor, int kSlowest = 0>
constexpr bool reduces_rows() {
  if constexpr (StaticRoles<P, kRank>) {
    constexpr int rank = split_rank<P>(kRank);
    int split = -1, reduced = 0;
    if constexpr (SplitsAnAxis<P>) split = P::split_axis(kRank);
    const auto reduces_axis = [&](int i) { return is_reduced(P::role(axis_by_speed<kRowMajor, kSlowest>(i, rank, split), rank)); };
    while (reduced < rank && reduces_axis(reduced)) ++reduced;
    for (int i = reduced; i < rank; ++i)
      if (reduces_axis(i)) return false;
    return reduced > 0 && reduced < rank;
  } else {
    return false;
  }
}

/// Lays a policy over a shape: O(rank), no allocation.
///
/// Shapes   shape and strides are logical, strides[k] those of operand k; all operands lie in the same storage order.
/// Units    weight and bias are dense RowMajor over the affine axes; statistics dense in x's storage order over the kept ones, whichever
///          axes have changed places (kSlowest: see axis_by_speed()).
template <int kRank, bool kRowMajor, int kSlowest = 0, AxisPolicy P>
constexpr LoopNest make_loop_nest(const Extents<kRank>& shape, const FixedArray<Extents<kRank>, kMaxOperands>& strides,
                                  const P& policy) {
  constexpr int rank = split_rank<P>(kRank);
  static_assert(rank < kMaxLoops, "tensornorm: tensors of more than 9 axes are not supported, 8 where one is split into groups");
  FixedArray<Loop, rank> by_axis;
  for (int axis = 0, logical = 0; logical < kRank; ++logical, ++axis) {
    Loop loop{shape[logical], {}, 0, 0};
    for (int k = 0; k < kMaxOperands; ++k) loop.data[k] = strides[k][logical];
    if constexpr (SplitsAnAxis<P>) {
      if (logical == policy.split_axis(kRank)) {
        // Channel c = group * (C / groups) + member in either storage order: the group is the slower of the two.
        Loop group = loop;
        loop.extent = shape[logical] / policy.groups;
        group.extent = policy.groups;
        for (Index& stride : group.data) stride *= loop.extent;
        by_axis[axis++] = group;
      }
    }
    by_axis[axis] = loop;
  }

  LoopNest nest;
  for (int axis = rank - 1; axis >= 0; --axis) {
    if (!is_affine(policy.role(axis, rank))) continue;
    by_axis[axis].param = nest.params;
    nest.params *= by_axis[axis].extent;
  }
  int split = -1;
  if constexpr (SplitsAnAxis<P>) split = policy.split_axis(kRank);
  for (int i = 0; i < rank; ++i) {
    const int axis = axis_by_speed<kRowMajor>(i, rank, split);
    Loop& loop = by_axis[axis];
    if (is_reduced(policy.role(axis, rank))) {
      nest.samples *= loop.extent;
    } else {
      loop.statistic = nest.statistics;
      nest.statistics *= loop.extent;
    }
  }
  for (int i = rank - 1; i >= 0; --i) nest.append(by_axis[axis_by_speed<kRowMajor, kSlowest>(i, rank, split)]);
  nest.close();
  return nest;
}

/// The same walk without regard to parameters: fewer, longer loops, as the statistics need them.
constexpr LoopNest without_params(const LoopNest& nest) {
  LoopNest merged;
  merged.statistics = nest.statistics;
  merged.samples = nest.samples;
  for (int i = 0; i < nest.depth; ++i) merged.append(nest.loops[i], false);
  merged.close();
  return merged;
}

/// A position in a LoopList that is stepped forwards or backwards through all combinations of its loops, the last one fastest.
class Odometer {
 public:
  TENSORNORM_INLINE constexpr explicit Odometer(const LoopList& list, Index position = 0) : Odometer(list, position, list.depth) {}
  /// Of the first `depth` loops of the list.
  TENSORNORM_INLINE constexpr Odometer(const LoopList& list, Index position, int depth) : list_(list), last_(depth - 1) {
    for (int i = last_; position > 0; --i) {
      index_[i] = position % list.loops[i].extent;
      position /= list.loops[i].extent;
      offsets_.advance(list.loops[i], index_[i]);
    }
  }
  constexpr const Offsets& offsets() const { return offsets_; }
  TENSORNORM_INLINE constexpr void next() {
    if (last_ < 0) return;
    if (++index_[last_] < list_.loops[last_].extent) offsets_.advance(list_.loops[last_], 1);
    else carry(last_);
  }
  TENSORNORM_INLINE constexpr void previous() {
    if (last_ < 0) return;
    if (index_[last_]-- > 0) offsets_.advance(list_.loops[last_], -1);
    else borrow(last_);
  }

 private:
  /// Loop i has run out: it starts again, and the one around it steps.
  constexpr void carry(int i) {
    for (; i >= 0; --i) {
      const Loop& loop = list_.loops[i];
      offsets_.advance(loop, 1 - loop.extent);
      index_[i] = 0;
      if (i == 0) return;
      if (++index_[i - 1] < list_.loops[i - 1].extent) return offsets_.advance(list_.loops[i - 1], 1);
    }
  }
  constexpr void borrow(int i) {
    for (; i >= 0; --i) {
      const Loop& loop = list_.loops[i];
      offsets_.advance(loop, loop.extent - 1);
      index_[i] = loop.extent - 1;
      if (i == 0) return;
      if (index_[i - 1]-- > 0) return offsets_.advance(list_.loops[i - 1], -1);
    }
  }

  const LoopList& list_;
  int last_;
  Extents<kMaxLoops> index_{};
  Offsets offsets_{};
};

/// Calls f(offsets, inner) for the innermost loop of a list wherever it is gone through, counted from `start`, with the offsets of its first
/// position; the first one first, or the last one. A list without loops has one of one position.
template <bool kBackwards, class F>
TENSORNORM_INLINE constexpr void for_each_innermost(const LoopList& list, const Offsets& start, const F& f) {
  if (list.depth == 0) return f(start, Loop{1, {}, 0, 0});
  const Loop inner = list.loops[list.depth - 1];
  Index around = list.size_of(list.depth - 1);
  Odometer outer(list, kBackwards ? around - 1 : 0, list.depth - 1);
  for (; around > 0; --around) {
    const Offsets at = start + outer.offsets();
    if constexpr (kBackwards) outer.previous();
    else outer.next();
    f(at, inner);
  }
}

/// Calls f(offsets) at every position of a list, counted from `start`, the first one first, or the last one: an odometer around an
/// innermost loop that only adds.
template <bool kBackwards, class F>
TENSORNORM_INLINE constexpr void for_each_position(const LoopList& list, const Offsets& start, const F& f) {
  for_each_innermost<kBackwards>(list, start, [&](Offsets at, const Loop& inner) TENSORNORM_INLINE_LAMBDA {
    if constexpr (kBackwards) at.advance(inner, inner.extent - 1);
    for (Index i = inner.extent; i > 0; --i) {
      f(at);
      at.advance(inner, kBackwards ? -1 : 1);
    }
  });
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
