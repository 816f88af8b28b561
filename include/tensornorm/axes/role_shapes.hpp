// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <tensornorm/axes/roles.hpp>
#include <tensornorm/core/abi.hpp>
#include <tensornorm/core/fixed_array.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// The extents of some of a tensor's axes, in logical order.
template <int kMaxRank>
struct AxisExtents {
  Extents<kMaxRank> extents;
  Extents<kMaxRank> axes;  ///< the logical axis of each
  int rank = 0;

  constexpr void push(int axis, Index extent) {
    axes[rank] = axis;
    extents[rank++] = extent;
  }
  /// The number of elements of a tensor of these extents.
  constexpr Index size() const {
    Index n = 1;
    for (int i = 0; i < rank; ++i) n *= extents[i];
    return n;
  }
  std::span<const Index> span() const { return {extents.data(), static_cast<std::size_t>(rank)}; }
};

/// Calls visit(logical_axis, role, extent) for each axis the policy is asked about, an axis it splits as [groups, extent / groups].
template <AxisPolicy P, int kRank, class Visit>
constexpr void for_each_role(const P& policy, const Extents<kRank>& shape, const Visit& visit) {
  constexpr int rank = split_rank<P>(kRank);
  for (int logical = 0, axis = 0; logical < kRank; ++logical, ++axis) {
    Index extent = shape[logical];
    if constexpr (SplitsAnAxis<P>) {
      if (logical == policy.split_axis(kRank)) {
        extent = shape[logical] / policy.groups;
        visit(logical, policy.role(axis++, rank), policy.groups);
      }
    }
    visit(logical, policy.role(axis, rank), extent);
  }
}

/// The shape of the statistics: (C) for BatchNorm, (N, C) for InstanceNorm, (N, G) for GroupNorm, the kept axes otherwise.
template <AxisPolicy P, int kRank>
constexpr auto kept_shape(const P& policy, const Extents<kRank>& shape) {
  AxisExtents<split_rank<P>(kRank)> kept;
  for_each_role(policy, shape, [&](int axis, AxisRole role, Index extent) {
    if (!is_reduced(role)) kept.push(axis, extent);
  });
  return kept;
}

/// Which axes are averaged away, as a number: binary digits after a leading 1, one for each axis of the tensor, 1 where that is all of it.
template <AxisPolicy P, int kRank>
constexpr unsigned averaged_axes(const P& policy) {
  unsigned digits = 1;
  constexpr int rank = split_rank<P>(kRank);
  for (int logical = 0, axis = 0; logical < kRank; ++logical, ++axis) {
    bool averaged = is_reduced(policy.role(axis, rank));
    if constexpr (SplitsAnAxis<P>)
      if (logical == policy.split_axis(kRank)) averaged = is_reduced(policy.role(++axis, rank)) && averaged;
    digits = 2 * digits + (averaged ? 1 : 0);
  }
  return digits;
}

/// The shape of weight and bias: a split axis counts once, whole where both its parts are affine.
template <AxisPolicy P, int kRank>
constexpr auto affine_shape(const P& policy, const Extents<kRank>& shape) {
  AxisExtents<kRank> affine;
  for_each_role(policy, shape, [&](int axis, AxisRole role, Index extent) {
    if (!is_affine(role)) return;
    const bool counted = affine.rank > 0 && affine.axes[affine.rank - 1] == axis;
    if (counted) affine.extents[affine.rank - 1] = shape[axis];
    else affine.push(axis, extent);
  });
  return affine;
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
