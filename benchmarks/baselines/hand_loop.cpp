// SPDX-License-Identifier: MIT
// Built twice, with different flags: BENCH_FLAGS names the namespace.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "baselines.hpp"

namespace bench::BENCH_FLAGS {
namespace {

using Eigen::Index;
template <class S>
using Line = Eigen::Array<S, 1, Eigen::Dynamic>;
template <class S>
using LineMap = Eigen::Map<Line<S>>;

/// A statistic per (image, channel); its elements are `slices` runs of `length`, contiguous each.
struct SlicePlan {
  Index images, image_stride, channels, channel_stride, slices, slice_stride, length;
  Index channel_param, slice_param;  ///< what to add to a slice's parameter index
  bool elementwise;                  ///< parameters along the run, not one a slice
};

/// Blocks of rows; each column of a block has a statistic, or shares it with the `fold` columns that stand
/// `fold_stride` apart.
struct ColumnPlan {
  Index blocks, block_stride, planes, plane_stride, rows, row_stride, width, fold, fold_stride;
  Index block_param, plane_param;  ///< what to add to a row's parameter index
  Index columns_per_param;         ///< 0: one parameter for a whole row
};

/// Every case is one of the two.
struct Plan {
  bool columns;
  SlicePlan slice;
  ColumnPlan column;
};

Plan sliced(SlicePlan plan) { return {false, plan, {}}; }
Plan columned(ColumnPlan plan) { return {true, {}, plan}; }

Plan plan_rows(const Case& c) {
  const Index rows = c.shape[0], width = c.shape[1];
  if (c.storage == Storage::row_major || rows == 1) return sliced({1, 0, rows, width, 1, 0, width, 0, 0, true});
  return columned({1, 0, width, rows, 1, 0, rows, 1, 1, 0, 1, 0});
}

Plan plan_batch(const Case& c) {
  const Index n = c.shape[0], channels = c.shape[1], spatial = c.spatial();
  if (c.storage == Storage::row_major) {
    if (c.channels == Channels::last || spatial == 1)  // (N, spatial, C)
      return columned({1, 0, 1, 0, n * spatial, channels, channels, 1, 1, 0, 0, 1});
    return sliced({1, 0, channels, spatial, n, channels * spatial, spatial, 1, 0, false});
  }
  if (c.channels == Channels::last || spatial == 1)  // in memory (C, spatial, N)
    return sliced({1, 0, channels, spatial * n, 1, 0, spatial * n, 1, 0, false});
  return columned({1, 0, 1, 0, spatial, channels * n, channels * n, n, 1, 0, 0, n});  // in memory (spatial, C, N)
}

Plan plan_groups(const Case& c, Index groups) {
  const Index n = c.shape[0], channels = c.shape[1], spatial = c.spatial(), members = channels / groups;
  if (c.storage == Storage::row_major) {
    if (c.channels == Channels::first)
      return sliced({n, channels * spatial, groups, members * spatial, members, spatial, spatial, members, 1, false});
    return columned({n, spatial * channels, 1, 0, spatial, channels, channels, members, 1, 0, 0, 1});
  }
  if (c.channels == Channels::first)  // in memory (spatial, C, N)
    return columned({1, 0, 1, 0, spatial, channels * n, channels * n, members, n, 0, 0, n});
  // In memory (C, spatial, N): the few images of a pixel are too short a row, so several pixels make one, in cache.
  Index pixels = std::max<Index>(1, std::min<Index>(spatial, 4096 / n));
  while (spatial % pixels != 0) --pixels;
  const Index width = pixels * n;
  return columned(
      {groups, members * spatial * n, members, spatial * n, spatial / pixels, width, width, pixels, n, members, 1, 0});
}

Plan plan_of(const Case& c) {
  switch (c.layer) {
    case Layer::batch_norm:
      return plan_batch(c);
    case Layer::instance_norm:
      return plan_groups(c, c.shape[1]);
    case Layer::group_norm:
      return plan_groups(c, c.groups);
    default:
      return plan_rows(c);
  }
}

template <class S>
struct Memory {
  S *x, *dy, *result, *weight, *bias, *running_mean, *running_variance;
};

template <class S>
Memory<S> memory_of(const Tensors& t) {
  return {t.x.as<S>(),    t.dy.as<S>(),           t.result.as<S>(),          t.weight.as<S>(),
          t.bias.as<S>(), t.running_mean.as<S>(), t.running_variance.as<S>()};
}

template <class S>
class SliceLoop {
 public:
  SliceLoop(const SlicePlan& plan, const Case& c, const Memory<S>& memory)
      : p_(plan), m_(memory), centred_(c.layer != Layer::rms_norm), count_(S(p_.slices * p_.length)) {
    mean_.setZero(p_.images * p_.channels);
    rstd_.setZero(mean_.size());
    dweight_.setZero(parameters_of(c));
    dbias_.setZero(parameters_of(c));
  }

  void forward() {
    each_statistic([&](Index statistic, Index base, Index param) {
      S mean = 0, m2 = 0;
      if (centred_) {
        for (Index s = 0; s < p_.slices; ++s) mean += slice(m_.x, base, s).sum();
        mean /= count_;
      }
      for (Index s = 0; s < p_.slices; ++s) m2 += (slice(m_.x, base, s) - mean).square().sum();
      const S rstd = 1 / std::sqrt(m2 / count_ + S(kEps));
      mean_[statistic] = mean;
      rstd_[statistic] = rstd;
      normalize(base, param, mean, rstd);
    });
  }

  void eval() {  // batch norm: as many statistics as channels
    each_statistic([&](Index statistic, Index base, Index param) {
      normalize(base, param, m_.running_mean[statistic], 1 / std::sqrt(m_.running_variance[statistic] + S(kEps)));
    });
  }

  void backward() {
    LineMap<S> weight(m_.weight, dweight_.size());
    each_statistic([&](Index statistic, Index base, Index param) {
      const S mean = mean_[statistic], rstd = rstd_[statistic];
      S sum = 0, dot = 0;  // of dnorm, and of dnorm * norm
      if (p_.elementwise) {
        const auto x = slice(m_.x, base, 0), dy = slice(m_.dy, base, 0);
        dweight_ += dy * (x - mean) * rstd;
        if (centred_) dbias_ += dy;
        if (centred_) sum = (dy * weight).sum();
        dot = (dy * weight * (x - mean)).sum() * rstd;
        slice(m_.result, base, 0) = (dy * weight - sum / count_ - (x - mean) * (rstd * dot / count_)) * rstd;
        return;
      }
      for (Index s = 0; s < p_.slices; ++s) {
        const Index i = param + s * p_.slice_param;
        const auto x = slice(m_.x, base, s), dy = slice(m_.dy, base, s);
        const S slice_sum = dy.sum(), slice_dot = (dy * (x - mean)).sum() * rstd;
        dbias_[i] += slice_sum;
        dweight_[i] += slice_dot;
        sum += weight[i] * slice_sum;
        dot += weight[i] * slice_dot;
      }
      for (Index s = 0; s < p_.slices; ++s) {
        const S w = weight[param + s * p_.slice_param];
        const auto x = slice(m_.x, base, s), dy = slice(m_.dy, base, s);
        slice(m_.result, base, s) = (dy * w - sum / count_ - (x - mean) * (rstd * dot / count_)) * rstd;
      }
    });
  }

 private:
  LineMap<S> slice(S* data, Index base, Index s) const { return {data + base + s * p_.slice_stride, p_.length}; }

  template <class Body>
  void each_statistic(Body body) const {
    for (Index i = 0; i < p_.images; ++i) {
      for (Index c = 0; c < p_.channels; ++c)
        body(i * p_.channels + c, i * p_.image_stride + c * p_.channel_stride, c * p_.channel_param);
    }
  }

  void normalize(Index base, Index param, S mean, S rstd) const {
    for (Index s = 0; s < p_.slices; ++s) {
      const auto x = slice(m_.x, base, s);
      auto y = slice(m_.result, base, s);
      if (p_.elementwise) {
        LineMap<S> weight(m_.weight, p_.length), bias(m_.bias, p_.length);
        if (centred_)
          y = (x - mean) * rstd * weight + bias;
        else
          y = x * rstd * weight;
      } else {
        const Index i = param + s * p_.slice_param;
        const S scale = m_.weight[i] * rstd, shift = m_.bias[i] - mean * scale;
        y = x * scale + shift;
      }
    }
  }

  SlicePlan p_;
  Memory<S> m_;
  bool centred_;
  S count_;
  Line<S> mean_, rstd_, dweight_, dbias_;
};

template <class S>
class ColumnLoop {
 public:
  ColumnLoop(const ColumnPlan& plan, const Case& c, const Memory<S>& memory)
      : p_(plan), m_(memory), centred_(c.layer != Layer::rms_norm), count_(S(p_.planes * p_.rows * p_.fold)) {
    mean_.setZero(p_.blocks * p_.width);
    rstd_.setZero(p_.blocks * p_.width);
    for (Line<S>* line : {&scale_, &shift_, &sum_, &dot_, &plane_sum_, &plane_dot_}) line->setZero(p_.width);
    dweight_.setZero(parameters_of(c));
    dbias_.setZero(parameters_of(c));
  }

  void forward() {
    for (Index block = 0; block < p_.blocks; ++block) {
      auto mean = saved(mean_, block), rstd = saved(rstd_, block);
      mean.setZero();
      if (centred_) {
        each_row(block, [&](Index at, Index) { mean += row(m_.x, at); });
        average(mean);
      }
      sum_.setZero();
      each_row(block, [&](Index at, Index) { sum_ += (row(m_.x, at) - mean).square(); });
      average(sum_);
      rstd = (sum_ + S(kEps)).sqrt().inverse();
      normalize(block, mean, rstd);
    }
  }

  void eval() {  // batch norm: one block, a statistic for each parameter
    each_column_param([&](Index column, Index param) {
      mean_[column] = m_.running_mean[param];
      rstd_[column] = 1 / std::sqrt(m_.running_variance[param] + S(kEps));
    });
    normalize(0, saved(mean_, 0), saved(rstd_, 0));
  }

  void backward() {
    for (Index block = 0; block < p_.blocks; ++block) {
      const auto mean = saved(mean_, block), rstd = saved(rstd_, block);
      sum_.setZero();
      dot_.setZero();
      each_plane(block, [&](Index base, Index param) {
        plane_sum_.setZero();
        plane_dot_.setZero();
        each_row_of_plane(base, [&](Index at) {
          plane_sum_ += row(m_.dy, at);
          plane_dot_ += row(m_.dy, at) * (row(m_.x, at) - mean);
        });
        plane_dot_ *= rstd;
        add_parameter_gradients(param);
        spread_weight(param);
        sum_ += scale_ * plane_sum_;
        dot_ += scale_ * plane_dot_;
      });
      average(sum_);
      average(dot_);
      if (!centred_) sum_.setZero();
      dot_ *= rstd;
      each_plane(block, [&](Index base, Index param) {
        spread_weight(param);
        each_row_of_plane(base, [&](Index at) {
          row(m_.result, at) = (row(m_.dy, at) * scale_ - sum_ - (row(m_.x, at) - mean) * dot_) * rstd;
        });
      });
    }
  }

 private:
  LineMap<S> row(S* data, Index at) const { return {data + at, p_.width}; }
  LineMap<S> saved(Line<S>& of_all, Index block) const { return {of_all.data() + block * p_.width, p_.width}; }

  template <class Body>
  void each_plane(Index block, Body body) const {
    for (Index plane = 0; plane < p_.planes; ++plane)
      body(block * p_.block_stride + plane * p_.plane_stride, block * p_.block_param + plane * p_.plane_param);
  }

  template <class Body>
  void each_row_of_plane(Index base, Body body) const {
    for (Index r = 0; r < p_.rows; ++r) body(base + r * p_.row_stride);
  }

  template <class Body>
  void each_row(Index block, Body body) const {
    each_plane(block, [&](Index base, Index param) { each_row_of_plane(base, [&](Index at) { body(at, param); }); });
  }

  template <class Body>
  void each_column_param(Body body) const {
    for (Index param = 0, column = 0; column < p_.width; ++param) {
      for (Index end = column + p_.columns_per_param; column < end; ++column) body(column, param);
    }
  }

  /// Sums by column become the mean of their statistic, in each of its columns.
  template <class Sums>
  void average(Sums& sums) const {
    if (p_.fold > 1) {
      const Index shared = p_.fold * p_.fold_stride;
      for (Index first = 0; first < p_.width; first += shared) {
        Eigen::Map<Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic>> columns(sums.data() + first, p_.fold_stride,
                                                                            p_.fold);
        const Eigen::Array<S, Eigen::Dynamic, 1> totals = columns.rowwise().sum();
        columns.colwise() = totals;
      }
    }
    sums /= count_;
  }

  void spread_weight(Index param) {
    if (p_.columns_per_param == 1)
      scale_ = LineMap<S>(m_.weight, p_.width);
    else if (p_.columns_per_param > 1)
      each_column_param([&](Index column, Index i) { scale_[column] = m_.weight[i]; });
    else
      scale_.setConstant(m_.weight[param]);
  }

  void spread_bias(Index param) {
    if (p_.columns_per_param == 1)
      shift_ = LineMap<S>(m_.bias, p_.width);
    else if (p_.columns_per_param > 1)
      each_column_param([&](Index column, Index i) { shift_[column] = m_.bias[i]; });
    else
      shift_.setConstant(centred_ ? m_.bias[param] : S(0));
  }

  void add_parameter_gradients(Index param) {
    if (p_.columns_per_param == 0) {
      dbias_[param] += plane_sum_.sum();
      dweight_[param] += plane_dot_.sum();
    } else if (p_.columns_per_param == 1) {
      dbias_ += plane_sum_;
      dweight_ += plane_dot_;
    } else {
      each_column_param([&](Index column, Index i) {
        dbias_[i] += plane_sum_[column];
        dweight_[i] += plane_dot_[column];
      });
    }
  }

  void normalize(Index block, const LineMap<S>& mean, const LineMap<S>& rstd) {
    each_plane(block, [&](Index base, Index param) {
      spread_weight(param);
      spread_bias(param);
      scale_ *= rstd;
      shift_ -= mean * scale_;
      each_row_of_plane(base, [&](Index at) { row(m_.result, at) = row(m_.x, at) * scale_ + shift_; });
    });
  }

  ColumnPlan p_;
  Memory<S> m_;
  bool centred_;
  S count_;
  Line<S> mean_, rstd_;  ///< one of each a column, block after block
  Line<S> scale_, shift_, sum_, dot_, plane_sum_, plane_dot_, dweight_, dbias_;
};

template <class Loop>
Call call_of(Loop loop, Job job) {
  switch (job) {
    case Job::forward:
      return repeated([loop = std::move(loop)]() mutable { loop.forward(); });
    case Job::eval:
      return repeated([loop = std::move(loop)]() mutable { loop.eval(); });
    case Job::backward:
      loop.forward();
      return repeated([loop = std::move(loop)]() mutable { loop.backward(); });
  }
  return {};
}

template <class S>
Call hand_loop_of(const Case& c, const Tensors& tensors) {
  const Plan plan = plan_of(c);
  // A layer without running statistics does in eval what it does in forward.
  const Job job = c.job == Job::eval && c.layer != Layer::batch_norm ? Job::forward : c.job;
  if (plan.columns) return call_of(ColumnLoop<S>(plan.column, c, memory_of<S>(tensors)), job);
  return call_of(SliceLoop<S>(plan.slice, c, memory_of<S>(tensors)), job);
}

}  // namespace

Call hand_loop(const Case& c, const Tensors& tensors) {
  return c.precision == Precision::float32 ? hand_loop_of<float>(c, tensors) : hand_loop_of<double>(c, tensors);
}

}  // namespace bench::BENCH_FLAGS
