// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/axes/role_shapes.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/kernels/scale.hpp>
#include <type_traits>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// A call of one short row needs neither a plan nor memory, and looking for the plan would take as long as its kernel: the loops are known from
// the types, but for the length.

/// The axes that P averages away, if they are those that carry the parameters, in whole; else 0, as where that is known at run time only.
template <AxisPolicy P, int kRank>
constexpr int axes_of_a_row() {
  if constexpr (SplitsAnAxis<P> || !StaticRoles<P, kRank>) {
    return 0;
  } else {
    int affine = 0;
    for (int axis = 0; axis < kRank; ++axis) {
      if (is_affine(P::role(axis, kRank)) != is_reduced(P::role(axis, kRank))) return 0;
      affine += is_affine(P::role(axis, kRank)) ? 1 : 0;
    }
    return affine;
  }
}
/// Tensors of this type may be one row: its elements lie in memory in the order of the parameters, which kernels take as they are.
template <AxisPolicy P, class T, int kRank, class Scalar, bool kRowMajor>
constexpr bool may_be_one_row() {
  constexpr int axes = axes_of_a_row<P, kRank>();
  return std::is_same_v<accumulator_t<T>, Scalar> && (axes == 1 || (axes > 1 && kRowMajor));
}

/// The shape of the statistics of one row, which then is no work of a call.
template <AxisPolicy P, int kRank>
inline constexpr AxisExtents<kRank> kept_shape_of_one_row = [] {
  AxisExtents<kRank> kept{};
  for (int axis = 0; axis < kRank; ++axis)
    if (!is_reduced(P::role(axis, kRank))) kept.push(axis, 1);
  return kept;
}();

/// The elements of a tensor that is one row without gaps, all of a single statistic; 0 where it is not.
template <AxisPolicy P, bool kRowMajor, class T, int kRank>
TENSORNORM_API Index length_of_row(const TensorView<T, kRank>& x) {
  Index n = 1;
  bool single = true;
  for (int i = 0; i < kRank; ++i) {
    const int axis = kRowMajor ? kRank - 1 - i : i;
    if (is_reduced(P::role(axis, kRank))) {
      single &= x.stride[axis] == n;
      n *= x.shape[axis];
    } else {
      single &= x.shape[axis] == 1 && x.stride[axis] >= 0;
    }
  }
  return single ? n : 0;
}

/// The elements of x if it and the others are of one shape and one row each, of 2 to a block; else 0.
template <AxisPolicy P, bool kRowMajor, class T, int kRank, class... Others>
TENSORNORM_API Index short_row(const TensorView<T, kRank>& x, const TensorView<Others, kRank>&... others) {
  const Index n = length_of_row<P, kRowMajor>(x);
  const bool fits = n > 1 && n <= kernels::kBlock<accumulator_t<std::remove_const_t<T>>>;
  return fits && ((others.shape == x.shape && length_of_row<P, kRowMajor>(others) == n) && ...) ? n : 0;
}

/// n values at `out` have no memory in common with as many at each of the others. Null ones have none: if
/// anything lies so close to them, the call goes by plan.
template <class Out, class... Others>
TENSORNORM_API bool lie_apart(Index n, const Out* out, const Others*... others) {
  return out == nullptr || (!ranges_overlap(out, n, others, n) && ...);
}
/// Or they are those of each.
template <class T, class... Ins>
TENSORNORM_API bool lie_in_place_or_apart(Index n, const T* out, const Ins*... ins) {
  return ((out == ins || lie_apart(n, out, ins)) && ...);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
