// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

namespace tensornorm {

/// What an axis of x does in a normalization: is it averaged away or does it index the statistics, and does it index weight and bias.
enum class AxisRole { kept, kept_affine, reduced, reduced_affine };

/// The axis is averaged away.
constexpr bool is_reduced(AxisRole role) { return role == AxisRole::reduced || role == AxisRole::reduced_affine; }
/// The axis indexes weight and bias.
constexpr bool is_affine(AxisRole role) { return role == AxisRole::kept_affine || role == AxisRole::reduced_affine; }

/// An axis counted from the end when negative, as an index from the front.
constexpr int from_end(int axis, int rank) { return axis < 0 ? axis + rank : axis; }

/// A small value type that names the role of each axis of a tensor of the given rank: role(axis, rank), 0 <= axis < rank, axes logical.
///
/// Constexpr and static where it can be: roles known at run time only are asked for in every call. A member `least_rank` is the fewest axes
/// it takes; see SplitsAnAxis for groups.
template <class P>
concept AxisPolicy = requires(const P& policy, int axis, int rank) {
  { policy.role(axis, rank) } -> std::same_as<AxisRole>;
};

/// A policy that sees one axis of extent C as two, [groups, C / groups]; `role` is then asked about the split axes.
template <class P>
concept SplitsAnAxis = AxisPolicy<P> && requires(const P& policy, int rank) {
  { policy.split_axis(rank) } -> std::convertible_to<int>;
  policy.groups;
};

/// The fewest axes a tensor must have for the policy, where it says so: as many as LayerNorm normalizes.
template <class P>
inline constexpr int least_rank = 0;
template <class P>
  requires requires { P::least_rank; }
inline constexpr int least_rank<P> = P::least_rank;

/// The number of axes `role` is asked about for a tensor of the given rank.
template <AxisPolicy P>
constexpr int split_rank(int rank) {
  return rank + (SplitsAnAxis<P> ? 1 : 0);
}

/// Asks P for the role of each axis of a tensor of this rank where only constants can be asked for: one that P looks up at run time, or
/// that a member of function type gives, is none.
template <AxisPolicy P, int kRank>
constexpr bool has_static_roles() {
  if constexpr (requires { typename std::bool_constant<(static_cast<void>(P::role(0, split_rank<P>(kRank))), true)>; }) {
    for (int axis = 0; axis < split_rank<P>(kRank); ++axis) static_cast<void>(P::role(axis, split_rank<P>(kRank)));
  } else {
    return false;
  }
  if constexpr (SplitsAnAxis<P>) return requires { typename std::bool_constant<(static_cast<void>(P::split_axis(kRank)), true)>; };
  else return true;
}

/// The roles of a policy's axes follow from its type, and from the number of groups where it splits one.
template <class P, int kRank>
concept StaticRoles = AxisPolicy<P> && requires { typename std::bool_constant<has_static_roles<P, kRank>()>; } && has_static_roles<P, kRank>();

/// P keeps one axis of a tensor of this rank, and this one indexes weight and bias: one statistic per parameter, in the same order in either
/// storage order. True where the roles are known at run time only.
template <AxisPolicy P, int kRank>
constexpr bool keeps_parameters_alone() {
  if constexpr (SplitsAnAxis<P>) return false;
  else if constexpr (!StaticRoles<P, kRank>) return true;
  else {
    int kept = 0;
    for (int axis = 0; axis < kRank; ++axis) {
      if (is_affine(P::role(axis, kRank)) == is_reduced(P::role(axis, kRank))) return false;
      kept += is_reduced(P::role(axis, kRank)) ? 0 : 1;
    }
    return kept == 1;
  }
}

}  // namespace tensornorm
