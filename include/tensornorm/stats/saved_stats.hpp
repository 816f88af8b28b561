// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/stats/estimator.hpp>
#include <vector>

namespace tensornorm {

/// What forward keeps for backward: mean and rstd of each statistic, O(statistics), never x.
///
/// Shapes   flat, in x's storage order; shape() is (C) for BatchNorm and for running statistics, (N, C) for InstanceNorm
///          (N = 1 unbatched), (N, G) for GroupNorm, the kept axes otherwise.
/// Units    mean in units of x, rstd = 1 / sqrt(variance + eps), or as the layer adds eps, 0 where that divides by 0, in units of 1 / x; in
///          double, or in the type of a layer that no vector holds. After an empty batch all are 0, unless they are running statistics.
/// Memory   3 values for each statistic; mean(), rstd() and mean_lo() are maps of it, valid until the next forward call that fills it.
/// Errors   memory is taken when a forward call first needs it, or needs more; std::bad_alloc leaves the object as it was.
template <class Scalar>
class SavedStats {
 public:
  using NotADevice = void;  // a const SavedStats must not be taken for the device argument
  static constexpr int kMaxRank = 9;
  using Statistic = statistic_t<Scalar>;
  using Values = Eigen::TensorMap<const Eigen::Tensor<Statistic, 1>>;

  /// Nothing where empty(), as size() is 0 there.
  std::span<const Index> shape() const { return {shape_.data(), std::size_t(empty() ? 0 : rank_)}; }
  Index size() const { return empty() ? 0 : size_; }
  /// No forward call has filled it, or it was moved from with statistics in it.
  bool empty() const { return rank_ < 0 || Index(values_.size()) != 3 * size_; }
  /// size() values each, flat in x's storage order, in double for float and the 16-bit types. RMSNorm's mean is 0.
  Values mean() const { return Values(values_.data(), size()); }
  Values rstd() const { return Values(values_.data() + 2 * size(), size()); }

  /// Statistics were given (eval mode), not computed from x: backward takes them for constants.
  bool constant() const { return !samples_; }
  /// Elements of x that each of them is of; 0 where they were given, or of no x.
  Index samples() const { return empty() ? 0 : samples_.value_or(0); }
  /// The storage order of the x they belong to; true for running statistics, which are (C) in either.
  bool row_major() const { return row_major_; }
  /// What rounding took from mean(): the mean used is mean() + mean_lo().
  Values mean_lo() const { return Values(values_.data() + size(), size()); }
  /// For the layers: where all of these lie. Not of an empty one.
  TENSORNORM_API StatisticsArrays<const Statistic> arrays() const {
    return {values_.data(), values_.data() + size_, values_.data() + 2 * size_, nullptr};
  }
  /// For the layers: they are of this shape, kind and storage order, of so many elements of x in all, unless they were given.
  TENSORNORM_API bool are(std::span<const Index> shape, unsigned kind, Index elements, bool row_major) const {
    bool same = !empty() && rank_ == int(shape.size()) && kind_ == kind;
    // Not by std::equal(): to read as one vector what has just been written by parts takes a wait.
    for (std::size_t i = 0; same && i < shape.size(); ++i) same = shape_[i] == shape[i];
    return same && (rank_ <= 1 || row_major_ == row_major) && (constant() || *samples_ * size_ == elements);
  }
  /// For the layers: what tells these from another normalization's of the same shape, as prepare() was told.
  unsigned kind() const { return kind_; }
  /// For the layers: makes room for statistics of this shape and returns where they go. `samples`: none where they are given, constants.
  /// `kind`: kind_of_statistics().
  TENSORNORM_API StatisticsArrays<Statistic> prepare(std::span<const Index> shape, std::optional<Index> samples, unsigned kind,
                                                     bool row_major = true) {
    Index size = 1;
    for (Index extent : shape) size *= extent;
    values_.resize(std::size_t(3 * size));
    std::copy(shape.begin(), shape.end(), shape_.begin());
    rank_ = int(shape.size());
    size_ = size;
    samples_ = samples;
    kind_ = kind;
    row_major_ = row_major;
    return {values_.data(), values_.data() + size, values_.data() + 2 * size, nullptr};
  }

 private:
  std::vector<Statistic> values_;
  std::array<Index, kMaxRank> shape_{};
  int rank_ = -1;
  Index size_ = 0;
  std::optional<Index> samples_ = 0;
  unsigned kind_ = 0;
  bool row_major_ = true;
};

}  // namespace tensornorm
