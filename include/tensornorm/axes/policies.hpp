// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/axes/roles.hpp>
#include <tensornorm/core/scalar.hpp>

namespace tensornorm {

/// The fewest axes of a tensor that has this one, at least `least`.
constexpr int least_rank_with(int axis, int least) { return std::max(axis < 0 ? -axis : axis + 1, least); }

/// One statistic per channel, over every other axis. Source: Ioffe & Szegedy 2015, arXiv:1502.03167.
///
/// The channel axis is logical: 1 for (N, C, ...), -1 for channels last. A tensor whose axes lie in another order than the policy says
/// cannot be told apart unless the extent of the channel axis differs.
template <int kChannelAxis = 1>
struct BatchAxes {
  static constexpr int channel_axis = kChannelAxis;
  static constexpr int least_rank = least_rank_with(kChannelAxis, 1);
  static constexpr AxisRole role(int axis, int rank) {
    return axis == from_end(kChannelAxis, rank) ? AxisRole::kept_affine : AxisRole::reduced;
  }
};

/// One statistic per image and channel, over the spatial axes. Source: Ulyanov et al. 2016, arXiv:1607.08022.
template <int kChannelAxis = 1>
struct InstanceAxes {
  static constexpr int channel_axis = kChannelAxis;
  static constexpr int least_rank = least_rank_with(kChannelAxis, 2);
  static constexpr AxisRole role(int axis, int rank) {
    return axis == from_end(kChannelAxis, rank) ? AxisRole::kept_affine : axis == 0 ? AxisRole::kept : AxisRole::reduced;
  }
};

/// One statistic per image and group of channels; weight and bias per channel. Source: Wu & He 2018, arXiv:1803.08494.
template <int kChannelAxis = 1>
struct GroupAxes {
  static constexpr int least_rank = least_rank_with(kChannelAxis, 2);
  Index groups = 1;  ///< >= 1, a divisor of the channels, or calls throw std::invalid_argument; GroupNorm sets it
  static constexpr int channel_axis = kChannelAxis;
  static constexpr int split_axis(int rank) { return from_end(kChannelAxis, rank); }
  /// `rank` counts the channel axis twice: [groups, channels / groups].
  static constexpr AxisRole role(int axis, int rank) {
    const int group_axis = split_axis(rank - 1);
    if (axis == group_axis) return AxisRole::kept_affine;
    if (axis == group_axis + 1) return AxisRole::reduced_affine;
    return axis == 0 ? AxisRole::kept : AxisRole::reduced;
  }
};

/// One statistic per leading index, over the last kNormalizedRank axes, which carry weight and bias. Source: Ba et al. 2016, arXiv:1607.06450.
template <int kNormalizedRank = 1>
struct LayerAxes {
  static_assert(kNormalizedRank >= 1, "tensornorm: at least one axis must be normalized");
  static constexpr int least_rank = kNormalizedRank;
  static constexpr AxisRole role(int axis, int rank) {
    return axis >= rank - kNormalizedRank ? AxisRole::reduced_affine : AxisRole::kept;
  }
};

/// Reduces the axes listed (negative ones count from the end), keeps the others, and has no parameters.
template <int... kAxes>
struct ReduceAxes {
  static constexpr AxisRole role([[maybe_unused]] int axis, [[maybe_unused]] int rank) {
    return ((axis == from_end(kAxes, rank)) || ...) ? AxisRole::reduced : AxisRole::kept;
  }
  /// Each axis is named once and exists in a tensor of this rank.
  static constexpr bool fits(int rank) {
    int reduced = 0;
    for (int axis = 0; axis < rank; ++axis) reduced += is_reduced(role(axis, rank)) ? 1 : 0;
    return reduced == int(sizeof...(kAxes));
  }
};

/// `moments(x, over<0, 2, 3>)`: the axes to average away.
template <int... kAxes>
inline constexpr ReduceAxes<kAxes...> over{};

/// P is the type of an over<...>.
template <class P>
inline constexpr bool is_over = false;
template <int... kAxes>
inline constexpr bool is_over<ReduceAxes<kAxes...>> = true;

}  // namespace tensornorm
