// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/axes/role_shapes.hpp>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/kernels/interleave.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/ops/caches.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// A ColMajor tensor whose leading axes, all of them kept, have few indices in all is a matrix of few rows, whose columns are short runs: what is
// done once for each column takes longer than all else. Where a statistic is a run of elements once rows lie one after the other, they are
// copied row by row, normalized so, and copied back.

/// The kept axes before the first that is reduced, or split.
template <AxisPolicy P, int kRank>
constexpr int leading_kept_axes() {
  int axis = 0, split = kRank;
  if constexpr (StaticRoles<P, kRank>) {
    if constexpr (SplitsAnAxis<P>) split = P::split_axis(kRank);
    while (axis < split && !is_reduced(P::role(axis, split_rank<P>(kRank)))) ++axis;
  }
  return axis;
}
/// The policy keeps none after them.
template <AxisPolicy P, int kRank>
constexpr bool keeps_leading_axes_alone() {
  for (int axis = leading_kept_axes<P, kRank>(); axis < split_rank<P>(kRank); ++axis)
    if (!is_reduced(P::role(axis, split_rank<P>(kRank)))) return false;
  return true;
}

/// Such a tensor, whatever its extents.
template <AxisPolicy P, class T, int kRank, bool kRowMajor>
constexpr bool may_transpose_rows() {
  constexpr int leading = leading_kept_axes<P, kRank>();
  if constexpr (kRowMajor || leading == 0 || kernels::virtual_width<T> == 1) return false;
  else return reduces_rows<P, kRank, false, leading>();
}

/// The rows of a tensor, and memory of the thread for those of one or two of a call.
template <class T, AxisPolicy P, int kRank>
class TransposedRows {
 public:
  using View = TensorView<T, kRank>;

  static constexpr int kLeading = leading_kept_axes<P, kRank>();
  /// Rows at most, where each is a statistic: more were slower, forward by AVX2.
  static constexpr Index kMostForward = 8, kMostBackward = kernels::kLine<T>;

  TransposedRows(const P& policy, const Extents<kRank>& shape) : shape_(shape) {
    for (int axis = 0; axis < kRank; ++axis) (axis < kLeading ? rows_ : columns_) *= shape[axis];
    if constexpr (!keeps_leading_axes_alone<P, kRank>()) most_ = kept_shape<P, kRank>(policy, shape).size() > rows_ ? kMostOfSeveral : kMostOfOne;
  }

  /// Whether a call is faster so, all of whose operands have to be without gaps. No machine is asked, because bits depend on the answer.
  template <class... Strides>
  bool pays(Index most, const Strides&... strides) const {
    if (rows_ < 2 || columns_ < 2 || rows_ > std::min(most, most_) || !(has_no_gaps(strides) && ...)) return false;
    if (kernels::InterleavedRows<T>::moves_vectors(rows_)) return traffic_of(rows_ * Index(sizeof(T)), columns_) <= kMostBytes;
    return rows_ <= kMostOneByOne && columns_ <= kMostNumbersOneByOne / rows_;
  }

  /// Errors: std::bad_alloc.
  void take(Index operands) {
    ScratchPlan plan;
    for (Index i = 0; i < operands; ++i) at_[i] = plan.reserve<T>(rows_ * row_stride());
    memory_ = Scratch::acquire(plan.bytes(), Scratch::Of::transposed);
  }

  /// Its leading axes are the slowest.
  View view(Index i) const {
    View view{rows_of(i), shape_, {}};
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
  /// Rows at most of several statistics each, and of one that the policy might have made several: such columns' weights change seldom, which is
  /// less slow than if each has its own.
  static constexpr Index kMostOfSeveral = 4, kMostOfOne = 2;
  /// Of each operand: the second-level cache keeps them beside the tensors.
  static constexpr Index kMostBytes = Index{256} << 10;
  /// Rows, and numbers of all of them, that are moved one by one.
  static constexpr Index kMostOneByOne = 7, kMostNumbersOneByOne = 512;

  /// Where an axis has one index, its stride means nothing.
  bool has_no_gaps(const Extents<kRank>& strides) const {
    Index dense = 1;
    for (int axis = 0; axis < kRank; dense *= shape_[axis++])
      if (shape_[axis] > 1 && strides[axis] != dense) return false;
    return true;
  }
  T* rows_of(Index i) const { return reinterpret_cast<T*>(memory_ + at_[i]); }
  /// Whole lines, an odd number of them: rows at one place of their pages would push each other out of the L1 cache.
  Index row_stride() const { return ((columns_ + kernels::kLine<T> - 1) / kernels::kLine<T> | 1) * kernels::kLine<T>; }
  void move(Index i, T* tensor, bool to_rows) const {
    kernels::dispatch(kernels::InterleavedRows<T>{rows_of(i), row_stride(), tensor, rows_, columns_, to_rows});
  }

  Extents<kRank> shape_;
  Index rows_ = 1, columns_ = 1, most_ = std::max(kMostForward, kMostBackward);
  std::byte* memory_ = nullptr;
  std::size_t at_[2];
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
