// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// A few rows of neighbouring columns, each column with a statistic and, if any, parameters of its own: one or a few examples of (N, C).
struct FrozenRows {
  Index rows = 0, columns = 0;  ///< no rows: a nest is something else, or more
  Strides stride{};             ///< from row to row, per operand

  /// From so many on, arrays of coefficients take little beside the elements, which are then read in memory's order.
  static constexpr Index kMostRows = 64, kMostElements = 4096;

  FrozenRows() = default;
  FrozenRows(const LoopNest& nest, bool parameters) {
    const Loop& inner = nest.innermost();
    if (nest.depth > 2 || inner.statistic != 1 || (parameters && inner.param != 1)) return;
    if (nest.size() > kMostElements) return;
    if (nest.depth == 2) {
      const Loop& outer = nest.loops[0];
      if (!reduces(outer) || outer.param != 0 || outer.extent > kMostRows) return;
      stride = outer.data;
    }
    rows = nest.depth == 2 ? nest.loops[0].extent : 1;
    columns = inner.extent;
  }
};

}  // namespace TENSORNORM_ABI

namespace kernels {

inline namespace TENSORNORM_ABI {

/// ColumnForward of few rows with given statistics: the coefficients of a vector of columns stay in registers for all of them, and no array is
/// laid out. No statistic asks for a scale. The same bits as of ColumnForward.
template <class Args>
struct FrozenRowsForward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const FrozenRows& rows;

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    using L = HardwareLanes<A, I>;
    using F = Lanes<S, L::width, hardware_width<S, I>>;
    constexpr Index w = L::width;
    const Index n = rows.columns;
    Index c = 0;
    for (; c + w <= n; c += w)
      write<L, F>(c, WholeLoader<F>{}, WholeLoader<L>{}, [](const L& lanes, T* to) TENSORNORM_NESTED_LAMBDA { lanes.store(to); });
    if constexpr (w > 1)
      if (c < n)
        write<L, F>(c, FewLoader<F, S>{n - c}, FewLoader<L, A>{n - c},
                    [&](const L& lanes, T* to) TENSORNORM_NESTED_LAMBDA { store_few(lanes, to, n - c); });
  }

 private:
  /// The columns of a vector from c on.
  template <class L, class F, class Wide, class Load, class StoreLanes>
  TENSORNORM_NESTED void write(Index c, const Wide& wide, const Load& load, const StoreLanes& store) const {
    auto map = map_of_columns<L, F>(args, c, c, wide);
    const T* x = args.x + c;
    T* y = args.y + c;
    for (Index r = rows.rows; r > 0; --r, x += rows.stride[0], y += rows.stride[1]) store(map(load(x), 0, load), y);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace kernels
}  // namespace tensornorm
