// SPDX-License-Identifier: MIT
// The gradients of every layer on Eigen's thread pool: the same bits for any number of threads, those of weight and
// bias, which are sums over everything, among them.
#define EIGEN_USE_THREADS
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"
#include "support/pool.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::Pool;
using support::same_bits;

std::vector<std::unique_ptr<Pool>>& pools() {
  static std::vector<std::unique_ptr<Pool>> all;
  if (all.empty())
    for (const int threads : {1, 2, 3, 7, 16}) all.push_back(std::make_unique<Pool>(threads));
  return all;
}

template <class Kind>
class BackwardDevice : public testing::Test {
 protected:
  using Value = typename Kind::Scalar;

  static std::vector<Value> flat(const auto& tensor) { return std::vector<Value>(tensor.data(), tensor.data() + tensor.size()); }
  static void fill(auto& tensor, unsigned seed) {
    const auto values = support::random_values<Value>(tensor.size(), seed);
    std::copy(values.begin(), values.end(), tensor.data());
  }

  /// Several chunks of work, and for 16 threads or more pieces than there are threads: x has 5 to 7 MB.
  template <class Layer, class... Extents>
  void expect_same_bits(Layer layer, Extents... extents) {
    using X = typename Kind::template Tensor<int{sizeof...(Extents)}>;
    X x(extents...), dy(extents...), y(extents...), dx(extents...);
    ASSERT_GE(x.size() * Index(sizeof(Value)), 5 * tn::kBytesPerThread);
    fill(x, 1);
    fill(dy, 2);
    if (layer.zero_gradients().weight.size() > 0) fill(layer.weight(), 3);
    for (const bool training : {true, false}) {
      training ? layer.train() : layer.eval();
      tn::SavedStats<Value> saved;
      layer.forward(x, y, saved);
      auto gradients = layer.zero_gradients();
      layer.backward(dy, x, saved, dx, gradients);
      const auto expected = flat(dx), dweight = flat(gradients.weight), dbias = flat(gradients.bias);
      for (const auto& pool : pools()) {
        SCOPED_TRACE(std::to_string(pool->device.numThreads()) + " threads");
        const auto expect = [&](const char* ask, bool with_dx, bool with_gradients) {
          if (with_dx) {
            EXPECT_TRUE(same_bits(flat(dx), expected)) << ask;
          }
          if (with_gradients) {
            EXPECT_TRUE(same_bits(flat(gradients.weight), dweight)) << ask << " dweight";
            EXPECT_TRUE(same_bits(flat(gradients.bias), dbias)) << ask << " dbias";
          }
          dx.setConstant(Value(-12345));
          gradients = layer.zero_gradients();
        };
        gradients = layer.zero_gradients();
        layer.backward(dy, x, saved, dx, gradients, pool->device);
        expect("all", true, true);
        layer.backward(dy, x, saved, dx, tn::none, pool->device);
        expect("dx only", true, false);
        layer.backward(dy, x, saved, tn::none, gradients, pool->device);
        expect("parameters only", false, true);
        dx = dy;
        layer.backward(dx, x, saved, dx, gradients, pool->device);
        expect("dx in place of dy", true, true);
      }
    }
  }
};
/// Both element types and both storage orders, once.
using DeviceKinds = testing::Types<support::Kind<float, Eigen::RowMajor>, support::Kind<double, Eigen::ColMajor>>;
TYPED_TEST_SUITE(BackwardDevice, DeviceKinds, support::KindNames);

TYPED_TEST(BackwardDevice, LayerNorm) {
  using S = typename TypeParam::Scalar;
  this->expect_same_bits(tn::LayerNorm<S>(701), 2001, 701);
  this->expect_same_bits(tn::LayerNorm<S>(701, {.elementwise_affine = false}), 2001, 701);
  this->expect_same_bits(tn::LayerNorm<S, 2>({33, 101}), 420, 33, 101);
}

TYPED_TEST(BackwardDevice, RMSNorm) {
  using S = typename TypeParam::Scalar;
  this->expect_same_bits(tn::RMSNorm<S>(70001), 21, 70001);
}

TYPED_TEST(BackwardDevice, BatchNorm) {
  using S = typename TypeParam::Scalar;
  this->expect_same_bits(tn::BatchNorm1d<S>(701), 2001, 701);
  this->expect_same_bits(tn::BatchNorm1d<S>(3), 470001, 3);
  this->expect_same_bits(tn::BatchNorm2d<S>(19), 11, 19, 83, 84);
  this->expect_same_bits(tn::BatchNorm2d<S>(101), 300, 101, 7, 7);
  this->expect_same_bits(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(67), 11, 43, 45, 67);
}

TYPED_TEST(BackwardDevice, InstanceNorm) {
  using S = typename TypeParam::Scalar;
  const tn::InstanceNormOptions tracking{.affine = true, .track_running_stats = true};
  this->expect_same_bits(tn::InstanceNorm2d<S>(19, tracking), 11, 19, 83, 84);
  this->expect_same_bits(tn::InstanceNorm2d<S, tn::InstanceAxes<-1>>(67, tracking), 11, 43, 45, 67);
}

TYPED_TEST(BackwardDevice, GroupNorm) {
  using S = typename TypeParam::Scalar;
  this->expect_same_bits(tn::GroupNorm<S>(5, 20), 11, 20, 83, 84);
  this->expect_same_bits(tn::GroupNorm<S, tn::GroupAxes<-1>>(5, 65), 11, 43, 46, 65);
}

TYPED_TEST(BackwardDevice, FromTheOutput) {
  using S = typename TypeParam::Scalar;
  using X = typename TypeParam::template Tensor<2>;
  tn::LayerNorm<S> layer(701);
  X x(2001, 701), dy(2001, 701), y(2001, 701), dx(2001, 701);
  this->fill(x, 1);
  this->fill(dy, 2);
  tn::SavedStats<S> saved;
  layer.forward(x, y, saved);
  auto gradients = layer.zero_gradients();
  layer.backward_from_output(dy, y, saved, dx, gradients);
  const auto expected = this->flat(dx), dweight = this->flat(gradients.weight), dbias = this->flat(gradients.bias);
  for (const auto& pool : pools()) {
    gradients = layer.zero_gradients();
    dx.setZero();
    layer.backward_from_output(dy, y, saved, dx, gradients, pool->device);
    EXPECT_TRUE(same_bits(this->flat(dx), expected)) << pool->device.numThreads();
    EXPECT_TRUE(same_bits(this->flat(gradients.weight), dweight)) << pool->device.numThreads();
    EXPECT_TRUE(same_bits(this->flat(gradients.bias), dbias)) << pool->device.numThreads();
  }
}

TYPED_TEST(BackwardDevice, TheFunctionalForm) {
  using S = typename TypeParam::Scalar;
  using X = typename TypeParam::template Tensor<2>;
  X x(2001, 701), dy(2001, 701), y(2001, 701), dx(2001, 701);
  this->fill(x, 1);
  this->fill(dy, 2);
  Eigen::Tensor<S, 1> weight(701), dweight(701), dbias(701);
  this->fill(weight, 3);
  dweight.setZero();
  dbias.setZero();
  tn::SavedStats<S> saved;
  tn::layer_norm(x, y, saved, weight, tn::none);
  tn::layer_norm_backward(dy, x, saved, weight, dx, dweight, dbias);
  const auto expected = this->flat(dx), all_dweight = this->flat(dweight), all_dbias = this->flat(dbias);
  for (const auto& pool : pools()) {
    dx.setZero();
    dweight.setZero();
    dbias.setZero();
    tn::layer_norm_backward(dy, x, saved, weight, dx, dweight, dbias, {}, pool->device);
    EXPECT_TRUE(same_bits(this->flat(dx), expected)) << pool->device.numThreads();
    EXPECT_TRUE(same_bits(this->flat(dweight), all_dweight)) << pool->device.numThreads();
    EXPECT_TRUE(same_bits(this->flat(dbias), all_dbias)) << pool->device.numThreads();
  }
}

}  // namespace
