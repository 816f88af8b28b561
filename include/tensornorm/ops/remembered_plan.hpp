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

/// The plan of a call: Plan(nest, options), with the nest of make_loop_nest<..., kSlowest>(shape, the strides, policy). The size of x is not 0.
///
/// A thread keeps the last ones it made for each type of call, and a call like one of these is not analysed again: in a call of 16 elements
/// the analysis takes longer than all else. Policies whose roles are known at run time only are asked every time. Valid until the
/// thread's next call for the same types.
///
/// strides: where those of each operand lie, read during the call. check(): what they have to be beside the shape, asked before a plan is made.
///
/// Errors   std::bad_alloc, in a thread's first call for these types. What check() throws.
template <class Plan, bool kRowMajor, int kSlowest = 0, AxisPolicy P, int kRank, class Check>
const Plan& plan_of(const P& policy, const Extents<kRank>& shape, const FixedArray<const Extents<kRank>*, kMaxOperands>& strides,
                    const typename Plan::Options& options, const Check& check) {
  static_assert(std::is_trivially_destructible_v<Plan> && kMaxOperands == 3);
  struct Key {
    Extents<kRank> shape;
    FixedArray<Extents<kRank>, kMaxOperands> strides;
    Index groups;
    typename Plan::Options options;
  };
  struct Several {
    Key keys[kPlansKept];
    int made = 0, oldest = 0;
    const Key* key = nullptr;  ///< of the last one asked for: to find it by its number took 1.02 of the time of a row of 16
    const Plan* plan = nullptr;
    alignas(Plan) std::byte plans[kPlansKept][sizeof(Plan)];
    Several() {}  // NOLINT(modernize-use-equals-default): of a program that has one, the memory of the others is never touched
  };
  static constinit thread_local Scratch::Kept<Several> kept;
  Several& several = kept.get();
  Index groups = 0;
  if constexpr (SplitsAnAxis<P>) groups = Index(policy.groups);
  const auto serves = [&](const Key& key) {
    bool same = key.shape == shape && key.groups == groups && key.options == options;
    for (int k = 0; k < kMaxOperands; ++k) same = same && key.strides[k] == *strides[k];
    return same;
  };
  const int made = StaticRoles<P, kRank> ? several.made : 0;
  if (made == 0 || !serves(*several.key)) [[unlikely]] {
    int i = 0;
    while (i < made && !serves(several.keys[i])) ++i;
    if (i == made) {
      check();
      if (i == kPlansKept) {
        i = several.oldest;
        several.oldest = (i + 1) % kPlansKept;
      }
      const Key key{shape, {*strides[0], *strides[1], *strides[2]}, groups, options};
      ::new (static_cast<void*>(several.plans[i])) Plan(make_loop_nest<kRank, kRowMajor, kSlowest>(shape, key.strides, policy), options);
      several.keys[i] = key;
      several.made = std::max(several.made, i + 1);
    }
    several.key = &several.keys[i];
    several.plan = std::launder(reinterpret_cast<const Plan*>(several.plans[i]));
  }
  return *several.plan;
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
