// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <new>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/core/scratch.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// The plan of a call: Plan(nest, options), with the nest of make_loop_nest<..., kSlowest>(shape, strides, policy). The size of x is not 0.
///
/// A thread keeps its last one for each type of call, and a call like the one before it is not analysed again: in a call of 16 elements
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
  static constinit thread_local Scratch::Kept<Remembered> kept;
  Remembered& last = kept.get();
  Index groups = 0;
  if constexpr (SplitsAnAxis<P>) groups = Index(policy.groups);
  const Key& key = last.key;
  const bool same = last.made && key.shape == shape && key.strides == strides && key.groups == groups && key.options == options;
  if (!StaticRoles<P, kRank> || !same) [[unlikely]] {
    check();
    ::new (static_cast<void*>(last.plan)) Plan(make_loop_nest<kRank, kRowMajor, kSlowest>(shape, strides, policy), options);
    last.key = {shape, strides, groups, options};
    last.made = true;
  }
  return *std::launder(reinterpret_cast<const Plan*>(last.plan));
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
