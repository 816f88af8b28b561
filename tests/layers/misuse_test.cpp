// SPDX-License-Identifier: MIT
// What a caller can get wrong beyond faults_test's rows, each a mistake the library once let pass.
#define EIGEN_USE_THREADS
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <utility>
#include <vector>

#include "support/faults.hpp"
#include "support/policies.hpp"

namespace {

namespace tn = tensornorm;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
template <int kRank, int kOrder = Eigen::RowMajor>
using Tensor = Eigen::Tensor<float, kRank, kOrder>;

Tensor<4> images() {
  Tensor<4> x(2, 3, 4, 4);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i * i % 17);
  return x;
}

TEST(Misuse, OverlappingRowsMayBeReadWithOneValuePerGroup) {
  std::vector<float> values(16);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const Strided window(values.data(), 4, 4, Eigen::OuterStride<>(1));
  Matrix y = Matrix::Constant(4, 8, -77.0F);
  tn::GroupNorm<float>(4, 4).forward(window, y.block(0, 0, 4, 4));
  EXPECT_TRUE((y.leftCols(4).array() == 0.0F).all()) << y;
  EXPECT_TRUE((y.rightCols(4).array() == -77.0F).all()) << y;
}

TEST(Misuse, OverlappingRowsMayNotBeWritten) {
  std::vector<float> values(16, 1.0F);
  Strided window(values.data(), 4, 4, Eigen::OuterStride<>(1));
  const Matrix x = Matrix::Random(4, 4);
  tn::LayerNorm<float> layer(4);
  tn::SavedStats<float> saved;
  EXPECT_THROW(layer.forward(x, window), std::invalid_argument);
  Matrix y(4, 4);
  layer.forward(x, y, saved);
  EXPECT_THROW(layer.backward(x, x, saved, window, tn::none), std::invalid_argument);
  EXPECT_EQ(values, std::vector<float>(16, 1.0F));
}

TEST(Misuse, EmptyOutputsAgainstMemorysOrderAreRefused) {
  const Tensor<2> x(0, 8);
  Strided none(nullptr, 0, 8, Eigen::OuterStride<>(-8));
  tn::LayerNorm<float> layer(8);
  tn::SavedStats<float> saved;
  EXPECT_THROW(layer.forward(x, none), std::invalid_argument);
  layer.forward(x, Tensor<2>(0, 8), saved);
  EXPECT_THROW(layer.backward(x, x, saved, none, tn::none), std::invalid_argument);
  EXPECT_NO_THROW(layer.backward(x, x, saved, tn::none, tn::none));
}

TEST(Misuse, OverlappingRowsHaveMoments) {
  const std::vector<float> values{0, 1, 2, 3, 4, 5, 6};
  const Eigen::Map<const Matrix, 0, Eigen::OuterStride<>> window(values.data(), 4, 4, Eigen::OuterStride<>(1));
  const auto [mean, variance] = tn::moments(window, tn::over<1>);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(mean(i), 1.5F + static_cast<float>(i));
}

/// call(y) is right for the first, and refuses others of the same strides, whose rows are fewer, or begin or end elsewhere, without writing.
template <class Call>
void expect_refused_after_a_right_call(const Call& call) {
  Tensor<2> four(4, 8), three(3, 8), five(5, 8);
  Matrix wide = Matrix::Constant(4, 8, 77.0F);
  for (Tensor<2>* all : {&three, &five}) all->setConstant(77.0F);
  four.setConstant(1.0F);
  const auto intact = [](const auto& values) {
    return std::all_of(values.data(), values.data() + values.size(), [](float v) { return v == 77.0F; });
  };
  for (int i = 0; i < 2; ++i) {
    call(four);
    EXPECT_THROW(call(three), std::invalid_argument);
    EXPECT_THROW(call(five), std::invalid_argument);
    auto part = wide.leftCols(6);
    EXPECT_THROW(call(part), std::invalid_argument);
    Tensor<2, Eigen::RowMajor> none(0, 8);
    EXPECT_THROW(call(none), std::invalid_argument);
  }
  EXPECT_TRUE(intact(three) && intact(five) && intact(wide));
}

TEST(Misuse, AnotherShapeOfTheSameStridesAfterACallThatWasRight) {
  Tensor<2> x(4, 8), y(4, 8), dx(4, 8);
  x.setRandom();
  const Matrix mx = Matrix::Random(4, 8);
  const auto with = [&](auto layer) {
    typename decltype(layer)::Saved saved;
    layer.forward(x, y, saved);
    // A matrix among the operands has the plan of a call with tensors.
    expect_refused_after_a_right_call([&](auto& out) { layer.forward(x, out); });
    expect_refused_after_a_right_call([&](auto& out) { layer.forward(mx, out); });
    expect_refused_after_a_right_call([&](auto& out) { layer.infer(x, out); });
    expect_refused_after_a_right_call([&](auto& out) { layer.backward(x, x, saved, out, tn::none); });
    expect_refused_after_a_right_call([&](auto& in) { layer.backward(in, x, saved, dx, tn::none); });
    expect_refused_after_a_right_call([&](auto& out) { layer.backward_from_output(x, y, saved, out, tn::none); });
    expect_refused_after_a_right_call([&](auto& in) { layer.backward_from_output(in, y, saved, dx, tn::none); });
  };
  with(tn::LayerNorm<float>(8));
  with(tn::BatchNorm1d<float>(8));
  tn::BatchNorm1d<float> eval(8);
  eval.eval();
  with(eval);
  expect_refused_after_a_right_call([&](auto& out) { tn::layer_norm(x, out, tn::none, tn::none); });
}

/// Three blocks of one matrix, side by side: x and dy are read, y and dx written, and nothing beside them.
template <class Layer>
void expect_blocks_are_apart(Layer layer) {
  Matrix all = Matrix::Random(4, 24);
  const Matrix before = all, x = all.leftCols(8), dy = all.middleCols(8, 8);
  Matrix y(4, 8), dx(4, 8);
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  layer.backward(dy, x, saved, dx, tn::none);
  layer.forward(all.leftCols(8), all.rightCols(8));
  EXPECT_TRUE(all.rightCols(8).isApprox(y, 1e-5F)) << all.rightCols(8) - y;
  layer.backward(all.middleCols(8, 8), all.leftCols(8), saved, all.rightCols(8), tn::none);
  EXPECT_TRUE(all.rightCols(8).isApprox(dx, 1e-5F)) << all.rightCols(8) - dx;
  EXPECT_EQ(all.leftCols(16), before.leftCols(16));
}

TEST(Misuse, BlocksOfOneMatrixAreApart) {
  expect_blocks_are_apart(tn::LayerNorm<float>(8));
  expect_blocks_are_apart(tn::BatchNorm1d<float>(8));
  expect_blocks_are_apart(tn::InstanceNorm1d<float>(4));  // (C, L), to which it adds an axis
}

TEST(Misuse, UnbatchedRowsThatOverlapMayNotBeWritten) {
  std::vector<float> values(16, 1.0F);
  Strided window(values.data(), 4, 4, Eigen::OuterStride<>(1));
  const Matrix x = Matrix::Random(4, 4);
  tn::InstanceNorm1d<float> layer(4, {.track_running_stats = true});
  faults::expect_error([&] { layer.forward(x, window); }, {"InstanceNorm1d::forward: y: ", "outer stride of 1"});
  EXPECT_EQ(values, std::vector<float>(16, 1.0F));
  EXPECT_EQ(layer.running_stats().num_batches(), 0);
}

/// Given statistics are the caller's: no gradient is written over them.
TEST(Misuse, GradientsOverGivenStatistics) {
  using Vector = Eigen::Tensor<float, 1>;
  using Rows = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  Vector mean(4), variance(4), weight(4), dweight(4), dbias(4);
  for (Vector* each : {&mean, &variance, &weight, &dweight, &dbias}) each->setConstant(2.0F);
  const Rows x = Rows(2, 4).setRandom();
  for (Vector* given : {&mean, &variance}) {
    const Vector before = *given;
    Eigen::TensorMap<Rows> dx(given->data(), 1, 4);
    const Rows row = Rows(1, 4).setRandom();
    faults::expect_error([&] { tn::batch_norm_backward(row, row, mean, variance, weight, dx, dweight, dbias); },
                         {"batch_norm_backward: ", "dx overlaps the given statistics"});
    EXPECT_TRUE(std::equal(before.data(), before.data() + 4, given->data()));
    EXPECT_EQ(dweight(0), 2.0F);
  }
  Rows dx(2, 4);
  tn::batch_norm_backward(x, x, mean, variance, weight, dx, dweight, dbias);
}

/// A map of memory asks for no count of its elements; a tensor made like it could not hold theirs.
TEST(Misuse, MapsOfMoreElementsThanTheirIndexCounts) {
  if (sizeof(tn::Index) <= sizeof(int)) GTEST_SKIP() << "there is no index that counts more";
  float page[1024] = {};
  const Eigen::TensorMap<const Eigen::Tensor<float, 2, Eigen::RowMajor, int>> map(page, 1 << 16, 1 << 16);
  faults::expect_error<std::length_error>([&] { tn::LayerNorm<float>(1 << 16)(map); }, {"LayerNorm::forward: x: ", "got [65536,65536]"});
  faults::expect_error<std::length_error>([&] { tn::BatchNorm1d<float>(1 << 16).infer(map); }, {"BatchNorm1d::infer: x: "});
}

tn::SavedStats<float> saved_of(const tn::LayerNorm<float>& layer, const Matrix& x) {
  Matrix y(x.rows(), x.cols());
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  return saved;
}

/// Rows that overlap are no output.
TEST(Misuse, AnOutputWhoseRowsOverlap) {
  const Matrix x = Matrix::Random(4, 4);
  const tn::LayerNorm<float> layer(4);
  const auto saved = saved_of(layer, x);
  std::vector<float> values(16, 1.0F);
  const Strided window(values.data(), 4, 4, Eigen::OuterStride<>(1));
  faults::expect_error([&] { layer.backward_from_output(x, window, saved, tn::none, tn::none); }, {"LayerNorm::backward_from_output: y: "});
}

// Of one column as well: all of its rows may be one number.
TEST(Misuse, OneNumberMayNotBeWrittenAsManyRows) {
  float number = -77.0F;
  Strided column(&number, 5, 1, Eigen::OuterStride<>(0));
  const Matrix x = Matrix::Random(5, 1);
  tn::SavedStats<float> saved;
  tn::BatchNorm1d<float> layer(1);
  faults::expect_error([&] { layer.forward(x, column); }, {"BatchNorm1d::forward: y: ", "rows that do not overlap", "outer stride of 0"});
  Matrix y(5, 1);
  layer.forward(x, y, saved);
  faults::expect_error([&] { layer.backward(x, x, saved, column, tn::none); }, {"BatchNorm1d::backward: dx: ", "outer stride of 0"});
  EXPECT_EQ(number, -77.0F);
  using ColumnMajor = Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>>;
  std::vector<float> values(5, -77.0F);
  ColumnMajor one(values.data(), 1, 5, Eigen::OuterStride<>(0)), overlapping(values.data(), 2, 3, Eigen::OuterStride<>(1)),
      apart(values.data(), 1, 5, Eigen::OuterStride<>(1));
  for (auto* refused : {&one, &overlapping})
    faults::expect_error([&] { tn::LayerNorm<float>(refused->cols()).forward(Eigen::MatrixXf::Ones(refused->rows(), refused->cols()).eval(), *refused); },
                         {"LayerNorm::forward: y: ", "rows that do not overlap"});
  EXPECT_EQ(values, std::vector<float>(5, -77.0F));
  EXPECT_NO_THROW(tn::LayerNorm<float>(5).forward(Eigen::MatrixXf::Ones(1, 5).eval(), apart));
  EXPECT_EQ(values, std::vector<float>(5, 0.0F));
  Strided one_row(&number, 1, 1, Eigen::OuterStride<>(0));
  EXPECT_NO_THROW(tn::LayerNorm<float>(1).forward(one_row, one_row));
}

TEST(Misuse, RowsAgainstMemorysOrderAreRefused) {
  Matrix memory = Matrix::Random(4, 8), y = Matrix::Constant(4, 8, -77.0F), dx = y;
  const Matrix before = memory, canary = y;
  Strided upside_down(memory.data() + 24, 4, 8, Eigen::OuterStride<>(-8));
  const auto refused = [](const faults::Attempt& call, const char* name) {
    faults::expect_error(call, {name, "expected an outer stride >= 0, got -8"});
  };
  tn::LayerNorm<float> layer(8);
  tn::SavedStats<float> saved;
  refused([&] { layer.forward(upside_down, y); }, "LayerNorm::forward: x: ");
  refused([&] { layer.forward(upside_down, memory); }, "LayerNorm::forward: x: ");
  refused([&] { layer.forward(before, upside_down); }, "LayerNorm::forward: y: ");
  refused([&] { layer.forward(upside_down, y, saved); }, "LayerNorm::forward: x: ");
  refused([&] { tn::BatchNorm1d<float>(8).infer(upside_down, y); }, "BatchNorm1d::infer: x: ");
  refused([&] { tn::moments(upside_down, tn::over<1>); }, "moments: x: ");
  EXPECT_TRUE(saved.empty());
  layer.forward(before, y, saved);
  y = canary;
  refused([&] { layer.backward(upside_down, before, saved, dx, tn::none); }, "LayerNorm::backward: dy: ");
  refused([&] { layer.backward(before, upside_down, saved, dx, tn::none); }, "LayerNorm::backward: x: ");
  refused([&] { layer.backward(before, before, saved, upside_down, tn::none); }, "LayerNorm::backward: dx: ");
  refused([&] { layer.backward_from_output(before, upside_down, saved, tn::none, tn::none); }, "LayerNorm::backward_from_output: y: ");
  EXPECT_EQ(memory, before);
  EXPECT_EQ(y, canary);
  EXPECT_EQ(dx, canary);
}

/// A layer of `Scalar` whose weight is `refused` beside a bias of 1 does not take its y of `Element` for the norm, and takes it with `taken`.
template <class Scalar, class Element>
void expect_weights_to_divide_by(double refused, double taken) {
  Eigen::Tensor<Element, 2> x(4, 2), y(4, 2), dx(4, 2);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<Element>(float(i * i % 7));
  tn::BatchNorm1d<Scalar> layer(2);
  tn::SavedStats<Scalar> saved;
  layer.bias().setConstant(Scalar(1));
  layer.weight()(1) = static_cast<Scalar>(taken);
  layer.forward(x, y, saved);
  EXPECT_NO_THROW(layer.backward_from_output(x, y, saved, dx, tn::none));
  layer.weight()(1) = static_cast<Scalar>(refused);
  dx.setConstant(Element(-77.0F));
  faults::expect_error([&] { layer.backward_from_output(x, y, saved, dx, tn::none); },
                       {"BatchNorm1d::backward_from_output: ", "expected weights that can be divided by, got ", " at index 1 beside the bias 1"});
  for (Eigen::Index i = 0; i < dx.size(); ++i) EXPECT_EQ(float(dx.data()[i]), -77.0F);
}

TEST(Misuse, OutputsWithoutHalfTheNormsDigits) {
  expect_weights_to_divide_by<double, double>(1e-8, 2e-8);
  expect_weights_to_divide_by<float, float>(3e-4, 4e-4);
  expect_weights_to_divide_by<double, float>(3e-4, 4e-4);
  expect_weights_to_divide_by<float, Eigen::half>(0.03, 0.04);
  expect_weights_to_divide_by<Eigen::half, Eigen::half>(0.03, 0.04);
  expect_weights_to_divide_by<float, Eigen::bfloat16>(0.08, 0.1);
}

TEST(Misuse, MovedFromSavedStatsAreEmpty) {
  const Matrix x = Matrix::Random(4, 4);
  const tn::LayerNorm<float> layer(4);
  auto saved = saved_of(layer, x);
  const tn::SavedStats<float> kept = std::move(saved);
  EXPECT_TRUE(saved.empty());  // NOLINT(bugprone-use-after-move): what is tested
  EXPECT_THROW(layer.backward(x, x, saved), std::logic_error);
  EXPECT_NO_THROW(layer.backward(x, x, kept));
}

/// A layer that was moved from refuses every call, until it is assigned one.
template <class Layer>
void expect_moved_away(Layer layer, const std::string& name) {
  Tensor<4> x = images();
  tn::SavedStats<float> saved;
  const Layer copy = layer;
  const Tensor<4> expected = layer.infer(x);
  layer.forward(x, x, saved);
  Layer moved = std::move(layer);
  // Not the std::invalid_argument of a wrong shape, which is a std::logic_error too.
  faults::expect_error<std::logic_error>([&] { layer(x); }, {name + "::forward: ", "moved from"});  // NOLINT(bugprone-use-after-move)
  faults::expect_error<std::logic_error>([&] { layer.infer(x); }, {name + "::infer: ", "moved from"});
  faults::expect_error<std::logic_error>([&] { layer.backward(x, x, saved); }, {name + "::backward: ", "moved from"});
  faults::expect_error<std::logic_error>([&] { layer.weight(); }, {name + "::weight: ", "moved from"});
  faults::expect_error<std::logic_error>([&] { layer.zero_gradients(); }, {name + "::zero_gradients: ", "moved from"});
  layer.eval();
  faults::expect_error<std::logic_error>([&] { layer(x); }, {name + "::forward: ", "moved from"});
  layer = copy;
  EXPECT_EQ(faults::bytes_of(layer.infer(images())), faults::bytes_of(expected));
  layer = std::move(moved);
  EXPECT_NO_THROW(layer.infer(x));
  faults::expect_error<std::logic_error>([&] { moved.infer(x); }, {name + "::infer: ", "moved from"});  // NOLINT(bugprone-use-after-move)
}

TEST(Misuse, MovedFromLayersSaySo) {
  for (const bool affine : {true, false}) {
    expect_moved_away(tn::BatchNorm2d<float>(3, {.affine = affine}), "BatchNorm2d");
    expect_moved_away(tn::InstanceNorm2d<float>(3, {.affine = affine}), "InstanceNorm2d");
    expect_moved_away(tn::InstanceNorm2d<float>(3, {.affine = affine, .track_running_stats = true}), "InstanceNorm2d");
    expect_moved_away(tn::GroupNorm<float>(3, 3, {.affine = affine}), "GroupNorm");
    expect_moved_away(tn::LayerNorm<float>(4, {.elementwise_affine = affine}), "LayerNorm");
    expect_moved_away(tn::RMSNorm<float>(4, {.elementwise_affine = affine}), "RMSNorm");
    expect_moved_away(tn::Normalization<float, support::PositionAxes>({3}, {.affine = affine}), "Normalization");
  }
}

TEST(Misuse, AffineAxesOfAnotherShapeOfTheSameSize) {
  const Tensor<4> x = images();
  using Layer = tn::Normalization<float, support::EveryRoleAxes>;  // the first axis and the last
  EXPECT_NO_THROW(Layer({2, 4})(x));
  EXPECT_NO_THROW(Layer({8})(x));
  for (const Layer& layer : std::vector<Layer>{Layer({4, 2}), Layer({1, 8}), Layer({2, 2, 2})})
    faults::expect_error([&] { layer(x); }, {"Normalization::forward: ", "expected affine axes of shape [", ", got [2,4]"});
  faults::expect_error([] { Layer layer({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}); },
                       {"Normalization::constructor: ", "at most 10 extents"});
}

TEST(Misuse, RMSNormAndItsFunctionHaveTheSameEps) {
  Tensor<2> x(1, 4), y(1, 4), z(1, 4), dx(1, 4);
  x.setConstant(1e-6F);
  tn::RMSNorm<double> layer(4);
  tn::SavedStats<double> saved;
  layer.forward(x, y);
  EXPECT_NEAR(y(0, 0), 1e-6 / std::sqrt(1e-12 + std::numeric_limits<double>::epsilon()), 1e-6);
  tn::rms_norm(x, z, layer.weight());
  EXPECT_EQ(faults::bytes_of(z), faults::bytes_of(y));
  tn::rms_norm(x, z, saved, layer.weight());
  EXPECT_EQ(faults::bytes_of(z), faults::bytes_of(y));
  tn::rms_norm_backward(x, x, saved, layer.weight(), dx, tn::none);
  EXPECT_EQ(faults::bytes_of(dx), faults::bytes_of(layer.backward(x, x, saved).dx));
}

TEST(Misuse, RunningStatisticsThatWereMovedFrom) {
  const Tensor<4> x = images();
  tn::BatchNorm2d<float> layer(3);
  const tn::RunningStats<float> taken = std::move(layer.running_stats());
  faults::expect_error<std::logic_error>([&] { layer(x); }, {"BatchNorm2d::forward: ", "expected running statistics of 3 features, got 0"});
  layer.running_stats() = taken;
  EXPECT_NO_THROW(layer(x));
  tn::BatchNorm2d<float> other(3);
  other.running_stats() = std::move(layer.running_stats());
  EXPECT_EQ(other.running_stats().num_batches(), 1);
  faults::expect_error<std::logic_error>([&] { layer.infer(x); }, {"BatchNorm2d::infer: ", "got 0"});
  const std::vector<float> none;
  faults::expect_error<std::logic_error>([&] { layer.running_stats().load(none, none, 1); }, {"BatchNorm2d::load: ", "moved from"});
}

TEST(Misuse, LayersInAVectorThatGrowsAreMoved) {
  static_assert(std::is_nothrow_move_constructible_v<tn::LayerNorm<float, 2>> && std::is_nothrow_move_assignable_v<tn::LayerNorm<float, 2>>);
  static_assert(std::is_nothrow_move_constructible_v<tn::BatchNorm2d<float>> && std::is_nothrow_move_assignable_v<tn::BatchNorm2d<float>>);
  std::vector<tn::BatchNorm2d<float>> layers(1, tn::BatchNorm2d<float>(3));
  const float *weight = layers[0].weight().data(), *mean = layers[0].running_mean().data();
  layers.reserve(layers.capacity() + 1);
  EXPECT_EQ(layers[0].weight().data(), weight);
  EXPECT_EQ(layers[0].running_mean().data(), mean);
}

TEST(Misuse, NormalizeWithOptionsOfTheirOwnType) {
  const Tensor<2> x = Tensor<2>(3, 2).setRandom();
  auto [mean, variance] = tn::moments(x, tn::over<0>);
  const auto constant = mean;
  const Eigen::TensorMap<const Tensor<1>> mapped(mean.data(), 2);
  const Tensor<2> y = tn::normalize(x, mean, variance, tn::over<0>);
  const Tensor<2> results[] = {tn::normalize(x, mean, variance, tn::over<0>, {}), tn::normalize(x, constant, variance, tn::over<0>, {}),
                               tn::normalize(x, mapped, variance, tn::over<0>, {})};
  for (const Tensor<2>& result : results) EXPECT_EQ(faults::bytes_of(result), faults::bytes_of(y));
  Tensor<2> z(3, 2);
  tn::normalize(x, z, mapped, variance, tn::over<0>, {});
  EXPECT_EQ(faults::bytes_of(z), faults::bytes_of(y));
}

TEST(Misuse, StatisticsLoadedFromThemselves) {
  tn::RunningStats<float> stats(2);
  stats.load(std::vector<float>{3, 3}, std::vector<float>{5, 5}, 1);
  const float* const mean = stats.mean().data();
  stats.load(stats.variance(), stats.mean(), 2);
  EXPECT_EQ(stats.mean().data(), mean) << "where a map of it may look";
  EXPECT_EQ(stats.mean()(0), 5);
  EXPECT_EQ(stats.variance()(1), 3);
}

TEST(Misuse, AVarianceBelowZeroThatADoubleDoesNotHold) {
  volatile const long double least = std::numeric_limits<long double>::denorm_min();
  if (static_cast<double>(least) != 0 || !(least > 0)) GTEST_SKIP() << "no such number here, or none that this emulator computes with";
  tn::RunningStats<long double> stats(1);
  const std::vector<long double> below = {-least}, zero = {0};
  faults::expect_error([&] { stats.load(zero, below, 1); }, {"RunningStats::load: ", "expected running_var >= 0"});
  EXPECT_NO_THROW(stats.load(zero, zero, 1));
}

/// A scale and an offset per group, as ONNX' GroupNormalization had them first: one part of the split axis alone is affine.
struct GroupScaleAxes {
  tn::Index groups = 1;
  static constexpr int split_axis(int /*rank*/) { return 1; }
  static constexpr tn::AxisRole role(int axis, int /*rank*/) {
    return axis == 0 ? tn::AxisRole::kept : axis == 1 ? tn::AxisRole::kept_affine : tn::AxisRole::reduced;
  }
};

TEST(Misuse, PoliciesWithOneAffinePartOfASplitAxis) {
  Tensor<3> x(2, 4, 3), dy(2, 4, 3), dx(2, 4, 3);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i * i % 7);
  dy.setConstant(1);
  tn::Normalization<float, GroupScaleAxes> layer({2}, {}, {2}), plain({2}, {.affine = false}, {2});
  layer.weight()(0) = 2;
  layer.weight()(1) = 3;
  layer.bias()(1) = 5;
  tn::SavedStats<float> saved;
  Tensor<3> y(2, 4, 3);
  layer.forward(x, y, saved);
  const Tensor<3> norm = plain(x);
  for (Eigen::Index n = 0; n < 2; ++n)
    for (Eigen::Index c = 0; c < 4; ++c)
      for (Eigen::Index i = 0; i < 3; ++i)
        EXPECT_NEAR(y(n, c, i), c < 2 ? 2 * norm(n, c, i) : 3 * norm(n, c, i) + 5, 1e-5);
  auto gradients = layer.zero_gradients();
  layer.backward(dy, x, saved, dx, gradients);
  EXPECT_EQ(gradients.bias(0), 12);
  EXPECT_EQ(gradients.bias(1), 12);
  EXPECT_NEAR(gradients.weight(0), 0, 1e-5);
  using Layer = tn::Normalization<float, GroupScaleAxes>;
  EXPECT_THROW(Layer({4}, {}, {2})(x), std::invalid_argument);
}

TEST(Misuse, SelfAssignmentAndSwap) {
  const Tensor<4> x = images();
  tn::BatchNorm2d<float> trained(3), fresh(3, {.momentum = 0.5});
  trained(x);
  trained.weight()(1) = 2;
  const float mean = trained.running_mean()(2);
  auto& same = trained;
  trained = same;
  EXPECT_EQ(trained.running_mean()(2), mean);
  EXPECT_EQ(trained.weight()(1), 2);
  std::swap(trained, fresh);
  EXPECT_EQ(fresh.running_mean()(2), mean);
  EXPECT_EQ(fresh.weight()(1), 2);
  EXPECT_EQ(fresh.running_stats().momentum(), 0.1);
  EXPECT_EQ(trained.running_mean()(2), 0);
  EXPECT_EQ(trained.weight()(1), 1);
  EXPECT_EQ(trained.running_stats().momentum(), 0.5);
  trained(x);
  EXPECT_EQ(trained.running_stats().num_batches(), 1);
}

// Assigned to itself, or swapped with another: every byte of the state is where it should be, and a copy shares none of it.
template <class Layer>
void expect_values(Layer layer, Layer other) {
  const auto spoil = [](Layer& of) {
    of.weight()(0) = 42;
    of.eval();
  };
  other.weight()(1) = 7;
  const std::string state = faults::state_of(layer), of_other = faults::state_of(other);
  ASSERT_NE(state, of_other);
  Layer& same = layer;
  layer = same;
  EXPECT_EQ(faults::state_of(layer), state) << layer;
  std::swap(layer, other);
  EXPECT_EQ(faults::state_of(layer), of_other) << layer;
  EXPECT_EQ(faults::state_of(other), state) << layer;
  Layer copy = layer;
  spoil(copy);
  EXPECT_EQ(faults::state_of(layer), of_other) << layer;
  other = copy;
  other.weight()(1) = 43;
  EXPECT_NE(faults::state_of(other), faults::state_of(copy)) << layer;
}

TEST(Misuse, Row95SelfAssignmentAndSwapOfEveryLayer) {
  using support::PositionAxes;
  tn::BatchNorm2d<float> trained(3);
  trained(images());
  expect_values(trained, tn::BatchNorm2d<float>(3, {.momentum = 0.5}));
  expect_values(tn::InstanceNorm2d<float>(3, {.affine = true}), tn::InstanceNorm2d<float>(3, {.affine = true, .track_running_stats = true}));
  expect_values(tn::GroupNorm<float>(3, 3), tn::GroupNorm<float>(1, 3));
  expect_values(tn::LayerNorm<float>(4), tn::LayerNorm<float>(5, {.eps = 1e-3}));
  expect_values(tn::RMSNorm<float>(4), tn::RMSNorm<float>(5));
  expect_values(tn::Normalization<float, PositionAxes>({3}), tn::Normalization<float, PositionAxes>({4}));
}

TEST(Misuse, GivenStatisticsAreReadWithTheirStrides) {
  Matrix rows(2, 3);
  rows << 1, 2, 3, 10, 20, 30;
  tn::RunningStats<float> stats(3);
  stats.load(rows.row(0), rows.row(1), 1);
  EXPECT_EQ(stats.mean()(1), 2.0F);
  EXPECT_EQ(stats.variance()(2), 30.0F);

  Tensor<2> x(2, 3);
  x.setZero();
  std::vector<float> gaps(8, 1.0F);
  const Eigen::Map<Matrix, 0, Eigen::OuterStride<>> strided(gaps.data(), 2, 1, Eigen::OuterStride<>(4));
  Tensor<3> deep(2, 1, 3);
  deep.setZero();
  EXPECT_THROW(tn::normalize(deep, strided, strided, tn::over<2>), std::invalid_argument);
}

TEST(Misuse, GroupsOfAPolicyOfOnesOwn) {
  Matrix x = Matrix::Random(2, 5), y = Matrix::Constant(2, 5, -77.0F);
  tn::Normalization<float, tn::GroupAxes<1>> uneven({5}, {}, {2}), none({5}, {}, {0});
  EXPECT_THROW(uneven.forward(x, y), std::invalid_argument);
  EXPECT_THROW(none.forward(x, y), std::invalid_argument);
  EXPECT_TRUE((y.array() == -77.0F).all());
}

TEST(Misuse, SavedStatsOfTheOtherStorageOrder) {
  Tensor<3> row(2, 3, 8), y(2, 3, 8);
  Tensor<3, Eigen::ColMajor> column(2, 3, 8);
  row.setRandom();
  column.setRandom();
  tn::InstanceNorm1d<float> layer(3);
  tn::SavedStats<float> saved;
  layer.forward(row, y, saved);
  EXPECT_THROW(layer.backward(column, column, saved), std::logic_error);
}

TEST(Misuse, UnbiasedVarianceOfOneValue) {
  const Matrix x = Matrix::Random(3, 1);
  Matrix y = Matrix::Constant(3, 1, -77.0F);
  EXPECT_THROW(tn::layer_norm(x, y, tn::none, tn::none, {.variance = tn::VarianceEstimator::unbiased}), std::invalid_argument);
  EXPECT_TRUE((y.array() == -77.0F).all());
}

// normalize(x, moments(x)) is layer_norm of the same options, which PyTorch's golden values judge.
TEST(Misuse, NormalizeHonoursTheEstimatorOfTheVariance) {
  Matrix x(2, 4);
  x << 1, 3, 5, 7, -2, 0, 2, 8;
  const auto [mean, variance] = tn::moments(x, tn::over<1>);  // 4, 5 and 2, 14
  for (const auto added_to : {tn::EpsAddedTo::variance, tn::EpsAddedTo::deviation}) {
    const tn::NormalizeOptions options{.eps = 0.5, .variance = tn::VarianceEstimator::unbiased, .eps_added_to = added_to};
    const Matrix y = tn::normalize(x, mean, variance, tn::over<1>, options);
    for (int r = 0; r < 2; ++r) {
      const double unbiased = (r == 0 ? 5 : 14) * 4 / 3.0;
      const double factor = added_to == tn::EpsAddedTo::variance ? 1 / std::sqrt(unbiased + 0.5) : 1 / (std::sqrt(unbiased) + 0.5);
      for (int c = 0; c < 4; ++c) EXPECT_FLOAT_EQ(y(r, c), static_cast<float>((x(r, c) - (r == 0 ? 4 : 2)) * factor));
    }
    Matrix expected(2, 4);
    tn::layer_norm(x, expected, tn::none, tn::none, options);
    EXPECT_TRUE(y.isApprox(expected, 1e-6F));
  }
  const Matrix column = Matrix::Random(3, 1);
  Matrix y = Matrix::Constant(3, 1, -77.0F);
  const Eigen::Tensor<float, 1> three(3);
  EXPECT_THROW(tn::normalize(column, y, three, three, tn::over<1>, {.variance = tn::VarianceEstimator::unbiased}), std::invalid_argument);
  EXPECT_TRUE((y.array() == -77.0F).all());
}

TEST(Misuse, OneRowInPlaceWhateverItsOuterStride) {
  const Matrix x = Matrix::Random(1, 8);
  tn::LayerNorm<float> layer(8);
  Matrix expected(1, 8);
  tn::SavedStats<float> saved;
  layer.forward(x, expected, saved);
  Matrix data = x;
  layer.forward(Strided(data.data(), 1, 8, Eigen::OuterStride<>(8)), Strided(data.data(), 1, 8, Eigen::OuterStride<>(100)));
  EXPECT_EQ(data, expected);

  const Matrix dy = Matrix::Random(1, 8);
  layer.backward(dy, x, saved, expected, tn::none);
  data = dy;
  layer.backward(data, x, saved, Strided(data.data(), 1, 8, Eigen::OuterStride<>(3)), tn::none);
  EXPECT_EQ(data, expected);

  const Matrix rows = Matrix::Random(2, 8);
  data = rows;
  EXPECT_THROW(layer.forward(data, Strided(data.data(), 2, 8, Eigen::OuterStride<>(9))), std::invalid_argument);
  EXPECT_EQ(data, rows);
}

TEST(Misuse, GradientsOfWeightAndBiasInTheSameMemory) {
  const Matrix x = Matrix::Random(4, 8), dy = Matrix::Random(4, 8);
  Matrix y(4, 8), dx = Matrix::Constant(4, 8, -77.0F);
  tn::SavedStats<float> saved;
  tn::layer_norm(x, y, saved, tn::none, tn::none);
  std::vector<float> memory(16, 1.0F);
  using Vector = Eigen::TensorMap<Eigen::Tensor<float, 1>>;
  for (const int shift : {0, 1, 7}) {
    EXPECT_THROW(tn::layer_norm_backward(dy, x, saved, tn::none, dx, Vector(memory.data(), 8), Vector(memory.data() + shift, 8)), std::invalid_argument);
    EXPECT_THROW(tn::layer_norm_backward(dy, x, saved, tn::none, dx, Vector(memory.data() + shift, 8), Vector(memory.data(), 8)), std::invalid_argument);
  }
  EXPECT_EQ(memory, std::vector<float>(16, 1.0F));
  EXPECT_TRUE((dx.array() == -77.0F).all());
  tn::layer_norm_backward(dy, x, saved, tn::none, dx, Vector(memory.data(), 8), Vector(memory.data() + 8, 8));
  EXPECT_FLOAT_EQ(memory[8], 1 + dy.col(0).sum());
}

// By the shape the caller passed, not (1, C, H, W).
TEST(Misuse, ErrorsAboutAnImageWithoutABatch) {
  const tn::InstanceNorm2d<float> layer(3, {.affine = true});
  const auto text_of = [](const auto& call) {
    try {
      call();
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  Tensor<3> four(4, 5, 6), image(3, 5, 6), pixel(3, 1, 1), y(4, 5, 6), dx(3, 5, 6);
  image.setRandom();
  EXPECT_EQ(text_of([&] { layer.infer(four, y); }), "InstanceNorm2d::infer: expected C=3 at dimension 0, got 4 (x: [4,5,6])");
  EXPECT_EQ(text_of([&] { layer.infer(image, y); }), "InstanceNorm2d::infer: y: expected [3,5,6], got [4,5,6]");
  EXPECT_EQ(text_of([&] { (void)layer.infer(pixel); }),
            "InstanceNorm2d::infer: Expected more than 1 spatial element when training, got input size [3,1,1]");
  tn::SavedStats<float> saved;
  tn::InstanceNorm2d<float>(3).forward(image, dx, saved);
  EXPECT_EQ(text_of([&] { layer.backward(four, image, saved, dx, tn::none); }), "InstanceNorm2d::backward: dy: expected [3,5,6], got [4,5,6]");
}

TEST(Misuse, SavedStatsOfAnEmptyBatchAreZero) {
  const Tensor<4> x = images();
  Tensor<4> y(2, 3, 4, 4);
  Tensor<4> empty(0, 3, 4, 4), nothing(0, 3, 4, 4);
  tn::BatchNorm2d<float> layer(3);
  tn::SavedStats<float> saved;
  const auto expect_zeros = [&] {
    layer.forward(empty, nothing, saved);
    ASSERT_EQ(saved.size(), 3);
    for (int c = 0; c < 3; ++c) EXPECT_TRUE(saved.mean()(c) == 0 && saved.mean_lo()(c) == 0 && saved.rstd()(c) == 0) << c;
  };
  layer.forward(x, y, saved);
  expect_zeros();
  const Matrix rows = Matrix::Random(64, 8);
  Matrix normalized(64, 8);
  tn::LayerNorm<float>(8).forward(rows, normalized, saved);
  const tn::SavedStats<float> kept = std::move(saved);
  expect_zeros();  // NOLINT(bugprone-use-after-move): what is tested
}

/// Leaves `value` all over the stack below.
#if defined(__GNUC__)
__attribute__((noinline))
#endif
void fill_stack(int value) {
  volatile unsigned char bytes[30000];
  for (volatile unsigned char& byte : bytes) byte = static_cast<unsigned char>(value);
}

TEST(Misuse, OneChannelDependsOnNoLoop) {
  Tensor<4> x(2, 1, 2, 2), y(2, 1, 2, 2), dy(2, 1, 2, 2), dx(2, 1, 2, 2);
  for (int i = 0; i < 8; ++i) x.data()[i] = i % 2 == 0 ? 1.0F : -1.0F;
  dy.setConstant(1.0F);
  tn::BatchNorm2d<float> layer(1, {.eps = 0.0});
  tn::BatchNorm2d<double> wide(1, {.eps = 0.0});
  wide.weight()(0) = 2.0;
  wide.bias()(0) = 3.0;
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  for (const int value : {0x00, 0x01, 0xFF}) {
    fill_stack(value);
    wide.forward(x, y);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(y.data()[i], i % 2 == 0 ? 5.0F : 1.0F) << value;
    auto gradients = layer.zero_gradients();
    fill_stack(value);
    layer.backward(dy, x, saved, dx, gradients);
    EXPECT_EQ(gradients.weight(0), 0.0F) << value;
    EXPECT_EQ(gradients.bias(0), 8.0F) << value;
  }
}

TEST(Misuse, GradientsOfConstantStatisticsDoNotReadX) {
  Tensor<4> x = images(), y(2, 3, 4, 4), dy(2, 3, 4, 4);
  dy.setConstant(1.0F);
  tn::BatchNorm2d<float> layer(3);
  layer(x);
  layer.eval();
  x(0, 0, 0, 0) = std::numeric_limits<float>::infinity();
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  const auto gradients = layer.backward(dy, x, saved);
  EXPECT_EQ(gradients.dx(0, 0, 0, 0), gradients.dx(1, 0, 1, 1));
}

TEST(Misuse, AllocatingFormsTakeADevice) {
  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  const Tensor<4> x = images();
  tn::BatchNorm2d<float> layer(3);
  tn::SavedStats<float> saved;
  Tensor<4> y(2, 3, 4, 4);
  layer.forward(x, y, saved);
  const auto same = [](const Tensor<4>& a, const Tensor<4>& b) { return std::equal(a.data(), a.data() + a.size(), b.data()); };
  EXPECT_TRUE(same(layer(x, device), y));
  EXPECT_TRUE(same(layer.infer(x, device), layer.infer(x)));
  EXPECT_TRUE(same(layer.backward(x, x, saved, device).dx, layer.backward(x, x, saved).dx));
  EXPECT_NO_THROW(tn::LayerNorm<float>(4)(x, device));
}

TEST(Misuse, MapsOfConstScalarsAreInputs) {
  const Tensor<4> x = images();
  const Eigen::TensorMap<Eigen::Tensor<const float, 4, Eigen::RowMajor>> map(x.data(), x.dimensions());
  tn::LayerNorm<float> layer(4);
  const Tensor<4> y = layer(map), expected = layer(x);
  EXPECT_TRUE(std::equal(y.data(), y.data() + y.size(), expected.data()));
}

}  // namespace
