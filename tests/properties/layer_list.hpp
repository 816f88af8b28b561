// SPDX-License-Identifier: MIT
// What layers.cpp and narrow_layers.cpp compile: random_layer and what it makes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <sstream>
#include <tensornorm/tensornorm.hpp>
#include <thread>

#include "random_layer.hpp"
#include "support/policies.hpp"

namespace properties {

namespace tn = tensornorm;
using support::EveryRoleAxes;
using support::PositionAxes;

/// A device in the place of Eigen's, whose header takes as long to compile as all of this: a thread per task.
class Workers {
 public:
  explicit Workers(int threads) : threads_(threads) {}
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() {
    for (std::thread& thread : started_) thread.join();
  }
  Workers* getPool() const { return const_cast<Workers*>(this); }
  void Schedule(std::function<void()> task) { started_.emplace_back(std::move(task)); }
  int numThreads() const { return threads_; }
  int currentThreadId() const { return -1; }

 private:
  int threads_;
  std::vector<std::thread> started_;
};

/// Elements that begin `offset` elements after memory aligned to 64 bytes, with a canary on either side.
template <class T>
class Placed {
 public:
  Placed(const std::vector<T>& values, Index offset)
      : size_(static_cast<Index>(values.size())), offset_(offset + kCanaries), memory_(allocate(size_ + offset_ + kCanaries)) {
    std::fill(memory_, memory_ + offset_, canary());
    std::copy(values.begin(), values.end(), data());
    std::fill(data() + size_, data() + size_ + kCanaries, canary());
  }
  Placed(Index size, Index offset) : Placed(std::vector<T>(static_cast<std::size_t>(size), T(42)), offset) {}
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
  ~Placed() {
    const auto is_canary = [](const T& value) { return value == canary(); };
    EXPECT_TRUE(std::all_of(memory_, memory_ + offset_, is_canary)) << "written before the first element";
    EXPECT_TRUE(std::all_of(data() + size_, data() + size_ + kCanaries, is_canary)) << "written after the last element";
    ::operator delete(memory_, std::align_val_t(64));
  }
  T* data() const { return memory_ + offset_; }
  std::vector<T> values() const { return std::vector<T>(data(), data() + size_); }

 private:
  static constexpr Index kCanaries = 64 / Index(sizeof(T));
  static T canary() { return T(-12345); }
  static T* allocate(Index count) {
    return static_cast<T*>(::operator new(static_cast<std::size_t>(count) * sizeof(T), std::align_val_t(64)));
  }
  Index size_, offset_;
  T* memory_;
};

template <class Layer, class Tensor, class Parameter>
class RandomLayerOf : public RandomLayer<typename Tensor::Scalar, Parameter> {
 public:
  using Element = typename Tensor::Scalar;
  using Base = RandomLayer<Element, Parameter>;
  using typename Base::Gradients;
  using typename Base::Parameters;
  using typename Base::Result;
  using typename Base::Running;
  using typename Base::Values;

  explicit RandomLayerOf(Layer layer) : layer_(std::move(layer)) {}

  std::unique_ptr<Base> copy() const override { return std::make_unique<RandomLayerOf>(*this); }
  void set_parameters(const Parameters& weight, const Parameters& bias) override {
    if (this->has_weight) std::copy(weight.begin(), weight.end(), layer_.weight().data());
    if (this->has_bias) std::copy(bias.begin(), bias.end(), layer_.bias().data());
  }
  void train(bool on) override {
    this->training = on;
    on ? (void)layer_.train() : (void)layer_.eval();
  }
  void load(const Running& running) override {
    if constexpr (kHasRunning) layer_.running_stats().load(running.mean, running.variance, running.batches);
  }
  Running running() const override {
    if constexpr (kHasRunning) {
      const auto& stats = layer_.running_stats();
      return {flat<double>(stats.mean()), flat<double>(stats.variance()), static_cast<Index>(stats.num_batches())};
    } else {
      return {};
    }
  }
  Result forward(const Values& x, const Shape& of_x, const Situation& situation) override {
    Result result;
    with_x_and_y(x, of_x, situation, [&](const auto& in, auto& out, const Workers& device) {
      layer_.forward(in, out, saved_, device);
      result = {flat<Element>(out), flat<double>(saved_.mean()), flat<double>(saved_.rstd())};
    });
    return result;
  }
  Values infer(const Values& x, const Shape& of_x, const Situation& situation) const override {
    Values y;
    with_x_and_y(x, of_x, situation, [&](const auto& in, auto& out, const Workers& device) {
      layer_.infer(in, out, device);
      y = flat<Element>(out);
    });
    return y;
  }
  Gradients backward(const Values& dy, const Values& x, const Shape& of_x, const Situation& situation) const override {
    const Placed<Element> data(dy, situation.x_offset), input(x, situation.y_offset);
    const Placed<Element> separate(static_cast<Index>(x.size()), situation.y_offset);
    const Workers device(situation.threads);
    auto gradients = layer_.zero_gradients();
    ConstMap dy_map(data.data(), dimensions(of_x)), x_map(input.data(), dimensions(of_x));
    Map dx((situation.in_place ? data : separate).data(), dimensions(of_x));
    layer_.backward(dy_map, x_map, saved_, dx, gradients, device);
    return {flat<Element>(dx), flat<Parameter>(gradients.weight), flat<Parameter>(gradients.bias)};
  }

 private:
  using Map = Eigen::TensorMap<Tensor>;
  using ConstMap = Eigen::TensorMap<const Tensor>;
  static constexpr bool kHasRunning = requires(Layer& layer) { layer.running_stats(); };

  static auto dimensions(const Shape& shape) {
    typename Tensor::Dimensions result;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) result[axis] = shape[axis];
    return result;
  }
  template <class T, class From>
  static std::vector<T> flat(const From& tensor) {
    return std::vector<T>(tensor.data(), tensor.data() + tensor.size());
  }
  template <class F>
  static void with_x_and_y(const Values& x, const Shape& of_x, const Situation& situation, F f) {
    const Placed<Element> input(x, situation.x_offset);
    const Placed<Element> separate(static_cast<Index>(x.size()), situation.y_offset);
    const ConstMap in(input.data(), dimensions(of_x));
    Map out((situation.in_place ? input : separate).data(), dimensions(of_x));
    f(in, out, Workers(situation.threads));
  }

  Layer layer_;
  tn::SavedStats<Parameter> saved_;
};

/// Extents whose product is at most `most`.
inline Shape random_shape(Random& random, std::size_t rank, Index most) {
  Shape shape(rank, 1);
  const auto first = static_cast<std::size_t>(random.between(0, static_cast<Index>(rank) - 1));
  Index left = most;
  for (std::size_t i = 0; i < rank; ++i) {
    Index& extent = shape[(first + i) % rank];
    extent = random.extent(left);
    left /= extent;
  }
  return shape;
}

template <class Kind>
std::unique_ptr<RandomLayer<typename Kind::Scalar, typename Kind::Parameter>> random_layer(Random& random, Index most) {
  using P = typename Kind::Parameter;
  using Pointer = std::unique_ptr<RandomLayer<typename Kind::Scalar, P>>;
  const double eps = random.one_of({1e-5, 1e-5, 1e-3, 1e-8, 0.5});

  const auto finish = [&]<int kRank>(auto layer, Shape shape, const std::string& roles) {
    using Layer = decltype(layer);
    auto result = std::make_unique<RandomLayerOf<Layer, typename Kind::template Tensor<kRank>, P>>(std::move(layer));
    result->norm = {shape, reference::roles_of(roles), eps};
    result->shape = std::move(shape);
    result->has_weight = result->has_bias = roles.find_first_of("KR") != std::string::npos;
    return result;
  };
  const auto named = [](auto layer, const auto& text) -> Pointer {
    std::ostringstream name;
    name << text << " " << testing::PrintToString(layer->shape);
    layer->name = name.str();
    return layer;
  };
  /// Draws shapes until there are `samples` for each statistic.
  const auto shape_with = [&](const std::string& roles, Index samples) {
    reference::Norm norm{{}, reference::roles_of(roles)};
    do norm.shape = random_shape(random, roles.size(), std::max<Index>(most, 2));
    while (norm.samples() < samples);
    return norm.shape;
  };

  /// BatchNorm and InstanceNorm.
  const auto tracked = [&]<int kRank, class Layer, class Options>(Options options, std::string roles) -> Pointer {
    options.eps = eps;
    options.momentum = random.one_of<std::optional<double>>({0.1, 0.7, 1.0, 0.0, std::nullopt});
    options.affine = random.coin();
    options.track_running_stats = random.coin();
    options.running_variance = random.one_of({tn::VarianceEstimator::unbiased, tn::VarianceEstimator::biased});
    options.bias = random.coin();
    const Shape shape = shape_with(roles, 2);
    const std::size_t channels = roles.find('K');
    if (!options.affine) roles[channels] = 'k';
    Layer layer(shape[channels], options);
    auto result = finish.template operator()<kRank>(layer, shape, roles);
    result->has_bias = options.affine && options.bias;
    result->tracks = options.track_running_stats;
    result->momentum = options.momentum;
    result->unbiased_running_variance = options.running_variance == tn::VarianceEstimator::unbiased;
    return named(std::move(result), layer);
  };
  const auto group = [&]<int kRank, class Axes>(std::size_t axis) -> Pointer {
    const bool affine = random.coin(), bias = affine && random.coin();
    Shape shape = random_shape(random, kRank, std::max<Index>(most / 2, 1));
    const Index groups = random.extent(shape[axis]);
    const Index channels = (shape[axis] + groups - 1) / groups;
    shape[axis] = groups * channels;
    Shape split = shape;
    split[axis] = groups;
    split.insert(split.begin() + static_cast<std::ptrdiff_t>(axis) + 1, channels);
    std::string roles(kRank + 1, 'r');
    roles[0] = 'k';
    roles[axis] = affine ? 'K' : 'k';
    roles[axis + 1] = affine ? 'R' : 'r';
    tn::GroupNorm<P, Axes> layer(groups, shape[axis], {.eps = eps, .affine = affine, .bias = bias});
    auto result = finish.template operator()<kRank>(layer, shape, roles);
    result->has_bias = bias;
    result->norm.shape = split;
    return named(std::move(result), layer);
  };
  const auto last_axes = [&]<int kRank, int kLast>() -> Pointer {
    const bool affine = random.coin(), bias = affine && random.coin(), unbiased = random.coin(), deviation = random.coin();
    const std::string roles = std::string(kRank - kLast, 'k') + std::string(kLast, affine ? 'R' : 'r');
    const Shape shape = shape_with(roles, unbiased ? 2 : 1);
    tn::Extents<kLast> normalized{};
    std::copy(shape.end() - kLast, shape.end(), normalized.begin());
    tn::LayerNorm<P, kLast> layer(
        normalized, {.eps = eps,
                     .elementwise_affine = affine,
                     .bias = bias,
                     .variance = unbiased ? tn::VarianceEstimator::unbiased : tn::VarianceEstimator::biased,
                     .eps_added_to = deviation ? tn::EpsAddedTo::deviation : tn::EpsAddedTo::variance});
    auto result = finish.template operator()<kRank>(layer, shape, roles);
    result->has_bias = bias;
    result->norm.unbiased = unbiased;
    result->norm.eps_added_to_deviation = deviation;
    std::ostringstream text;
    text << layer << (unbiased ? " unbiased" : "") << (deviation ? " eps added to deviation" : "") << (bias ? "" : " no bias");
    return named(std::move(result), text.str());
  };
  const auto rms = [&]<int kRank>() -> Pointer {
    const bool affine = random.coin();
    const std::string roles = std::string(kRank - 1, 'k') + (affine ? 'R' : 'r');
    const Shape shape = shape_with(roles, 1);
    tn::RMSNorm<P> layer(shape.back(), {.eps = eps, .elementwise_affine = affine});
    auto result = finish.template operator()<kRank>(layer, shape, roles);
    result->has_bias = false;
    result->norm.mean_pinned_to_zero = true;
    return named(std::move(result), layer);
  };
  const auto own = [&]<int kRank, class Policy>(const std::string& roles) -> Pointer {
    const Shape shape = shape_with(roles, 1);
    Index parameters = 1;
    for (std::size_t axis = 0; axis < roles.size(); ++axis)
      if (roles[axis] == 'K' || roles[axis] == 'R') parameters *= shape[axis];
    tn::Normalization<P, Policy> layer({parameters}, {.eps = eps});
    return named(finish.template operator()<kRank>(layer, shape, roles), layer);
  };

  const tn::BatchNormOptions batch;
  const tn::InstanceNormOptions instance;
  switch (random.between(0, 12)) {
    case 0: return tracked.template operator()<2, tn::BatchNorm1d<P>>(batch, "rK");
    case 1: return tracked.template operator()<3, tn::BatchNorm1d<P>>(batch, "rKr");
    case 2: return tracked.template operator()<4, tn::BatchNorm2d<P>>(batch, "rKrr");
    case 3: return tracked.template operator()<4, tn::BatchNorm2d<P, tn::BatchAxes<-1>>>(batch, "rrrK");
    case 4: return tracked.template operator()<4, tn::InstanceNorm2d<P>>(instance, "kKrr");
    case 5: return tracked.template operator()<3, tn::InstanceNorm1d<P, tn::InstanceAxes<-1>>>(instance, "krK");
    case 6: return group.template operator()<4, tn::GroupAxes<1>>(1);
    case 7: return group.template operator()<3, tn::GroupAxes<-1>>(2);
    case 8: return last_axes.template operator()<2, 1>();
    case 9: return last_axes.template operator()<4, 2>();
    case 10: return rms.template operator()<3>();
    case 11: return own.template operator()<3, PositionAxes>("kRk");
    default: return own.template operator()<4, EveryRoleAxes>("KrkR");
  }
}

}  // namespace properties
