// SPDX-License-Identifier: MIT
// A call of one short row, which needs neither a plan nor memory, is the same as of a row among others, and refuses what is refused of those.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::logical;
using support::same_bits;
using support::Shape;

template <class T, int kRank = 2, int kOrder = Eigen::RowMajor>
using Tensor = Eigen::Tensor<T, kRank, kOrder>;

template <class Layer>
Layer randomized(Layer layer) {
  const auto randomize = [](auto& parameters, unsigned seed) {
    using Scalar = std::remove_cvref_t<decltype(parameters.data()[0])>;
    const auto values = support::random_values<Scalar>(parameters.size(), seed);
    std::copy(values.begin(), values.end(), parameters.data());
  };
  if (layer.has_weight()) randomize(layer.weight(), 3);
  if (layer.has_bias()) randomize(layer.bias(), 4);
  return layer;
}

/// Everything that a layer makes of rows and their gradients.
template <class X, class Layer>
struct Results {
  X y, dx, dx_alone;
  typename Layer::Saved saved;
  typename Layer::Gradients gradients;

  Results(const Layer& layer, const X& x, const X& dy) : y(x.dimensions()), dx(x.dimensions()), dx_alone(x.dimensions()), gradients(layer.zero_gradients()) {
    layer.forward(x, y, saved);
    layer.backward(dy, x, saved, dx, gradients);
    layer.backward(dy, x, saved, dx_alone, tn::none);
  }
};

template <class V>
V first(V values, Index n) {
  values.resize(std::size_t(n));
  return values;
}
/// Not by bits: a long double has some that mean nothing.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const T& x, const T& y) { return x == y && std::signbit(double(x)) == std::signbit(double(y)); });
}
template <class Parameters>
auto flat(const Parameters& parameters) {
  return std::vector<std::remove_cvref_t<decltype(parameters.data()[0])>>(parameters.data(), parameters.data() + parameters.size());
}

/// One row of such a shape, alone and before another one, which has no gradient.
template <class X, class Layer>
void expect_alone_as_among_others(const Layer& layer, Shape shape) {
  using T = typename X::Scalar;
  const Index n = support::size_of(shape);
  shape.insert(shape.begin(), 1);
  SCOPED_TRACE(std::string(layer.name()) + " of " + std::to_string(sizeof(T)) + " bytes, " + testing::PrintToString(shape));
  auto x = support::random_values<T>(2 * n, 1), dy = support::random_values<T>(2 * n, 2);
  std::fill(dy.begin() + n, dy.end(), T(0));
  Shape two = shape;
  two[0] = 2;
  const Results<X, Layer> alone(layer, support::tensor_of<X>(shape, first(x, n)), support::tensor_of<X>(shape, first(dy, n)));
  const Results<X, Layer> among(layer, support::tensor_of<X>(two, x), support::tensor_of<X>(two, dy));
  EXPECT_TRUE(same(logical(alone.y), first(logical(among.y), n)));
  EXPECT_TRUE(same(logical(alone.dx), first(logical(among.dx), n)));
  EXPECT_TRUE(same(logical(alone.dx_alone), first(logical(among.dx_alone), n)));
  EXPECT_EQ(alone.saved.mean()(0), among.saved.mean()(0));
  EXPECT_EQ(alone.saved.mean_lo()(0), among.saved.mean_lo()(0));
  EXPECT_EQ(alone.saved.rstd()(0), among.saved.rstd()(0));
  EXPECT_TRUE(same(flat(alone.gradients.weight), flat(among.gradients.weight)));
  EXPECT_TRUE(same(flat(alone.gradients.bias), flat(among.gradients.bias)));
}

// few_rows_test has rows of all lengths and kinds; here are layers and tensors of all kinds.
TEST(OneRow, IsTheSameAsAmongOthers) {
  for (const Index n : {2, 7, 16, 40, 512}) {
    const auto layer_norm = [&](tn::LayerNormOptions options) { return randomized(tn::LayerNorm<float>(n, options)); };
    expect_alone_as_among_others<Tensor<float>>(layer_norm({}), {n});
    expect_alone_as_among_others<Tensor<float>>(layer_norm({.bias = false}), {n});
    expect_alone_as_among_others<Tensor<float>>(layer_norm({.elementwise_affine = false}), {n});
    expect_alone_as_among_others<Tensor<float>>(layer_norm({.eps = 1e-3, .variance = tn::VarianceEstimator::unbiased}), {n});
    expect_alone_as_among_others<Tensor<float>>(layer_norm({.eps_added_to = tn::EpsAddedTo::deviation}), {n});
    expect_alone_as_among_others<Tensor<float, 3>>(layer_norm({}), {1, n});
    expect_alone_as_among_others<Tensor<Eigen::half>>(layer_norm({}), {n});
    expect_alone_as_among_others<Tensor<Eigen::bfloat16>>(layer_norm({}), {n});
    expect_alone_as_among_others<Tensor<double>>(randomized(tn::LayerNorm<double>(n)), {n});
    expect_alone_as_among_others<Tensor<float>>(randomized(tn::LayerNorm<double>(n)), {n});
    expect_alone_as_among_others<Tensor<float>>(randomized(tn::RMSNorm<float>(n)), {n});
    expect_alone_as_among_others<Tensor<float, 3>>(randomized(tn::LayerNorm<float, 2>({n, 3})), {n, 3});
    expect_alone_as_among_others<Tensor<float, 3>>(randomized(tn::LayerNorm<float, 2>({1, n})), {1, n});
    expect_alone_as_among_others<Tensor<long double>>(randomized(tn::LayerNorm<long double>(n)), {n});
  }
}

// A row has the same memory in either storage order.
TEST(OneRow, IsTheSameWhateverHoldsIt) {
  for (const Index n : {2, 16, 40}) {
    const auto layer = randomized(tn::LayerNorm<float>(n));
    const auto x = support::random_values<float>(n, 1), dy = support::random_values<float>(n, 2);
    const Results<Tensor<float>, tn::LayerNorm<float>> rows(layer, support::tensor_of<Tensor<float>>({1, n}, x),
                                                           support::tensor_of<Tensor<float>>({1, n}, dy));
    using Columns = Tensor<float, 2, Eigen::ColMajor>;
    const Results<Columns, tn::LayerNorm<float>> columns(layer, support::tensor_of<Columns>({1, n}, x), support::tensor_of<Columns>({1, n}, dy));
    EXPECT_TRUE(same_bits(logical(rows.y), logical(columns.y)));
    EXPECT_TRUE(same_bits(logical(rows.dx), logical(columns.dx)));
    EXPECT_TRUE(same_bits(flat(rows.gradients.weight), flat(columns.gradients.weight)));
    // A row of a matrix, with others around it that stay as they are; and one whose elements lie apart.
    for (const bool apart : {false, true}) {
      using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
      Matrix around = Matrix::Constant(apart ? n : 3, apart ? 3 : n, 77);
      const auto call = [&](auto row) {
        for (Index i = 0; i < n; ++i) row(0, i) = x[std::size_t(i)];
        layer.infer(row, row);
        for (Index i = 0; i < n; ++i) EXPECT_NEAR(row(0, i), rows.y(0, i), apart ? 1e-5F : 0.0F) << i;  // those apart are columns
        row.setConstant(77);
      };
      if (apart) call(around.middleCols(1, 1).transpose());
      else call(around.middleRows(1, 1));
      EXPECT_TRUE((around.array() == 77).all());
    }
  }
  Eigen::TensorFixedSize<float, Eigen::Sizes<1, 16>, Eigen::RowMajor> x, y;
  x.setRandom();
  const Tensor<float> same = x;
  const auto layer = randomized(tn::LayerNorm<float>(16));
  layer.infer(x, y);
  EXPECT_TRUE(same_bits(logical(Tensor<float>(y)), logical(layer.infer(same))));
}

// Not even of the thread that calls for the first time, but for what saved statistics need.
TEST(OneRow, NeedsNoMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations are the sanitizer's";
  long forward = -1, saving = -1, backward = -1;
  std::thread([&] {
    const tn::LayerNorm<float> layer(24);
    const auto x = support::tensor_of<Tensor<float>>({1, 24}, support::random_values<float>(24, 1));
    auto y = x, dx = x;
    tn::SavedStats<float> saved;
    auto gradients = layer.zero_gradients();
    forward = support::allocations_in([&] { layer.infer(x, y); });
    saving = support::allocations_in([&] { layer.forward(x, y, saved); });
    backward = support::allocations_in([&] { layer.backward(x, x, saved, dx, gradients); });
  }).join();
  EXPECT_EQ(forward, 0);
  EXPECT_EQ(saving, 1);
  EXPECT_EQ(backward, 0);
}

/// Memory of several operands of one row of kSize floats, seen whole before and after a call that is refused.
class OneRowRefuses : public testing::Test {
 protected:
  static constexpr Index kSize = 24;
  using Row = Eigen::TensorMap<Tensor<float>>;
  using Vector = Eigen::Map<Eigen::VectorXf>;
  std::vector<float> memory_ = support::random_values<float>(8 * kSize, 5);
  tn::SavedStats<float> saved_;

  Row row(Index at, Index columns = kSize) { return {memory_.data() + at, 1, columns}; }
  Vector vector(Index at, Index size = kSize) { return {memory_.data() + at, size}; }
  template <class Error = std::invalid_argument, class F>
  void expect_refused(const std::string& text, const F& call) {
    const auto before = memory_;
    const std::vector<double> mean(saved_.mean().data(), saved_.mean().data() + saved_.size());
    try {
      call();
      ADD_FAILURE() << "not refused: " << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
    EXPECT_TRUE(same_bits(before, memory_)) << text;
    EXPECT_EQ(mean, std::vector<double>(saved_.mean().data(), saved_.mean().data() + saved_.size())) << text;
  }
};

TEST_F(OneRowRefuses, OutputsThatOverlap) {
  const auto y_on = [&](Index at) { tn::layer_norm(row(kSize), row(at), saved_, vector(3 * kSize), vector(5 * kSize)); };
  expect_refused("y partially overlaps x", [&] { y_on(1); });
  expect_refused("y partially overlaps x", [&] { y_on(2 * kSize - 1); });
  expect_refused("y overlaps weight", [&] { y_on(3 * kSize); });
  expect_refused("y overlaps weight", [&] { y_on(4 * kSize - 1); });
  expect_refused("y overlaps bias", [&] { y_on(4 * kSize + 1); });
  y_on(7 * kSize);
  y_on(kSize);
}

TEST_F(OneRowRefuses, GradientsThatOverlap) {
  tn::layer_norm(row(0), row(7 * kSize), saved_, vector(3 * kSize), vector(3 * kSize));
  const auto with = [&](Index dx, Index dweight, Index dbias) {
    tn::layer_norm_backward(row(kSize), row(0), saved_, vector(3 * kSize), row(dx), vector(dweight), vector(dbias));
  };
  const Index apart = 6 * kSize, weights = 4 * kSize, biases = 5 * kSize;
  expect_refused("dx partially overlaps dy", [&] { with(2 * kSize - 1, weights, biases); });
  expect_refused("dx partially overlaps", [&] { with(1, weights, biases); });
  expect_refused("dx overlaps a parameter or its gradient", [&] { with(3 * kSize, weights, biases); });
  expect_refused("dx overlaps a parameter or its gradient", [&] { with(weights + 1, weights, biases); });
  expect_refused("dx overlaps a parameter or its gradient", [&] { with(biases, weights, biases); });
  expect_refused("dweight overlaps dbias", [&] { with(apart, weights, weights + 1); });
  with(apart, weights, biases);
}

// They may lie on what is read, and are added to last.
TEST_F(OneRowRefuses, NoGradientsOnWhatIsRead) {
  tn::layer_norm(row(0), row(7 * kSize), saved_, vector(3 * kSize), vector(3 * kSize));
  const auto before = memory_;
  tn::layer_norm_backward(row(kSize), row(0), saved_, vector(3 * kSize), row(6 * kSize), vector(4 * kSize), vector(5 * kSize));
  const auto expected = memory_;
  for (const Index on : {Index(0), kSize, 3 * kSize}) {
    memory_ = before;
    const auto read = vector(on).eval();
    tn::layer_norm_backward(row(kSize), row(0), saved_, vector(3 * kSize), row(6 * kSize), vector(on), vector(5 * kSize));
    for (Index i = 0; i < kSize; ++i) {
      EXPECT_EQ(memory_[std::size_t(6 * kSize + i)], expected[std::size_t(6 * kSize + i)]);
      const float sum = expected[std::size_t(4 * kSize + i)] - before[std::size_t(4 * kSize + i)];
      EXPECT_NEAR(memory_[std::size_t(on + i)], read[i] + sum, 1e-5F);
    }
  }
}

TEST_F(OneRowRefuses, OtherShapesAndStatistics) {
  const tn::LayerNorm<float> layer(kSize);
  expect_refused("expected normalized_shape [24], got [23]", [&] { layer.forward(row(0, kSize - 1), row(kSize, kSize - 1), saved_); });
  expect_refused("y: expected [1,24], got [1,23]", [&] { layer.forward(row(0), row(kSize, kSize - 1), saved_); });
  auto gradients = layer.zero_gradients();
  const auto backward = [&](Index columns_of_dy = kSize) { layer.backward(row(kSize, columns_of_dy), row(0), saved_, row(2 * kSize), gradients); };
  expect_refused<std::logic_error>("needs the saved statistics", [&] { backward(); });
  tn::RMSNorm<float>(kSize).forward(row(0), row(2 * kSize), saved_);
  expect_refused<std::logic_error>("got those about 0", [&] { backward(); });
  tn::layer_norm(row(0, 2 * kSize), row(2 * kSize, 2 * kSize), saved_);
  expect_refused<std::logic_error>("expected each of 24 elements of x, got each of 48", [&] { backward(); });
  layer.forward(row(0), row(2 * kSize), saved_);
  expect_refused("dy: expected [1,24], got [1,23]", [&] { backward(kSize - 1); });
  EXPECT_EQ(gradients.weight(0), 0.0F);
  EXPECT_EQ(gradients.bias(kSize - 1), 0.0F);
  backward();
  EXPECT_NE(gradients.bias(kSize - 1), 0.0F);
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<Matrix, 0, Eigen::OuterStride<>> backwards(memory_.data(), 1, kSize, Eigen::OuterStride<>(-30));
  expect_refused("expected an outer stride >= 0", [&] { layer.infer(backwards, Matrix(1, kSize)); });
}

}  // namespace
