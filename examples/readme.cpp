// SPDX-License-Identifier: MIT
// The code of README.md, run as a test. check_readme.cmake compares the marked parts with the README's blocks.

// [readme-begin thread-pool-include]
#define EIGEN_USE_THREADS  // before any Eigen header: Eigen's own switch for its thread pool device
#include <tensornorm/tensornorm.hpp>
// [readme-end thread-pool-include]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

// [readme-begin first-screen]
#include <tensornorm/tensornorm.hpp>
namespace tn = tensornorm;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;  // one token per row

// The feed-forward half of a transformer layer, pre-norm.
struct FeedForward {
  tn::LayerNorm<float> norm{768};  // PyTorch's names, arguments and defaults
  Matrix up, down;                 // (768, 3072) and (3072, 768)

  void operator()(Matrix& x) { x += (norm(x) * up).cwiseMax(0.0f) * down; }
};
// [readme-end first-screen]

// [readme-begin kernels-once]
#include <tensornorm/kernels_once.hpp>
TENSORNORM_DECLARE_KERNELS(float);  // for x and y of float; in the header through which the units get their layers
// [readme-end kernels-once]

#ifndef KERNELS_ARE_ELSEWHERE  // see CMakeLists.txt
// [readme-begin kernels-here]
TENSORNORM_DEFINE_KERNELS(float);  // in one unit of the program, and of each shared library
// [readme-end kernels-here]
#endif

namespace {

// [readme-begin images]
using Images = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // (N, C, H, W)
// [readme-end images]

/// Ends the program with the line number if a claim of the README does not hold.
void require(bool holds, int line) {
  if (holds) return;
  std::fprintf(stderr, "readme.cpp:%d: does not hold\n", line);
  std::exit(EXIT_FAILURE);
}
#define REQUIRE(holds) require(holds, __LINE__)

float largest_difference(const Images& a, const Images& b) {
  const Eigen::Tensor<float, 0, Eigen::RowMajor> largest = (a - b).abs().maximum<Eigen::PropagateNaN>();
  return largest();
}

Images random_images(Eigen::Index n, Eigen::Index c, Eigen::Index h, Eigen::Index w) {
  Images x(n, c, h, w);
  x.setRandom();
  return x;
}

void feed_forward() {
  FeedForward block;
  block.up = Matrix::Random(768, 3072) * 0.05f;
  block.down = Matrix::Random(3072, 768) * 0.05f;
  const Matrix before = Matrix::Random(4, 768);
  Matrix x = before;
  block(x);

  Eigen::ArrayXXf norm = before.array().colwise() - before.rowwise().mean().array();
  norm.colwise() /= (norm.square().rowwise().mean() + 1e-5f).sqrt().eval();
  const Matrix by_hand = before + (norm.matrix() * block.up).cwiseMax(0.0f) * block.down;
  REQUIRE((x - by_hand).cwiseAbs().maxCoeff<Eigen::PropagateNaN>() < 1e-4f * by_hand.cwiseAbs().maxCoeff<Eigen::PropagateNaN>());
}

void construct() {
  const Eigen::Index C = 64, H = 8, W = 8;
  // [readme-begin construct]
  tn::BatchNorm2d<float> bn(64, {.eps = 1e-5, .momentum = 0.1, .affine = true, .track_running_stats = true});
  tn::BatchNorm2d<float> average(64, {.momentum = std::nullopt});  // a plain average over the batches
  tn::LayerNorm<float> ln(768);                                    // over the last axis
  tn::LayerNorm<float, 3> image_ln({C, H, W}, {.bias = false});    // over the last three
  tn::InstanceNorm2d<float> in(64);                                // no parameters by default, as in PyTorch
  tn::GroupNorm<float> gn(/*num_groups=*/8, /*num_channels=*/64);
  tn::RMSNorm<float> rms(768);
  tn::LayerNorm<float> annotated(512, {.eps = 1e-6,  // the LayerNorm of "The Annotated Transformer"
                                       .variance = tn::VarianceEstimator::unbiased,
                                       .eps_added_to = tn::EpsAddedTo::deviation});
  std::cout << bn << '\n';  // BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=true, track_running_stats=true)
  // [readme-end construct]
  std::ostringstream text;
  text << bn;
  REQUIRE(text.str() == "BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=true, track_running_stats=true)");
}

void modes() {
  const std::vector<Images> batches = {random_images(8, 64, 5, 5), random_images(8, 64, 5, 5)};
  const Images image = random_images(1, 64, 5, 5);
  // [readme-begin modes]
  tn::BatchNorm2d<float> bn(64);
  for (const Images& x : batches) {
    Images y = bn(x);  // training, the initial mode: this batch's statistics; the running ones move towards them
  }
  bn.eval();
  Images y = bn(image);  // the running statistics; nothing moves
  const tn::BatchNorm2d<float>& shared = bn;
  shared.infer(image, y);  // const: the same in any mode, from many threads, into your own memory

  bn.running_mean();  // what the training saw
  bn.running_var();
  bn.running_stats().num_batches();
  // [readme-end modes]
  REQUIRE(bn.running_stats().num_batches() == 2);
  REQUIRE(largest_difference(y, bn(image)) == 0);
}

void backward() {
  tn::BatchNorm2d<float> bn(64);
  bn.weight().setConstant(1.5f);
  const Images x = random_images(8, 64, 5, 5), dy = random_images(8, 64, 5, 5);
  Images y(x.dimensions()), dx(x.dimensions());
  // [readme-begin backward]
  tn::SavedStats<float> saved;
  bn.forward(x, y, saved);               // saved: mean and 1/deviation of each channel, never x
  auto grads = bn.zero_gradients();      // grads.weight, grads.bias
  bn.backward(dy, x, saved, dx, grads);  // dx is assigned, grads are added to; tn::none for what you do not need
  // [readme-end backward]

  const Images norm = y / 1.5f;  // the bias is 0
  const Eigen::array<Eigen::Index, 3> all_but_c = {0, 2, 3};
  const Eigen::Tensor<float, 1, Eigen::RowMajor> dbias = dy.sum(all_but_c), dweight = (dy * norm).sum(all_but_c);
  for (Eigen::Index c = 0; c < 64; ++c) {
    REQUIRE(std::abs(grads.bias(c) - dbias(c)) < 1e-4f && std::abs(grads.weight(c) - dweight(c)) < 1e-4f);
    const float by_hand = 1.5f * static_cast<float>(saved.rstd()(c)) *
                          (dy(3, c, 2, 1) - dbias(c) / 200 - norm(3, c, 2, 1) * dweight(c) / 200);
    REQUIRE(std::abs(dx(3, c, 2, 1) - by_hand) < 1e-5f);
  }

  // [readme-begin backward-forms]
  const auto [dx_too, dweight_too, dbias_too] = bn.backward(dy, x, saved);  // in new tensors
  bn.backward(dy, x, saved, dx, tn::none);                                  // dx only
  bn.backward_from_output(dy, y, saved, dx, tn::none);                      // y instead of x, which may be gone
  // [readme-end backward-forms]
  REQUIRE(largest_difference(dx, dx_too) < 1e-5f);
  REQUIRE(dbias_too(7) == grads.bias(7) && dweight_too(7) == grads.weight(7));
  // [readme-begin step]
  bn.weight() -= grads.weight * 0.1f;  // a step of gradient descent
  bn.bias() -= grads.bias * 0.1f;
  grads.weight.setZero();  // before the next backward call, which adds
  grads.bias.setZero();
  // [readme-end step]
  REQUIRE(std::abs(bn.weight()(7) - (1.5f - dweight_too(7) * 0.1f)) < 1e-5f && bn.bias()(7) == -dbias_too(7) * 0.1f && grads.weight(7) == 0);
}

void load() {
  const Eigen::VectorXf weight = Eigen::VectorXf::Constant(64, 2), bias = Eigen::VectorXf::Constant(64, 1);
  const Eigen::VectorXf mean = Eigen::VectorXf::Constant(64, 3), variance = Eigen::VectorXf::Constant(64, 4);
  // [readme-begin load]
  tn::BatchNorm2d<float> bn(64);  // a layer trained elsewhere: weight, bias, running_mean, running_var
  std::copy_n(weight.data(), 64, bn.weight().data());
  std::copy_n(bias.data(), 64, bn.bias().data());
  bn.running_stats().load(mean, variance, /*num_batches=*/1000);
  bn.eval();
  // [readme-end load]
  Images x(1, 64, 2, 2);
  x.setConstant(7);
  REQUIRE(std::abs(bn(x)(0, 5, 1, 1) - 5) < 1e-5f);  // (7 - 3) / 2 * 2 + 1
}

void tensors() {
  std::vector<float> memory(2 * 5 * 5 * 64, 1.0f), result(memory.size());
  const float* pixels = memory.data();
  float* out = result.data();
  // [readme-begin tensors]
  tn::BatchNorm2d<float, tn::BatchAxes<-1>> channels_last(64);  // (N, H, W, C)
  Eigen::TensorMap<const Images> x(pixels, 2, 5, 5, 64);        // memory that is already there
  Eigen::TensorMap<Images> y(out, 2, 5, 5, 64);
  channels_last.forward(x, y);

  Eigen::MatrixXf table = Eigen::MatrixXf::Random(100, 12);  // ColMajor, rows are samples
  tn::BatchNorm1d<float> columns(3);
  columns.forward(table.middleCols(4, 3), table.middleCols(4, 3));  // three columns, in place

  Eigen::MatrixXf frames = Eigen::MatrixXf::Random(64, 20);  // columns are samples
  tn::LayerNorm<float> each(64);
  each.infer(frames.transpose(), frames.transpose());  // each of the 20 by itself, in place; nothing is copied
  // [readme-end tensors]
  REQUIRE(result[17] == 0);
  REQUIRE(table.middleCols(4, 3).colwise().mean().cwiseAbs().maxCoeff<Eigen::PropagateNaN>() < 1e-6f);
  REQUIRE(frames.colwise().mean().cwiseAbs().maxCoeff<Eigen::PropagateNaN>() < 1e-6f);
  REQUIRE(std::abs(frames.col(7).squaredNorm() - 64) < 0.01f);
}

void devices() {
  tn::BatchNorm2d<float> bn(64);
  const Images x = random_images(16, 64, 32, 32);
  // [readme-begin devices]
  Eigen::ThreadPool pool(8);
  Eigen::ThreadPoolDevice device(&pool, 8);
  Images y(x.dimensions());
  bn.forward(x, y, device);  // the same bits as without the device, and for any number of threads
  // [readme-end devices]
  REQUIRE(largest_difference(y, bn(x)) == 0);
}

void functional() {
  const Matrix x = Matrix::Random(4, 768);
  const Images images = random_images(2, 3, 4, 5);
  const std::vector<float> weights(2 * 768, 0.5f);
  // [readme-begin functional]
  Eigen::Map<const Eigen::VectorXf> weight(weights.data(), 768), bias(weights.data() + 768, 768);
  Matrix y(x.rows(), x.cols());
  tn::layer_norm(x, y, weight, bias, {.eps = 1e-6});  // parameters from one flat buffer
  tn::rms_norm(x, y, weight);
  tn::layer_norm(x, y);  // no parameters: over the last axis; layer_norm<k> over k

  const auto [mean, variance] = tn::moments(images, tn::over<0, 2, 3>);  // (C) each, the variance biased
  Images z = tn::normalize(images, mean, variance, tn::over<0, 2, 3>, {.eps = 1e-5});
  // [readme-end functional]
  REQUIRE(mean.size() == 3 && variance.size() == 3);
  tn::BatchNorm2d<float> bn(3);
  REQUIRE(largest_difference(z, bn(images)) < 1e-5f);
  REQUIRE(std::abs(y.row(2).mean()) < 1e-5f);
}

void mergeable() {
  // [readme-begin welford]
  tn::Welford<double> morning, evening;
  for (const double value : {1.0, 2.0, 3.0}) morning.push(value);
  for (const double value : {4.0, 5.0}) evening.push(value);
  morning.merge(evening);  // as if all five had been pushed into one
  std::cout << morning.mean() << ' ' << morning.variance() << ' ' << morning.unbiased_variance() << '\n';  // 3 2 2.5
  // [readme-end welford]
  REQUIRE(std::abs(morning.mean() - 3) < 1e-14);
  REQUIRE(std::abs(morning.variance() - 2) < 1e-14 && std::abs(morning.unbiased_variance() - 2.5) < 1e-14);
}

/// "A mean a million times the deviation costs float input nothing", "a constant input gives y == bias exactly".
void accuracy() {
  const Eigen::VectorXd noise = Eigen::VectorXd::Random(768);
  Matrix x(1, 768), y(1, 768);
  x = (1e6 + noise.array()).cast<float>().matrix().transpose();
  const Eigen::ArrayXd rounded = x.cast<double>().transpose();
  const Eigen::ArrayXd centred = rounded - rounded.mean();
  const Eigen::ArrayXd expected = centred / std::sqrt(centred.square().mean() + 1e-5);
  tn::layer_norm(x, y, tn::none, tn::none);
  REQUIRE((y.cast<double>().transpose().array() - expected).abs().maxCoeff<Eigen::PropagateNaN>() < 4e-7);

  x.setConstant(1234567.0f);
  const Eigen::VectorXf weight = Eigen::VectorXf::Constant(768, 3), bias = Eigen::VectorXf::Constant(768, 0.1f);
  tn::layer_norm(x, y, weight, bias);
  REQUIRE((y.array() == 0.1f).all());
}

// [readme-begin policy]
// Positional normalization: one mean and variance for every (n, h, w), over the channels.
struct PositionAxes {
  static constexpr tn::AxisRole role(int axis, int /*rank*/) {
    return axis == 1 ? tn::AxisRole::reduced_affine : tn::AxisRole::kept;
  }
};
tn::Normalization<float, PositionAxes> pono({64});  // 64: the shape of weight and bias
// [readme-end policy]

void policy() {
  const Images y = pono(random_images(2, 64, 3, 3));
  const Eigen::array<Eigen::Index, 1> channels = {1};
  const Eigen::Tensor<float, 3, Eigen::RowMajor> mean = y.mean(channels);
  REQUIRE(std::abs(mean(1, 2, 0)) < 1e-6f);
}

void errors() {
  std::string message;
  // [readme-begin errors]
  tn::BatchNorm2d<float> bn(3);
  Images x(2, 4, 5, 5);
  try {
    bn(x);
  } catch (const std::invalid_argument& error) {
    message = error.what();  // BatchNorm2d::forward: expected C=3 at dimension 1, got 4 (x: [2,4,5,5])
  }
  // [readme-end errors]
  REQUIRE(message == "BatchNorm2d::forward: expected C=3 at dimension 1, got 4 (x: [2,4,5,5])");
}

}  // namespace

int main() {
  feed_forward();
  construct();
  modes();
  backward();
  load();
  tensors();
  devices();
  functional();
  mergeable();
  accuracy();
  policy();
  errors();
}
