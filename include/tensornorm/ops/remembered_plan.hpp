// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/core/scratch.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// Calls of one type, of different shapes say, that a thread keeps the plans of: the layers of a network take turns.
inline constexpr int kPlansKept = 8;

/// The plan of a call: Plan(nest, options), with the nest of make_loop_nest<..., kSlowest>(shape, strides, policy). The size of x is not 0.
///
/// A thread keeps the last ones it made for each type of call, and a call like one of these is not analysed again: in a call of 16 elements
/// the analysis takes longer than all else. Policies whose roles are known at run time only are asked every time. Valid until the
/// thread's next call for the same types.
///
/// check(): what the strides have to be beside the shape, asked before a plan is made.
///
/// Errors   std::bad_alloc, in a thread's first call for these types. What check() throws.
template <class Plan, bool kRowMajor, int kSlowest = 0, AxisPolicy P, int kRank, class Check>
const Plan& plan_of(const P& policy, const Extents<kRank>& shape, const FixedArray<Extents<kRank>, kMaxOperands>& strides,
                    const typename Plan::Options& options, const Check& check) {
  static_assert(std::is_trivially_destructible_v<Plan>);
  struct Key {
    Extents<kRank> shape;
    FixedArray<Extents<kRank>, kMaxOperands> strides;
    Index groups;
    typename Plan::Options options;
  };
  struct Remembered {
    Key key;
    bool made = false;
    alignas(Plan) std::byte plan[sizeof(Plan)];
  };
  struct Several {
    Remembered plans[kPlansKept];
    Remembered* last = plans;    ///< asked for
    Remembered* newest = plans;  ///< made
  };
  static constinit thread_local Scratch::Kept<Several> kept;
  Several& several = kept.get();
  Index groups = 0;
  if constexpr (SplitsAnAxis<P>) groups = Index(policy.groups);
  const auto serves = [&](const Remembered& r) {
    return StaticRoles<P, kRank> && r.made && r.key.shape == shape && r.key.strides == strides && r.key.groups == groups && r.key.options == options;
  };
  Remembered* one = several.last;
  if (!serves(*one)) [[unlikely]] {
    Remembered* const end = several.plans + kPlansKept;
    one = std::find_if(several.plans, end, serves);
    if (one == end) {
      check();
      one = several.newest + 1 < end ? several.newest + 1 : several.plans;
      ::new (static_cast<void*>(one->plan)) Plan(make_loop_nest<kRank, kRowMajor, kSlowest>(shape, strides, policy), options);
      one->key = {shape, strides, groups, options};
      one->made = true;
      several.newest = one;
    }
    several.last = one;
  }
  return *std::launder(reinterpret_cast<const Plan*>(one->plan));
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
