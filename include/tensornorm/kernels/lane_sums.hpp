// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/kernels/simd.hpp>

namespace tensornorm::kernels {

/// Rows that are taken together, at most: what is done once for each of them is done in lanes, a row each, and none waits for the one before.
inline constexpr Index kTogether = 16;
/// So many of them, or a multiple, are added up in lanes.
inline constexpr Index kRowsInLanes = 8;

inline namespace TENSORNORM_ABI {

// The lanes of several vectors are summed up at once: two vectors become one, in which what sum() would add of each lies in a lane of its
// own, until each lane is a sum. The same additions as those of sum(), in a third of the instructions.

/// How two vectors of kLanes become one, of which parts of 2 * kHalf lanes are each to be added up: the first halves of all parts of both,
/// plus the last ones. Within 16 bytes parts stay where they are.
template <class T, int kLanes, int kHalf>
struct HalvesOfTwo {
  static constexpr int around = 2 * kHalf * int(sizeof(T)) <= 16 ? 16 / int(sizeof(T)) : kLanes;

  /// Where the part that begins at `lane` of the first (second: 1) vector goes.
  static constexpr int to(int lane, int vector) { return lane / around * around + vector * (around / 2) + lane % around / 2; }
  /// The lane, of the second vector those from kLanes on, that comes to `lane` from the first (last: 1) halves.
  static constexpr int from(int lane, int last) {
    const int vector = lane % around / (around / 2), at = lane % (around / 2);
    return vector * kLanes + lane / around * around + at / kHalf * 2 * kHalf + at % kHalf + last * kHalf;
  }

  template <int kLast>
  struct Halves {
    static constexpr int lane(int i) { return from(i, kLast); }
  };
  using L = Lanes<T, kLanes, kLanes>;
  TENSORNORM_INLINE static L add(const L& a, const L& b) { return shuffled<Halves<0>>(a, b) + shuffled<Halves<1>>(a, b); }
};

/// Where the sum of the `vector`-th of kCount vectors comes to lie.
template <class T, int kLanes, int kCount>
constexpr int lane_of_sum(int vector) {
  if constexpr (kCount == 1) {
    return 0;
  } else {
    constexpr int half = kCount / 2;
    return HalvesOfTwo<T, kLanes, kLanes / kCount>::to(lane_of_sum<T, kLanes, half>(vector % half), vector / half);
  }
}

/// The lanes of kCount vectors, at(first), at(first + 1), ..., added up until kLanes / kCount are left of each.
template <class T, int kLanes, int kCount, class F>
TENSORNORM_INLINE Lanes<T, kLanes, kLanes> added_up(int first, const F& at) {
  if constexpr (kCount == 1) {
    return at(first);
  } else {
    constexpr int half = kCount / 2;
    return HalvesOfTwo<T, kLanes, kLanes / kCount>::add(added_up<T, kLanes, half>(first, at), added_up<T, kLanes, half>(first + half, at));
  }
}

/// Lanes added up until there are kMost of them.
template <int kMost, class L>
TENSORNORM_INLINE auto halved_to(const L& lanes) {
  if constexpr (L::width > kMost) return halved_to<kMost>(lanes.halved());
  else return lanes;
}

/// to[i] = the sum of the lanes L that L::load() makes of row i, of `count` rows of lanes: the same bits as of sum().
template <class L, class A, std::size_t kLanes, class To>
TENSORNORM_INLINE void sums_of_rows(const A (*rows)[kLanes], Index count, To* to) {
  using T = typename L::Number;
  Index i = 0;
  constexpr int most = smaller(int(kRowsInLanes), L::hardware);
  for (const Index end = count / kRowsInLanes * kRowsInLanes; i < end; i += most) {
    const auto at = [&](int vector) TENSORNORM_INLINE_LAMBDA { return halved_to<most>(L::load(rows[i + lane_of_sum<T, most, most>(vector)])); };
    added_up<T, most, most>(0, at).store(to + i);
  }
  for (; i < count; ++i) to[i] = static_cast<To>(L::load(rows[i]).sum());
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
