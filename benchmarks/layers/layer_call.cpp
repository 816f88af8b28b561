// SPDX-License-Identifier: MIT
#include "layer_call.hpp"

#include "layer_call_on.hpp"

namespace bench {
namespace {

template <class S>
Call call_with(const Case& c, const Tensors& t) {
  const Eigen::DefaultDevice device;
  return c.storage == Storage::row_major ? layer_call_on<S, Eigen::RowMajor>(device, c, t)
                                         : layer_call_on<S, Eigen::ColMajor>(device, c, t);
}

}  // namespace

Call tensornorm_layer(const Case& c, const Tensors& t) {
  return c.precision == Precision::float32 ? call_with<float>(c, t) : call_with<double>(c, t);
}

}  // namespace bench
