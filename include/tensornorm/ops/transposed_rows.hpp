// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/kernels/interleave.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/ops/caches.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// A ColMajor tensor whose leading axes, all of them kept, have few indices in all is a matrix of as many rows, whose columns are short runs:
// what is done once for each column takes longer than all else. Where rows that lie one after the other are runs of one statistic each, they
// are copied row by row, normalized so, and copied back.

/// The kept axes before the first that is reduced, or split; all: and after it.
template <AxisPolicy P, int kRank>
constexpr int kept_axes(bool all) {
  int kept = 0;
  if constexpr (StaticRoles<P, kRank>) {
    int split = -1;
    if constexpr (SplitsAnAxis<P>) split = P::split_axis(kRank);
    for (int axis = 0; axis < split_rank<P>(kRank); ++axis) {
      if (!is_reduced(P::role(axis, split_rank<P>(kRank))) && (all || axis != split)) ++kept;
      else if (!all) break;
    }
  }
  return kept;
}

/// Such a tensor, whatever its extents.
template <AxisPolicy P, class T, int kRank, bool kRowMajor>
constexpr bool may_transpose_rows() {
  constexpr int leading = kept_axes<P, kRank>(false);
  if constexpr (kRowMajor || leading == 0 || std::is_final_v<P> || kernels::virtual_width<T> == 1) return false;
  else return reduces_rows<LeadingSlowest<P, leading>, kRank, false>();
}

/// Memory of the thread for one or two tensors of a call, row by row.
template <class T, AxisPolicy P, int kRank>
class TransposedRows {
 public:
  static constexpr int kLeading = kept_axes<P, kRank>(false);
  using Axes = LeadingSlowest<P, kLeading>;
  using View = TensorView<T, kRank>;

  /// Rows at most that are a statistic each by the policy: more were slower, forward by AVX2.
  static constexpr Index kMostForward = 8, kMostBackward = kernels::kLine<T>;

  /// Whether a call is faster so, all of whose operands have to be without gaps. No machine is asked, because bits depend on the answer.
  template <class... Strides>
  static bool pays(Index most, Index statistics, const Extents<kRank>& shape, const Strides&... strides) {
    const Index rows = rows_of(shape), columns = columns_of(shape);
    if (kept_axes<P, kRank>(true) > kLeading) most = statistics > rows ? kMostOfSeveral : kMostOfOne;
    if (rows < 2 || columns < 2 || rows > most || !(has_no_gaps(shape, strides) && ...)) return false;
    if (kernels::InterleavedRows<T>::moves_vectors(rows)) return traffic_of(rows * Index(sizeof(T)), columns) <= kMostBytes;
    return rows <= kMostOneByOne && columns <= kMostNumbersOneByOne / rows;
  }

  /// Errors: std::bad_alloc.
  TransposedRows(const Extents<kRank>& shape, Index operands) : shape_(shape), rows_(rows_of(shape)), columns_(columns_of(shape)) {
    ScratchPlan plan;
    const Index elements = rows_ * row_stride();
    for (Index i = 0; i < operands; ++i) at_[i] = plan.reserve<T>(elements);
    memory_ = Scratch::acquire(plan.bytes(), Scratch::Of::transposed);
  }

  /// Its leading axes are the slowest.
  View view(Index i) const {
    View view{reinterpret_cast<T*>(memory_ + at_[i]), shape_, {}};
    Index in_row = 1, from_row_to_row = row_stride();
    for (int axis = 0; axis < kRank; ++axis) {
      Index& stride = axis < kLeading ? from_row_to_row : in_row;
      view.stride[axis] = stride;
      stride *= shape_[axis];
    }
    return view;
  }
  void copy_from(Index i, const T* tensor) const { move(i, const_cast<T*>(tensor), true); }
  void copy_to(Index i, T* tensor) const { move(i, tensor, false); }

 private:
  /// Rows at most where the policy keeps other axes as well, of several statistics each, or of one: these are columns with weights that change
  /// seldom, or few at all.
  static constexpr Index kMostOfSeveral = 4, kMostOfOne = 2;
  /// Of each operand: the second-level cache keeps them beside the tensors.
  static constexpr Index kMostBytes = Index{256} << 10;
  /// Rows, and numbers of all of them, that are moved one by one.
  static constexpr Index kMostOneByOne = 7, kMostNumbersOneByOne = 512;

  static bool has_no_gaps(const Extents<kRank>& shape, const Extents<kRank>& strides) {
    Index dense = 1;
    for (int axis = 0; axis < kRank; dense *= shape[axis++])
      if (shape[axis] > 1 && strides[axis] != dense) return false;
    return true;
  }
  static Index rows_of(const Extents<kRank>& shape) {
    Index rows = 1;
    for (int axis = 0; axis < kLeading; ++axis) rows *= shape[axis];
    return rows;
  }
  static Index columns_of(const Extents<kRank>& shape) {
    Index columns = 1;
    for (int axis = kLeading; axis < kRank; ++axis) columns *= shape[axis];
    return columns;
  }
  /// Whole lines, an odd number of them: rows at one place of their pages would push each other out of the L1 cache.
  Index row_stride() const { return ((columns_ + kernels::kLine<T> - 1) / kernels::kLine<T> | 1) * kernels::kLine<T>; }
  void move(Index i, T* tensor, bool to_rows) const {
    T* const rows = reinterpret_cast<T*>(memory_ + at_[i]);
    kernels::dispatch(kernels::InterleavedRows<T>{rows, row_stride(), tensor, rows_, columns_, to_rows});
  }

  Extents<kRank> shape_;
  Index rows_, columns_;
  std::byte* memory_;
  std::size_t at_[2];
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
