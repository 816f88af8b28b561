// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/held_columns.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Column kernel: for each of `width` columns adds, over the rows, (x - pivot[c]) to sum[c] and its square to squares[c].
///
/// sum and squares are padded to whole vectors. kFromMemory: x is in no cache, and the next rows are fetched while some are added: each
/// is a stream of its own, over before the processor has seen that it is one. Of short rows those are fetched that are kFetchAhead on.
template <bool kFromMemory, class A, class S, class I, class T>
TENSORNORM_INLINE void column_moments(const T* x, Index rows, Index row_stride, Index width, const A* pivot, const TileSums<A>& tile, S* sum,
                                      S* squares) {
  if constexpr (holds_columns<A, S, I, true>)
    if (row_stride == width && are_held<A>(width, kHeldMomentLines))
      return run_apart<I>(HeldMoments<A, S, T>{x, rows, width, pivot, tile, sum, squares});
  using H = HardwareLanes<A, I>;
  const Index ahead = std::max(kSweepRows<1> * row_stride, kFetchAhead<T>);
  const auto term = [&](Index r, Index c, const auto& load, H& p, H& q) TENSORNORM_INLINE_LAMBDA {
    if constexpr (kFromMemory) fetch_to_l2(x + r * row_stride + c + ahead);
    const H d = load(x + r * row_stride + c) - load(pivot + c);  // 0 where there is no column
    p = p + d;
    q.fma(d, d);
  };
  add_columns<H, kSweepRows<1>, true, true, A, S, I>(rows, width, term, tile, sum, squares);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
