// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/kernels/sums.hpp>

namespace tensornorm {

/// Mean (hi + lo) and sum of squared deviations (m2) of numbers whose sum of (x - pivot) and of (x - pivot)^2 are known; of lanes of such
/// sets.
template <class V>
struct CentralSums {
  V mean, mean_lo, m2;

  TENSORNORM_INLINE CentralSums(Index count, const V& pivot, const V& sum, const V& sum_of_squares)
      : mean(pivot), mean_lo(kernels::divided(sum, count)), m2(kernels::not_below_zero(V(kernels::fused(V(V(0) - sum), mean_lo, sum_of_squares)))) {
    kernels::settle(mean, mean_lo);
  }
  /// Where sum + rest is known, to more digits than V has: the mean comes out as exactly.
  TENSORNORM_INLINE void refine(Index count, const V& sum, const V& rest) {
    const V shift = kernels::divided(sum, count), left = kernels::fused(V(V(0) - shift), kernels::number<V>(count), sum) + rest;
    mean_lo = mean_lo + kernels::finite_or_zero(kernels::divided(left, count));
    kernels::settle(mean, mean_lo);
  }
};

/// Count, mean and sum of squared deviations (m2) of a set of numbers; two sets merge into their union's in O(1).
///
/// Units    mean in units of x, variance in units of x^2; both sums are carried as hi + lo, twice the precision of T.
/// Errors   none: of no number mean and variance are NaN, of one the variance is 0 and the unbiased variance NaN.
/// Source   Welford 1962; Chan, Golub & LeVeque 1979.
template <class T>
class Welford {
 public:
  TENSORNORM_INLINE Welford() = default;
  /// A set whose statistics are known: mean = hi + lo, m2 = sum of (x - mean)^2.
  TENSORNORM_INLINE Welford(Index count, T mean, T mean_lo, T m2) : count_(count), mean_(mean), mean_lo_(mean_lo), m2_(m2) {}

  /// Adds one number.
  TENSORNORM_INLINE void push(T x) { merge(Welford(1, x, T(0), T(0))); }

  /// Adds another set.
  TENSORNORM_INLINE void merge(const Welford& other) {
    if (other.count_ == 0) return;
    if (count_ == 0) {
      *this = other;
      return;
    }
    const Index count = count_ + other.count_;
    const T distance = (other.mean_ - mean_) + (other.mean_lo_ - mean_lo_);
    const T share = T(other.count_) / T(count);
    m2_lo_ = kernels::fused<T>(distance * distance, T(count_) * share, m2_lo_ + other.m2_lo_ + other.m2_);
    kernels::settle(m2_, m2_lo_);
    // From an infinite mean no finite step leads back to it.
    if (kernels::is_finite<T>(mean_)) set_mean(mean_, kernels::fused<T>(distance, share, mean_lo_));
    else set_mean(mean_ + other.mean_, T(0));
    count_ = count;
  }

  /// Adds `count` numbers of which sum of (x - pivot) and sum of (x - pivot)^2 are known.
  TENSORNORM_INLINE void merge_sums(Index count, T pivot, T sum, T sum_of_squares) { merge(of_sums(count, pivot, sum, sum_of_squares)); }
  /// The set of `count` numbers of which those sums are known.
  TENSORNORM_INLINE static Welford of_sums(Index count, T pivot, T sum, T sum_of_squares) {
    const CentralSums<T> sums(count, pivot, sum, sum_of_squares);
    return {count, sums.mean, sums.mean_lo, sums.m2};
  }
  /// The same where sum + rest is known.
  TENSORNORM_INLINE static Welford of_sums(Index count, T pivot, T sum, T rest, T sum_of_squares) {
    CentralSums<T> sums(count, pivot, sum, sum_of_squares);
    sums.refine(count, sum, rest);
    return {count, sums.mean, sums.mean_lo, sums.m2};
  }

  /// The set of all numbers times a power of two.
  TENSORNORM_INLINE Welford scaled(T factor) const {
    Welford result(count_, mean_ * factor, mean_lo_ * factor, m2_ * factor * factor);
    result.m2_lo_ = m2_lo_ * factor * factor;
    return result;
  }

  Index count() const { return count_; }
  TENSORNORM_INLINE T mean() const { return count_ > 0 ? mean_ : nan(); }
  /// What mean() lacks: the true mean is mean() + mean_lo().
  TENSORNORM_INLINE T mean_lo() const { return mean_lo_; }
  /// Sum of (x - mean)^2, in units of x^2; 0 of no number.
  TENSORNORM_INLINE T m2() const { return m2_; }
  /// m2 / n.
  TENSORNORM_INLINE T variance() const { return count_ > 0 ? m2_ / T(count_) : nan(); }
  /// m2 / (n - 1).
  TENSORNORM_INLINE T unbiased_variance() const { return count_ > 1 ? m2_ / T(count_ - 1) : nan(); }

 private:
  static T nan() { return nan_of<T>(); }
  TENSORNORM_INLINE void set_mean(T hi, T lo) {
    mean_ = hi;
    mean_lo_ = lo;
    kernels::settle(mean_, mean_lo_);
  }

  Index count_ = 0;
  T mean_ = T(0), mean_lo_ = T(0), m2_ = T(0), m2_lo_ = T(0);
};

}  // namespace tensornorm
