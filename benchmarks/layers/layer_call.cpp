// SPDX-License-Identifier: MIT
#include "layer_call.hpp"

#include <algorithm>
#include <tensornorm/tensornorm.hpp>
#include <utility>

namespace bench {
namespace {

namespace tn = tensornorm;

template <class Map, class TnLayer>
Call call_of(TnLayer layer, const Map& x, const Map& dy, const Map& result, const Case& c, const Tensors& t) {
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
    return repeated([layer = std::move(layer), x, y = result]() mutable { std::as_const(layer).infer(x, y); });

  tn::SavedStats<S> saved;
  if (c.job == Job::forward) {
    return repeated(
        [layer = std::move(layer), saved = std::move(saved), x, y = result]() mutable { layer.forward(x, y, saved); });
  }
  Map dx = result;
  layer.forward(x, dx, saved);
  auto gradients = layer.zero_gradients();
  return repeated([layer = std::move(layer), saved = std::move(saved), gradients = std::move(gradients), x, dy,
                   dx]() mutable { layer.backward(dy, x, saved, dx, gradients); });
}

/// Calls a layer with maps of such tensors.
template <class Tensor>
struct Maps {
  using Map = Eigen::TensorMap<Tensor>;
  const Case& c;
  const Tensors& t;

  Map map(const Buffer& buffer) const {
    const std::vector<long> shape = c.tensor_shape();
    Eigen::array<Eigen::Index, Tensor::NumIndices> extents;
    std::copy_n(shape.begin(), extents.size(), extents.begin());
    return Map(buffer.as<typename Tensor::Scalar>(), extents);
  }
  template <class TnLayer>
  Call operator()(TnLayer layer) const {
    return call_of(std::move(layer), map(t.x), map(t.dy), map(t.result), c, t);
  }
};

template <class S, int kOrder>
Call rows_call(const Case& c, const Tensors& t) {
  const Maps<Eigen::Tensor<S, 2, kOrder>> with_maps{c, t};
  if (c.layer == Layer::rms_norm) return with_maps(tn::RMSNorm<S>(c.shape[1], {.eps = kEps}));
  tn::LayerNorm<S> layer(c.shape[1], {.eps = kEps});
  if (!c.fixed_size) return with_maps(std::move(layer));
  return Maps<Eigen::TensorFixedSize<S, Eigen::Sizes<1, 16>, kOrder>>{c, t}(std::move(layer));
}

template <class S, int kOrder, int kChannelAxis>
Call channels_call(const Case& c, const Tensors& t) {
  const Eigen::Index channels = c.shape[1];
  const Maps<Eigen::Tensor<S, 4, kOrder>> with_maps{c, t};
  using Batch = tn::BatchAxes<kChannelAxis>;
  if (c.layer == Layer::instance_norm)
    return with_maps(tn::InstanceNorm2d<S, tn::InstanceAxes<kChannelAxis>>(channels, {.eps = kEps, .affine = true}));
  if (c.layer == Layer::group_norm)
    return with_maps(tn::GroupNorm<S, tn::GroupAxes<kChannelAxis>>(c.groups, channels, {.eps = kEps}));
  if (c.shape.size() == 4) return with_maps(tn::BatchNorm2d<S, Batch>(channels, {.eps = kEps}));
  return Maps<Eigen::Tensor<S, 5, kOrder>>{c, t}(tn::BatchNorm3d<S, Batch>(channels, {.eps = kEps}));
}

template <class S, int kOrder>
Call call_for(const Case& c, const Tensors& t) {
  if (c.layer == Layer::layer_norm || c.layer == Layer::rms_norm) return rows_call<S, kOrder>(c, t);
  if (c.shape.size() < 4) {
    tn::BatchNorm1d<S> layer(c.shape[1], {.eps = kEps});
    if (c.shape.size() == 2) return Maps<Eigen::Tensor<S, 2, kOrder>>{c, t}(std::move(layer));
    return Maps<Eigen::Tensor<S, 3, kOrder>>{c, t}(std::move(layer));
  }
  return c.channels == Channels::last ? channels_call<S, kOrder, -1>(c, t) : channels_call<S, kOrder, 1>(c, t);
}

template <class S>
Call call_with(const Case& c, const Tensors& t) {
  return c.storage == Storage::row_major ? call_for<S, Eigen::RowMajor>(c, t) : call_for<S, Eigen::ColMajor>(c, t);
}

}  // namespace

Call tensornorm_layer(const Case& c, const Tensors& t) {
  return c.precision == Precision::float32 ? call_with<float>(c, t) : call_with<double>(c, t);
}

}  // namespace bench
