// SPDX-License-Identifier: MIT
// A single row, and a few rows with given statistics, are calls whose elements take less time than all around them: they have kernels of
// their own, which give the same bits as those of many rows.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using Eigen::bfloat16, Eigen::half;
using Index = Eigen::Index;
using support::same_number;

template <class T>
using Map = Eigen::TensorMap<Eigen::Tensor<T, 2, Eigen::RowMajor>>;

/// Elements between others, which a test sees changed.
template <class T>
struct Guarded {
  static constexpr Index kAround = 40;
  std::vector<T> memory;
  Index rows, columns;
  Guarded(Index r, Index c) : memory(std::size_t(r * c + 2 * kAround), T(77)), rows(r), columns(c) {}
  T* data() { return memory.data() + kAround; }
  Map<T> map() { return {data(), rows, columns}; }
  bool is_intact() const {
    const auto is_guard = [](const T& value) { return value == T(77); };
    return std::all_of(memory.begin(), memory.begin() + kAround, is_guard) && std::all_of(memory.end() - kAround, memory.end(), is_guard);
  }
};

template <class T>
bool same(const T* a, const T* b, Index n) {
  return std::equal(a, a + n, b, same_number<T>);
}

template <class T>
std::vector<T> values(Index n, unsigned seed, double mean = 0) {
  const auto floats = support::random_values<float>(n, seed, mean, 1.0);
  std::vector<T> result(floats.size());
  std::transform(floats.begin(), floats.end(), result.begin(), [](float v) { return T(v); });
  return result;
}

/// Rows that are ordinary, and rows that kernels take otherwise.
template <class T>
std::vector<std::pair<std::string, std::vector<T>>> kinds_of_rows(Index n) {
  const std::vector<T> ordinary = values<T>(n, 1, 0.5);
  const auto times = [&](double factor) {
    std::vector<T> row(ordinary);
    for (T& v : row) v = T(float(v)) * T(factor);
    return row;
  };
  const auto with = [&](double first) {
    std::vector<T> row(ordinary);
    row[0] = T(first);
    return row;
  };
  const std::size_t size = std::size_t(n);
  const double largest = double(std::numeric_limits<T>::max()), infinity = std::numeric_limits<double>::infinity();
  return {{"ordinary", ordinary},
          {"zeros", std::vector<T>(size, T(0))},
          {"constant", std::vector<T>(size, T(42))},
          {"large", times(std::min(1e30, largest / 8))},
          {"small", times(1e-30)},
          {"denormal", times(double(std::numeric_limits<T>::min()) / 64)},
          {"far", values<T>(n, 2, 1000)},
          {"an outlier", with(std::min(1e6, largest / 8))},
          {"infinity", with(infinity)},
          {"NaN", with(std::numeric_limits<double>::quiet_NaN())}};
}

template <class T>
class FewRows : public testing::Test {};
using Scalars = testing::Types<float, double, half, bfloat16>;
TYPED_TEST_SUITE(FewRows, Scalars);

/// What a call with one row gives, and the second of three rows, of which the others have no gradient.
template <class T, class Layer>
void expect_alone_as_among_others(Layer layer, Index n, const std::string& of) {
  const Map<T> weight(layer.weight().data(), 1, n);
  const std::vector<T> weights = values<T>(n, 3, 1.0);
  std::copy(weights.begin(), weights.end(), weight.data());
  if (layer.affine().has_bias()) {
    const std::vector<T> biases = values<T>(n, 4);
    std::copy(biases.begin(), biases.end(), layer.bias().data());
  }
  for (auto& [kind, row] : kinds_of_rows<T>(n)) {
    SCOPED_TRACE(of + " of " + std::to_string(n) + " " + kind);
    std::vector<T> dy = values<T>(n, 5), x3 = values<T>(3 * n, 6), dy3(std::size_t(3 * n), T(0));
    std::copy(row.begin(), row.end(), x3.begin() + n);
    std::copy(dy.begin(), dy.end(), dy3.begin() + n);
    Guarded<T> y(1, n), dx(1, n), y3(3, n), dx3(3, n);
    typename Layer::Saved saved, saved3;
    auto gradients = layer.zero_gradients(), gradients3 = layer.zero_gradients();
    layer.forward(Map<T>(row.data(), 1, n), y.map(), saved);
    layer.forward(Map<T>(x3.data(), 3, n), y3.map(), saved3);
    layer.backward(Map<T>(dy.data(), 1, n), Map<T>(row.data(), 1, n), saved, dx.map(), gradients);
    layer.backward(Map<T>(dy3.data(), 3, n), Map<T>(x3.data(), 3, n), saved3, dx3.map(), gradients3);
    EXPECT_TRUE(same(y.data(), y3.data() + n, n));
    EXPECT_TRUE(same_number(saved.mean()(0), saved3.mean()(1)));
    EXPECT_TRUE(same_number(saved.mean_lo()(0), saved3.mean_lo()(1)));
    EXPECT_TRUE(same_number(saved.rstd()(0), saved3.rstd()(1)));
    EXPECT_TRUE(same(dx.data(), dx3.data() + n, n));
    EXPECT_TRUE(same(gradients.weight.data(), gradients3.weight.data(), n));
    EXPECT_TRUE(same(gradients.bias.data(), gradients3.bias.data(), gradients.bias.size()));
    EXPECT_TRUE(y.is_intact() && dx.is_intact());
    // Without what is saved, in place; gradients alone, and dx in the place of dy.
    Guarded<T> again(1, n);
    std::copy(row.begin(), row.end(), again.data());
    layer.infer(again.map(), again.map());
    EXPECT_TRUE(same(again.data(), y.data(), n));
    auto gradients_alone = layer.zero_gradients();
    layer.backward(Map<T>(dy.data(), 1, n), Map<T>(row.data(), 1, n), saved, tn::none, gradients_alone);
    EXPECT_TRUE(same(gradients_alone.weight.data(), gradients.weight.data(), n));
    std::copy(dy.begin(), dy.end(), again.data());
    layer.backward(again.map(), Map<T>(row.data(), 1, n), saved, again.map(), gradients_alone);
    EXPECT_TRUE(same(again.data(), dx.data(), n));
    EXPECT_TRUE(again.is_intact());
  }
}

TYPED_TEST(FewRows, OneRowIsTheSameAloneAndAmongOthers) {
  for (const Index n : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 255, 256, 257, 511, 512, 513}) {
    expect_alone_as_among_others<TypeParam>(tn::LayerNorm<TypeParam>(n), n, "LayerNorm");
    expect_alone_as_among_others<TypeParam>(tn::RMSNorm<TypeParam>(n), n, "RMSNorm");
  }
}

// More than 64 examples or 4096 elements go the way of all columns.
TYPED_TEST(FewRows, EvalOfAFewExamplesIsTheSameAsOfMany) {
  using T = TypeParam;
  constexpr Index many = 80;
  for (const Index channels : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 127, 128, 129, 256, 300, 513}) {
    for (const bool affine : {true, false}) {
      for (const bool odd : {false, true}) {
        tn::BatchNorm1d<T> layer(channels, {.eps = odd ? 1e-90 : 1e-5, .affine = affine});
        auto mean = layer.running_mean(), variance = layer.running_var();
        using Statistic = typename std::remove_cvref_t<decltype(mean)>::Scalar;
        const auto means = values<float>(channels, 1), variances = values<float>(channels, 2, 3.0);
        for (Index c = 0; c < channels; ++c) {
          mean(c) = Statistic(means[std::size_t(c)]);
          variance(c) = Statistic(variances[std::size_t(c)] * variances[std::size_t(c)]);
        }
        // A deviation whose inverse only a scale makes a float, of one channel, the last one, beside elements that are its mean.
        if (odd) mean(channels - 1) = variance(channels - 1) = Statistic(0);
        layer.running_stats().load(mean, variance, 1);
        if (affine) {
          const auto weights = values<T>(channels, 3, 1.0), biases = values<T>(channels, 4);
          std::copy(weights.begin(), weights.end(), layer.weight().data());
          std::copy(biases.begin(), biases.end(), layer.bias().data());
        }
        layer.eval();
        std::vector<T> x = values<T>(many * channels, 5);
        for (Index i = 0; odd && i < many; i += 2) x[std::size_t((i + 1) * channels - 1)] = T(0);
        Guarded<T> y(many, channels);
        layer.infer(Map<T>(x.data(), many, channels), y.map());
        if (odd && !std::is_same_v<T, half>) {  // halves are never scaled
          EXPECT_EQ(float(y.map()(0, channels - 1)), affine ? float(layer.bias()(channels - 1)) : 0.0F);
        }
        for (const Index few : {1, 2, 3, 17, 64}) {
          SCOPED_TRACE(std::to_string(few) + "x" + std::to_string(channels) + (affine ? " affine" : "") + (odd ? " odd" : ""));
          Guarded<T> y_few(few, channels);
          layer.infer(Map<T>(x.data(), few, channels), y_few.map());
          EXPECT_TRUE(same(y_few.data(), y.data(), few * channels));
          EXPECT_TRUE(y_few.is_intact());
          std::copy_n(x.begin(), few * channels, y_few.data());
          layer.infer(y_few.map(), y_few.map());
          EXPECT_TRUE(same(y_few.data(), y.data(), few * channels)) << "in place";
        }
      }
    }
  }
}

// Rows of a matrix with gaps between them.
TEST(FewRowsOfAMatrix, LieApart) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  tn::BatchNorm1d<float> layer(21);
  layer.running_stats().load(Eigen::Tensor<float, 1>(21).setConstant(0.5F), Eigen::Tensor<float, 1>(21).setConstant(2.0F), 1);
  layer.eval();
  const Matrix x = Matrix::Random(5, 30);
  Matrix y = Matrix::Constant(5, 40, 77), expected(5, 21);
  layer.infer(x.block(0, 4, 5, 21), y.block(0, 9, 5, 21));
  expected = (x.block(0, 4, 5, 21).array() - 0.5F) / std::sqrt(2.0F + 1e-5F);
  EXPECT_LE((y.block(0, 9, 5, 21) - expected).cwiseAbs().maxCoeff(), 1e-6F);
  y.block(0, 9, 5, 21).setConstant(77);
  EXPECT_TRUE((y.array() == 77).all());
}

}  // namespace
