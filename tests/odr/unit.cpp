// SPDX-License-Identifier: MIT
// Compiled several times with different flags and a different UNIT, the unit's name.
#include "unit.hpp"

#include <limits>
#include <stdexcept>
#include <string>
#include <tensornorm/tensornorm.hpp>

#ifdef UNIT_KERNELS
#include <tensornorm/kernels_once.hpp>
UNIT_KERNELS(float);
#endif

namespace {

namespace tn = tensornorm;
using Images = Eigen::Tensor<float, 4, Eigen::RowMajor>;

template <class T>
std::vector<float> values_of(const T& tensor) {
  return {tensor.data(), tensor.data() + tensor.size()};
}

/// Rows and columns, train and eval mode, backward, both storage orders.
Results run(const std::vector<float>& values) {
  Results results;
  const Eigen::TensorMap<const Images> x(values.data(), kShape[0], kShape[1], kShape[2], kShape[3]);
  const std::vector<float> reversed(values.rbegin(), values.rend());
  const Eigen::TensorMap<const Images> dy(reversed.data(), kShape[0], kShape[1], kShape[2], kShape[3]);
  Eigen::Tensor<float, 4> columns(kShape[0], kShape[1], kShape[2], kShape[3]);
  for (Eigen::Index i = 0; i < columns.size(); ++i) columns.data()[i] = values[static_cast<std::size_t>(i)];

  tn::BatchNorm2d<float> batch(kShape[1]);
  results.batch = values_of(batch(x));
  results.batch_col_major = values_of(batch(columns));
  results.running_mean = values_of(batch.running_mean());
  results.running_variance = values_of(batch.running_var());
  results.infer = values_of(batch.infer(x));
  tn::BatchNorm2d<float, tn::BatchAxes<-1>> channels_last(kShape[3]);
  results.channels_last = values_of(channels_last(x));
  const Eigen::Index half = columns.size() / 2;
  tn::LayerNorm<float> row(half);
  results.two_rows = values_of(row(Eigen::TensorMap<const Eigen::Tensor<float, 2>>(values.data(), 2, half)));
  tn::LayerNorm<float> layer(kShape[3]);
  results.layer = values_of(layer(x));
  Images y(x.dimensions()), dx(x.dimensions());
  tn::LayerNorm<float>::Saved saved;
  auto gradients = layer.zero_gradients();
  layer.forward(x, y, saved);
  layer.backward(dy, x, saved, dx, gradients);
  results.layer_dx = values_of(dx);
  tn::InstanceNorm2d<float> instance(kShape[1], {.track_running_stats = true});
  results.instance = values_of(instance(x));
  results.instance_running_variance = values_of(instance.running_var());
  tn::GroupNorm<float> group(kGroups, kShape[1]);
  results.group = values_of(group(x));
  const auto moments = tn::moments(x, tn::over<0, 2, 3>);
  results.mean = values_of(moments.mean);
  results.variance = values_of(moments.variance);
  return results;
}

template <class F>
bool refused(F f) {
  try {
    f();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

/// Whatever the flags, of this unit or of the one whose copy of a check was linked in, numbers that are none are
/// refused.
bool throws() {
  bool all = refused([] { tn::LayerNorm<float> layer(0); });
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = tn::kInfinity;
  for (const double bad : {nan, infinity, -infinity, -1.0}) {
    all = refused([&] { tn::LayerNorm<float> layer(3, {.eps = bad}); }) && all;
    all = refused([&] { tn::BatchNorm1d<float> layer(3, {.momentum = bad}); }) && all;
  }
  for (const double bad : {nan, -infinity, -1.0}) {
    const std::vector<double> mean(3), variance(3, bad);
    tn::RunningStats<double> stats(3);
    all = refused([&] { stats.load(mean, variance, 1); }) && all;
  }
  const std::vector<double> mean(3), variance(3, infinity);  // overflow is no error
  return all && !refused([&] { tn::RunningStats<double>(3).load(mean, variance, 1); });
}

#if defined(__FAST_MATH__)
constexpr bool kIeee = false;
#else
constexpr bool kIeee = true;
#endif

[[maybe_unused]] const bool added = add_unit({UNIT, kIeee, &run, &throws});

}  // namespace
