// SPDX-License-Identifier: MIT
// Compiled several times with different flags and a different UNIT, the unit's name.
#include "unit.hpp"

#include <stdexcept>
#include <string>
#include <tensornorm/tensornorm.hpp>

namespace {

namespace tn = tensornorm;
using Images = Eigen::Tensor<float, 4, Eigen::RowMajor>;

template <class T>
void append(std::vector<float>& results, const T& tensor) {
  results.insert(results.end(), tensor.data(), tensor.data() + tensor.size());
}

/// Rows and columns, train and eval mode, both storage orders.
std::vector<float> run(const std::vector<float>& values) {
  std::vector<float> results;
  const Eigen::TensorMap<const Images> x(values.data(), kShape[0], kShape[1], kShape[2], kShape[3]);
  Eigen::Tensor<float, 4> columns(kShape[0], kShape[1], kShape[2], kShape[3]);
  for (Eigen::Index i = 0; i < columns.size(); ++i) columns.data()[i] = values[static_cast<std::size_t>(i)];

  tn::BatchNorm2d<float> batch(kShape[1]);
  append(results, batch(x));
  append(results, batch(columns));
  append(results, batch.running_mean());
  append(results, batch.running_var());
  append(results, batch.infer(x));
  tn::BatchNorm2d<float, tn::BatchAxes<-1>> channels_last(kShape[3]);
  append(results, channels_last(x));
  tn::LayerNorm<float> layer(kShape[3]);
  append(results, layer(x));
  tn::GroupNorm<float> group(2, kShape[1]);
  append(results, group(x));
  const auto moments = tn::moments(x, tn::over<0, 2, 3>);
  append(results, moments.mean);
  append(results, moments.variance);
  return results;
}

bool throws() {
#if defined(__cpp_exceptions)
  try {
    tn::LayerNorm<float> layer(0);
  } catch (const std::invalid_argument&) {
    return true;
  }
#endif
  return false;
}

#if defined(__FAST_MATH__)
constexpr bool kIeee = false;
#else
constexpr bool kIeee = true;
#endif

[[maybe_unused]] const bool added = add_unit({UNIT, kIeee, &run, &throws});

}  // namespace
