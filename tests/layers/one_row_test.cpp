// SPDX-License-Identifier: MIT
// A call of one short row, which needs neither a plan nor memory, is the same as of a row among others, and refuses what is refused of those.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
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

  Results(const Layer& layer, const X& x, const X& dy)
      : y(x.dimensions()), dx(x.dimensions()), dx_alone(x.dimensions()), gradients(layer.zero_gradients()) {
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
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const T& x, const T& y) {
    return (x == y && std::signbit(double(x)) == std::signbit(double(y))) || (x != x && y != y);
  });
}
template <class Parameters>
auto flat(const Parameters& parameters) {
  return std::vector<std::remove_cvref_t<decltype(parameters.data()[0])>>(parameters.data(), parameters.data() + parameters.size());
}

/// One row of such a shape, ordinary or not, alone and before another one, which has no gradient.
template <class X, class Layer>
void expect_alone_as_among_others(const Layer& layer, Shape shape) {
  using T = typename X::Scalar;
  const Index n = support::size_of(shape);
  shape.insert(shape.begin(), 1);
  Shape two = shape;
  two[0] = 2;
  for (const std::string_view kind : {"ordinary", "constant", "NaN", "tiny", "huge"}) {
    SCOPED_TRACE(std::string(layer.name()) + " of " + std::to_string(sizeof(T)) + " bytes, " + testing::PrintToString(shape) + ", " +
                 std::string(kind));
    auto x = support::random_values<T>(2 * n, 1), dy = support::random_values<T>(2 * n, 2);
    if (kind == "constant") std::fill_n(x.begin(), n, T(3));
    if (kind == "NaN") x[std::size_t(n - 1)] = std::numeric_limits<T>::quiet_NaN();
    if (kind == "tiny" || kind == "huge")
      for (Index i = 0; i < n; ++i) x[std::size_t(i)] *= kind == "tiny" ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max() / T(64);
    std::fill(dy.begin() + n, dy.end(), T(0));
    const Results<X, Layer> alone(layer, support::tensor_of<X>(shape, first(x, n)), support::tensor_of<X>(shape, first(dy, n)));
    const Results<X, Layer> among(layer, support::tensor_of<X>(two, x), support::tensor_of<X>(two, dy));
    EXPECT_TRUE(same(logical(alone.y), first(logical(among.y), n)));
    EXPECT_TRUE(same(logical(alone.dx), first(logical(among.dx), n)));
    EXPECT_TRUE(same(logical(alone.dx_alone), first(logical(among.dx_alone), n)));
    const auto statistics = [](const auto& saved) {
      return std::vector<typename Layer::Saved::Statistic>{saved.mean()(0), saved.mean_lo()(0), saved.rstd()(0)};
    };
    EXPECT_TRUE(same(statistics(alone.saved), statistics(among.saved)));
    EXPECT_TRUE(same(flat(alone.gradients.weight), flat(among.gradients.weight)));
    EXPECT_TRUE(same(flat(alone.gradients.bias), flat(among.gradients.bias)));
  }
}

// few_rows_test has rows of all lengths and kinds; here are layers and tensors of all kinds.
TEST(OneRow, IsTheSameAsAmongOthers) {
  for (const Index n : {2, 7, 16, 17, 40, 256, 257, 512, 513}) {
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

/// Of two axes the first is normalized, of three the first and the last.
struct OuterAxes {
  static constexpr tn::AxisRole role(int axis, int) { return axis == 1 ? tn::AxisRole::kept : tn::AxisRole::reduced_affine; }
};

// Weights are RowMajor over the axes, and not all rows are: of ColMajor tensors with several axes they are in another order than x's memory.
TEST(OneRow, MeetsItsParametersInTheirOrder) {
  constexpr Index a = 3, b = 8, n = a * b;
  const auto expected_layer = randomized(tn::LayerNorm<float>(n));
  const auto x = support::random_values<float>(n, 1), dy = support::random_values<float>(n, 2);
  using Rows = Tensor<float>;
  const Results<Rows, tn::LayerNorm<float>> expected(expected_layer, support::tensor_of<Rows>({1, n}, x), support::tensor_of<Rows>({1, n}, dy));
  const auto expect = [&]<class X, class Layer>(const Layer& unset, const Shape& shape) {
    const Layer layer = randomized(unset);
    const Results<X, Layer> got(layer, support::tensor_of<X>(shape, x), support::tensor_of<X>(shape, dy));
    const auto near = [&](const auto& values, const auto& wanted) { return support::all_near(values, wanted, 1e-5L); };
    EXPECT_TRUE(near(logical(got.y), logical(expected.y)));
    EXPECT_TRUE(near(logical(got.dx), logical(expected.dx)));
    EXPECT_TRUE(near(logical(got.dx_alone), logical(expected.dx)));
    EXPECT_TRUE(near(flat(got.gradients.weight), flat(expected.gradients.weight)));
    EXPECT_TRUE(near(flat(got.gradients.bias), flat(expected.gradients.bias)));
  };
  const tn::Normalization<float, OuterAxes> outer({a, b});
  const tn::Normalization<float, OuterAxes> first_axis({n});
  const tn::LayerNorm<float, 2> last_axes({a, b});
  expect.operator()<Tensor<float, 3>>(outer, {a, 1, b});
  expect.operator()<Tensor<float, 3, Eigen::ColMajor>>(outer, {a, 1, b});
  expect.operator()<Tensor<float>>(first_axis, {n, 1});
  expect.operator()<Tensor<float, 2, Eigen::ColMajor>>(first_axis, {n, 1});
  expect.operator()<Tensor<float, 3>>(last_axes, {1, a, b});
  expect.operator()<Tensor<float, 3, Eigen::ColMajor>>(last_axes, {1, a, b});
}

// A bias alone is one beside a weight of 1.
TEST(OneRow, MayHaveABiasAlone) {
  const auto x = support::tensor_of<Tensor<float>>({1, 24}, support::random_values<float>(24, 1));
  tn::LayerNorm<float> layer(24);
  layer.bias().setRandom();
  auto y = x;
  tn::layer_norm(x, y, tn::none, layer.bias());
  EXPECT_TRUE(same_bits(logical(y), logical(layer.infer(x))));
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

struct Counts {
  long forward, saving, backward, dx_alone;
  friend bool operator==(const Counts&, const Counts&) = default;
};
/// The allocations of a thread's first calls of one row of such a shape.
template <class X, class Layer>
Counts allocations_of(const Layer& layer, const Shape& shape) {
  Counts counts{};
  std::thread([&] {
    const auto x = support::tensor_of<X>(shape, support::random_values<typename X::Scalar>(support::size_of(shape), 1));
    auto y = x, dx = x;
    typename Layer::Saved saved;
    auto gradients = layer.zero_gradients();
    counts.forward = support::allocations_in([&] { layer.infer(x, y); });
    counts.saving = support::allocations_in([&] { layer.forward(x, y, saved); });
    counts.backward = support::allocations_in([&] { layer.backward(x, x, saved, dx, gradients); });
    counts.dx_alone = support::allocations_in([&] { layer.backward(x, x, saved, dx, tn::none); });
  }).join();
  return counts;
}

// Not even of a thread that calls for the first time, but for what saved statistics need.
TEST(OneRow, NeedsNoMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations are the sanitizer's";
  const Counts none{0, 1, 0, 0};
  EXPECT_EQ(allocations_of<Tensor<float>>(tn::LayerNorm<float>(24), {1, 24}), none);
  EXPECT_EQ(allocations_of<Tensor<float>>(tn::LayerNorm<float>(512, {.bias = false}), {1, 512}), none);
  EXPECT_EQ(allocations_of<Tensor<double>>(tn::LayerNorm<double>(256), {1, 256}), none);
  EXPECT_EQ(allocations_of<Tensor<Eigen::half>>(tn::LayerNorm<float>(24), {1, 24}), none);
  EXPECT_EQ(allocations_of<Tensor<float>>(tn::RMSNorm<float>(24), {1, 24}), none);
  EXPECT_EQ((allocations_of<Tensor<float, 3>>(tn::LayerNorm<float, 2>({4, 6}), {1, 4, 6})), none);
  EXPECT_EQ((allocations_of<Tensor<float, 2, Eigen::ColMajor>>(tn::LayerNorm<float>(24), {1, 24})), none);
  EXPECT_GT(allocations_of<Tensor<float>>(tn::LayerNorm<float>(513), {1, 513}).forward, 0) << "a plan, else nothing is counted";
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
    const tn::SavedStats<float> saved = saved_;
    try {
      call();
      ADD_FAILURE() << "not refused: " << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
    EXPECT_TRUE(same_bits(before, memory_)) << text;
    EXPECT_EQ(flat(saved.mean()), flat(saved_.mean())) << text;
    EXPECT_EQ(flat(saved.rstd()), flat(saved_.rstd())) << text;
    EXPECT_TRUE(std::ranges::equal(saved.shape(), saved_.shape()) && saved.kind() == saved_.kind() && saved.samples() == saved_.samples()) << text;
  }
};

TEST_F(OneRowRefuses, OutputsThatOverlap) {
  tn::layer_norm(row(0), row(7 * kSize), saved_);
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

// What they are added to may be what is read, and is written last.
TEST_F(OneRowRefuses, NoParameterGradientsOnWhatIsRead) {
  tn::layer_norm(row(0), row(7 * kSize), saved_, vector(3 * kSize), vector(3 * kSize));
  const auto before = memory_;
  tn::layer_norm_backward(row(kSize), row(0), saved_, vector(3 * kSize), row(6 * kSize), vector(4 * kSize), vector(5 * kSize));
  const auto expected = memory_;
  for (const Index on : {Index(0), kSize, 3 * kSize}) {
    for (const bool bias : {false, true}) {
      memory_ = before;
      const auto read = vector(on).eval();
      const Index own = (bias ? 5 : 4) * kSize;  // where that gradient lay before
      tn::layer_norm_backward(row(kSize), row(0), saved_, vector(3 * kSize), row(6 * kSize), vector(bias ? 4 * kSize : on),
                              vector(bias ? on : 5 * kSize));
      for (Index i = 0; i < kSize; ++i) {
        EXPECT_EQ(memory_[std::size_t(6 * kSize + i)], expected[std::size_t(6 * kSize + i)]);
        EXPECT_NEAR(memory_[std::size_t(on + i)], read[i] + expected[std::size_t(own + i)] - before[std::size_t(own + i)], 1e-5F);
      }
    }
  }
  // Of the bias alone: the sum is dy.
  const auto dbias = vector(5 * kSize).eval();
  tn::layer_norm_backward(row(kSize), row(0), saved_, vector(3 * kSize), row(6 * kSize), tn::none, vector(5 * kSize));
  for (Index i = 0; i < kSize; ++i) EXPECT_EQ(memory_[std::size_t(5 * kSize + i)], dbias[i] + memory_[std::size_t(kSize + i)]);
}

TEST_F(OneRowRefuses, NothingWhereMemoryFails) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations are the sanitizer's";
  const auto before = memory_;
  EXPECT_THROW(support::allocations_in([&] { tn::layer_norm(row(0), row(7 * kSize), saved_); }, 1), std::bad_alloc);
  EXPECT_TRUE(saved_.empty());
  EXPECT_TRUE(same_bits(before, memory_));
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
