// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/kernels/interleave.hpp>
#include <tensornorm/ops/caches.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// Few rows of a ColMajor matrix are as many short runs of columns, beside each of which lie parameters of its own: what is done once for each
// column takes longer than all else. They are copied row by row, normalized as those of a RowMajor matrix, and copied back.

/// Such a matrix, whatever its extents: each statistic is of a row.
template <AxisPolicy P, class T, int kRank, bool kRowMajor>
constexpr bool may_transpose_rows() {
  if constexpr (kRowMajor || kRank != 2 || SplitsAnAxis<P> || !StaticRoles<P, kRank> || kernels::virtual_width<T> == 1) return false;
  else return !is_reduced(P::role(0, 2)) && is_reduced(P::role(1, 2));
}

/// Of so many rows at most forward, and backward as many as a line of the cache has elements.
inline constexpr Index kMostRowsForward = 8;
/// At most so many bytes of each operand, which the second-level cache keeps beside those that are copied; and so many rows and numbers where
/// these are moved one by one.
inline constexpr Index kTransposedBytes = Index{256} << 10, kRowsOfNumbers = 7, kTransposedNumbers = 512;

/// Memory of the thread for one or two matrices of a call, row by row.
template <class T>
class TransposedRows {
 public:
  using View = TensorView<T, 2>;

  /// Errors: std::bad_alloc.
  TransposedRows(const Extents<2>& shape, Index operands) : shape_(shape) {
    ScratchPlan plan;
    const Index elements = shape_[0] * stride();
    for (Index i = 0; i < operands; ++i) at_[i] = plan.reserve<T>(elements);
    memory_ = Scratch::acquire(plan.bytes(), Scratch::Of::transposed);
  }

  /// Whether it is faster, of `most` rows, where all operands are without gaps. No machine is asked: bits depend on it.
  static bool pay(const Extents<2>& shape, Index most) {
    const Index rows = shape[0], columns = shape[1];
    if (rows < 2 || columns < 2 || rows > most) return false;
    if (kernels::InterleavedRows<T>::moves_vectors(rows)) return traffic_of(rows * Index(sizeof(T)), columns) <= kTransposedBytes;
    return rows <= kRowsOfNumbers && columns <= kTransposedNumbers / rows;
  }
  static bool without_gaps(const Extents<2>& shape, const Extents<2>& stride) { return stride[0] == 1 && stride[1] == shape[0]; }

  View view(Index i) const { return {reinterpret_cast<T*>(memory_ + at_[i]), shape_, {{stride(), 1}}}; }
  /// Copies operand i from a matrix, or to one.
  void fill(Index i, const T* from) const { move(i, const_cast<T*>(from), true); }
  void give(Index i, T* to) const { move(i, to, false); }

 private:
  /// Whole lines, an odd number of them: rows at one place of their pages would push each other out of the L1 cache.
  Index stride() const { return ((shape_[1] + kernels::kLine<T> - 1) / kernels::kLine<T> | 1) * kernels::kLine<T>; }
  void move(Index i, T* turns, bool separate) const {
    kernels::dispatch(kernels::InterleavedRows<T>{view(i).data, stride(), turns, shape_[0], shape_[1], separate});
  }

  Extents<2> shape_;
  std::byte* memory_;
  std::size_t at_[2];
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
