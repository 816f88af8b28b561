// SPDX-License-Identifier: MIT
/// Any Eigen device; define EIGEN_USE_THREADS before it for ThreadPoolDevice.
#pragma once

#include <algorithm>
#include <tensornorm/tensornorm.hpp>
#include <utility>

#include "../harness/contender.hpp"

namespace bench {

namespace tn = tensornorm;

template <class Map, class TnLayer, class Device>
Call call_of(TnLayer layer, const Map& x, const Map& dy, const Map& result, const Case& c, const Tensors& t,
             const Device& device) {
  using S = typename Map::Scalar;
  std::copy_n(t.weight.as<S>(), parameters_of(c), layer.weight().data());
  if (c.layer != Layer::rms_norm) std::copy_n(t.bias.as<S>(), parameters_of(c), layer.bias().data());
  if constexpr (requires { layer.running_stats(); }) {
    using Vector = Eigen::TensorMap<const Eigen::Tensor<S, 1>>;
    if (layer.track_running_stats())
      layer.running_stats().load(Vector(t.running_mean.as<S>(), parameters_of(c)),
                                 Vector(t.running_variance.as<S>(), parameters_of(c)), 1);
  }
  if (c.job == Job::eval)
    return repeated(
        [layer = std::move(layer), x, y = result, device]() mutable { std::as_const(layer).infer(x, y, device); });

  tn::SavedStats<S> saved;
  if (c.job == Job::forward) {
    return repeated([layer = std::move(layer), saved = std::move(saved), x, y = result, device]() mutable {
      layer.forward(x, y, saved, device);
    });
  }
  Map dx = result;
  layer.forward(x, dx, saved);
  auto gradients = layer.zero_gradients();
  return repeated([layer = std::move(layer), saved = std::move(saved), gradients = std::move(gradients), x, dy, dx,
                   device]() mutable { layer.backward(dy, x, saved, dx, gradients, device); });
}

/// Calls a layer with maps of such tensors.
template <class Tensor, class Device>
struct Maps {
  using Map = Eigen::TensorMap<Tensor>;
  const Case& c;
  const Tensors& t;
  const Device& device;

  Map map(const Buffer& buffer) const {
    const std::vector<long> shape = c.tensor_shape();
    Eigen::array<Eigen::Index, Tensor::NumIndices> extents;
    std::copy_n(shape.begin(), extents.size(), extents.begin());
    return Map(buffer.as<typename Tensor::Scalar>(), extents);
  }
  template <class TnLayer>
  Call operator()(TnLayer layer) const {
    return call_of(std::move(layer), map(t.x), map(t.dy), map(t.result), c, t, device);
  }
};

template <class Tensor, class Device>
Maps<Tensor, Device> maps_of(const Case& c, const Tensors& t, const Device& device) {
  return {c, t, device};
}

template <class S, int kOrder, class Device>
Call rows_call(const Case& c, const Tensors& t, const Device& device) {
  const auto with_maps = maps_of<Eigen::Tensor<S, 2, kOrder>>(c, t, device);
  if (c.layer == Layer::rms_norm) return with_maps(tn::RMSNorm<S>(c.shape[1], {.eps = kEps}));
  tn::LayerNorm<S> layer(c.shape[1], {.eps = kEps});
  if (!c.fixed_size) return with_maps(std::move(layer));
  return maps_of<Eigen::TensorFixedSize<S, Eigen::Sizes<1, 16>, kOrder>>(c, t, device)(std::move(layer));
}

template <class S, int kOrder, int kChannelAxis, class Device>
Call channels_call(const Case& c, const Tensors& t, const Device& device) {
  const Eigen::Index channels = c.shape[1];
  const auto with_maps = maps_of<Eigen::Tensor<S, 4, kOrder>>(c, t, device);
  using Batch = tn::BatchAxes<kChannelAxis>;
  if (c.layer == Layer::instance_norm)
    return with_maps(tn::InstanceNorm2d<S, tn::InstanceAxes<kChannelAxis>>(channels, {.eps = kEps, .affine = true}));
  if (c.layer == Layer::group_norm)
    return with_maps(tn::GroupNorm<S, tn::GroupAxes<kChannelAxis>>(c.groups, channels, {.eps = kEps}));
  if (c.shape.size() == 4) return with_maps(tn::BatchNorm2d<S, Batch>(channels, {.eps = kEps}));
  return maps_of<Eigen::Tensor<S, 5, kOrder>>(c, t, device)(tn::BatchNorm3d<S, Batch>(channels, {.eps = kEps}));
}

/// The layer through its public interface, on this device.
template <class S, int kOrder, class Device>
Call layer_call_on(const Device& device, const Case& c, const Tensors& t) {
  if (c.layer == Layer::layer_norm || c.layer == Layer::rms_norm) return rows_call<S, kOrder>(c, t, device);
  if (c.shape.size() < 4) {
    tn::BatchNorm1d<S> layer(c.shape[1], {.eps = kEps});
    if (c.shape.size() == 2) return maps_of<Eigen::Tensor<S, 2, kOrder>>(c, t, device)(std::move(layer));
    return maps_of<Eigen::Tensor<S, 3, kOrder>>(c, t, device)(std::move(layer));
  }
  if (c.channels == Channels::last) return channels_call<S, kOrder, -1>(c, t, device);
  return channels_call<S, kOrder, 1>(c, t, device);
}

/// The same on the calling thread, in the case's storage order; the tensors hold S, whatever the case's precision.
template <class S>
Call layer_call_of(const Case& c, const Tensors& t) {
  const Eigen::DefaultDevice device;
  return c.storage == Storage::row_major ? layer_call_on<S, Eigen::RowMajor>(device, c, t)
                                         : layer_call_on<S, Eigen::ColMajor>(device, c, t);
}

}  // namespace bench
