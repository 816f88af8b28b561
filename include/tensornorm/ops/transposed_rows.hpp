// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <tensornorm/axes/roles.hpp>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/kernels/interleave.hpp>
#include <tensornorm/kernels/load.hpp>
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

/// Memory of the thread for one or two matrices of a call, row by row.
template <class T>
class TransposedRows {
 public:
  using View = TensorView<T, 2>;

  /// Rows at most: more were slower, forward by AVX2.
  static constexpr Index kMostForward = 8, kMostBackward = kernels::kLine<T>;

  /// Whether a call is faster so, all of whose operands have to be without gaps. No machine is asked, because bits depend on the answer.
  template <class... Strides>
  static bool pays(Index most, const Extents<2>& shape, const Strides&... strides) {
    const Index rows = shape[0], columns = shape[1];
    if (rows < 2 || columns < 2 || rows > most || !((strides[0] == 1 && strides[1] == rows) && ...)) return false;
    if (kernels::InterleavedRows<T>::moves_vectors(rows)) return traffic_of(rows * Index(sizeof(T)), columns) <= kMostBytes;
    return rows <= kMostOneByOne && columns <= kMostNumbersOneByOne / rows;
  }

  /// Errors: std::bad_alloc.
  TransposedRows(const Extents<2>& shape, Index operands) : shape_(shape) {
    ScratchPlan plan;
    const Index elements = shape_[0] * stride();
    for (Index i = 0; i < operands; ++i) at_[i] = plan.reserve<T>(elements);
    memory_ = Scratch::acquire(plan.bytes(), Scratch::Of::transposed);
  }

  View view(Index i) const { return {reinterpret_cast<T*>(memory_ + at_[i]), shape_, {{stride(), 1}}}; }
  void copy_from(Index i, const T* matrix) const { move(i, const_cast<T*>(matrix), true); }
  void copy_to(Index i, T* matrix) const { move(i, matrix, false); }

 private:
  /// Of each operand: the second-level cache keeps them beside the matrices.
  static constexpr Index kMostBytes = Index{256} << 10;
  /// Rows, and numbers of all of them, that are moved one by one.
  static constexpr Index kMostOneByOne = 7, kMostNumbersOneByOne = 512;

  /// Whole lines, an odd number of them: rows at one place of their pages would push each other out of the L1 cache.
  Index stride() const { return ((shape_[1] + kernels::kLine<T> - 1) / kernels::kLine<T> | 1) * kernels::kLine<T>; }
  void move(Index i, T* matrix, bool to_rows) const {
    kernels::dispatch(kernels::InterleavedRows<T>{view(i).data, stride(), matrix, shape_[0], shape_[1], to_rows});
  }

  Extents<2> shape_;
  std::byte* memory_;
  std::size_t at_[2];
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
