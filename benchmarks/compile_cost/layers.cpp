// SPDX-License-Identifier: MIT
// What compile_cost.sh compiles: BENCH_LAYERS 0 only includes, 1 has one layer, 10 has ten different ones; their kernels
// are elsewhere where BENCH_KERNELS is TENSORNORM_DECLARE_KERNELS, and here where it is TENSORNORM_DEFINE_KERNELS.
#ifdef BENCH_ONLY_EIGEN
#include <unsupported/Eigen/CXX11/Tensor>
#else
#include <tensornorm/tensornorm.hpp>
#endif

#ifdef BENCH_KERNELS
#include <tensornorm/kernels_once.hpp>
BENCH_KERNELS(float);
#endif

#if BENCH_LAYERS > 0
namespace tn = tensornorm;

/// All a training program asks of a layer.
template <class Layer, int kRank>
void train(Layer& layer, const Eigen::Tensor<float, kRank, Eigen::RowMajor>& x,
           Eigen::Tensor<float, kRank, Eigen::RowMajor>& y) {
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  layer.infer(x, y);
  auto gradients = layer.zero_gradients();
  layer.backward(y, x, saved, y, gradients);
}

template <int kRank>
using Tensor = Eigen::Tensor<float, kRank, Eigen::RowMajor>;

void one(tn::LayerNorm<float>& layer, const Tensor<2>& x, Tensor<2>& y) { train(layer, x, y); }
#endif

#if BENCH_LAYERS > 1
struct PositionAxes {
  static constexpr tn::AxisRole role(int axis, int) {
    return axis == 1 ? tn::AxisRole::reduced_affine : tn::AxisRole::kept;
  }
};
void two(tn::BatchNorm1d<float>& layer, const Tensor<2>& x, Tensor<2>& y) { train(layer, x, y); }
void three(tn::BatchNorm2d<float>& layer, const Tensor<4>& x, Tensor<4>& y) { train(layer, x, y); }
void four(tn::BatchNorm3d<float>& layer, const Tensor<5>& x, Tensor<5>& y) { train(layer, x, y); }
void five(tn::BatchNorm2d<float, tn::BatchAxes<-1>>& layer, const Tensor<4>& x, Tensor<4>& y) { train(layer, x, y); }
void six(tn::LayerNorm<float, 3>& layer, const Tensor<4>& x, Tensor<4>& y) { train(layer, x, y); }
void seven(tn::RMSNorm<float>& layer, const Tensor<2>& x, Tensor<2>& y) { train(layer, x, y); }
void eight(tn::InstanceNorm2d<float>& layer, const Tensor<4>& x, Tensor<4>& y) { train(layer, x, y); }
void nine(tn::GroupNorm<float>& layer, const Tensor<4>& x, Tensor<4>& y) { train(layer, x, y); }
void ten(tn::Normalization<float, PositionAxes>& layer, const Tensor<4>& x, Tensor<4>& y) { train(layer, x, y); }
#endif
