// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/core/tensor.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// The memory of a call's operands, as far as it does not depend on where they begin. The last one is written.
struct Footprint {
  Strides span;                          ///< elements from the first to the last, gaps of an outer stride included
  FixedArray<bool, kMaxOperands> alike;  ///< equal positions lie at equal offsets as in the one that is written

  constexpr explicit Footprint(const LoopNest& nest) : span{1, 1, 1}, alike{true, true, true} {
    for (int i = 0; i < nest.depth; ++i) {
      const Loop& loop = nest.loops[i];
      for (int k = 0; k < kMaxOperands; ++k) {
        span[k] += (loop.extent - 1) * loop.data[k];
        alike[k] &= loop.data[k] == loop.data[kMaxOperands - 1];
      }
    }
  }
  constexpr Index written() const { return span[kMaxOperands - 1]; }
};

/// check_in_place_or_apart() where operand k is the input: two comparisons, unless their ranges overlap.
template <class A, class B, int kRank>
TENSORNORM_API void check_in_place_or_apart(const Footprint& footprint, int k, const Call& call, const char* out_name,
                                            const TensorView<A, kRank>& out, const char* in_name, const TensorView<B, kRank>& in) {
  const bool same = static_cast<const void*>(out.data) == static_cast<const void*>(in.data) && footprint.alike[k];
  if (!same && ranges_overlap(out.data, footprint.written(), in.data, footprint.span[k]))
    check_in_place_or_apart(call, out_name, out, in_name, in);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
