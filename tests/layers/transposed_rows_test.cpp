// SPDX-License-Identifier: MIT
// Few rows of a ColMajor matrix are normalized as those of a RowMajor one, and have the same bits; others come close to them. So are the rows of
// a tensor with a small batch: each example has the bits of one alone.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using Eigen::Index;
using support::same_number;

template <class T, int kOrder>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, kOrder>;
template <class T>
using Columns = Matrix<T, Eigen::ColMajor>;
template <class T>
using Rows = Matrix<T, Eigen::RowMajor>;

template <class T>
Columns<T> random_matrix(Index rows, Index columns, unsigned seed) {
  const auto values = support::random_values<T>(rows * columns, seed);
  return Eigen::Map<const Columns<T>>(values.data(), rows, columns);
}

template <class A, class B>
void expect_same(const A& a, const B& b, const std::string& what) {
  ASSERT_EQ(a.rows(), b.rows());
  ASSERT_EQ(a.cols(), b.cols());
  for (Index i = 0; i < a.rows(); ++i)
    for (Index k = 0; k < a.cols(); ++k) ASSERT_TRUE(same_number(a(i, k), b(i, k))) << what << " at " << i << ", " << k << ": " << a(i, k) << ", " << b(i, k);
}
template <class A, class B>
void expect_same_values(const A& a, const B& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (Index i = 0; i < a.size(); ++i) ASSERT_TRUE(same_number(a.data()[i], b.data()[i])) << what << " at " << i;
}
/// Up to so many roundings of a sum of the columns.
template <class A, class B>
void expect_close(const A& a, const B& b, const std::string& what) {
  using T = typename A::Scalar;
  const T bound = T(64) * std::numeric_limits<T>::epsilon() * std::max(T(1), Rows<T>(b).cwiseAbs().maxCoeff());
  EXPECT_LE((Rows<T>(a) - Rows<T>(b)).cwiseAbs().maxCoeff(), bound) << what;
}

/// Rows share a weight each, which has an index of its own where they do.
struct WeightOfEachRow {
  static constexpr tn::AxisRole role(int axis, int /*rank*/) { return axis == 0 ? tn::AxisRole::kept_affine : tn::AxisRole::reduced; }
};
struct WeightOfEachElement {
  static constexpr tn::AxisRole role(int axis, int /*rank*/) { return axis == 0 ? tn::AxisRole::kept_affine : tn::AxisRole::reduced_affine; }
};

/// f(layer, name) for layers whose statistics are of a row each.
template <class T, class F>
void for_each_layer(Index rows, Index columns, const F& f) {
  const auto with_parameters = [&](auto layer, const std::string& name) {
    const auto weight = random_matrix<T>(1, Index(layer.weight().size()), 5), bias = random_matrix<T>(1, Index(layer.weight().size()), 6);
    for (Index i = 0; i < weight.size(); ++i) layer.weight().data()[i] = std::abs(weight(0, i)) + T(1);
    if (layer.affine().has_bias())
      for (Index i = 0; i < bias.size(); ++i) layer.bias().data()[i] = bias(0, i);
    f(layer, name + " of " + std::to_string(rows) + "x" + std::to_string(columns));
  };
  with_parameters(tn::LayerNorm<T>(columns), "LayerNorm");
  with_parameters(tn::RMSNorm<T>(columns), "RMSNorm");
  with_parameters(tn::Normalization<T, WeightOfEachRow>({rows}), "a weight of each row");
  with_parameters(tn::Normalization<T, WeightOfEachElement>({rows, columns}), "a weight of each element");
  f(tn::LayerNorm<T>(columns, {.elementwise_affine = false}), "no parameters");
}

/// backward(dy, x, saved) and from the output: all ways to ask for it give the bits of a RowMajor matrix.
template <class T, class Layer>
void expect_gradients_of_rows(const Layer& layer, const Columns<T>& x, const Columns<T>& y, const tn::SavedStats<T>& saved, const std::string& what) {
  const Columns<T> dy = random_matrix<T>(x.rows(), x.cols(), 2);
  const Rows<T> row_x = x, row_y = y, row_dy = dy;
  Columns<T> dx = x, over_dy = dy, over_x = x, over_y = y;
  Rows<T> row_dx = x;
  auto gradients = layer.zero_gradients(), row_gradients = layer.zero_gradients(), alone = layer.zero_gradients();
  layer.backward(row_dy, row_x, saved, row_dx, row_gradients);
  layer.backward(dy, x, saved, dx, gradients);
  layer.backward(dy, x, saved, tn::none, alone);
  expect_same(dx, row_dx, what + ": dx");
  for (const auto* given : {&gradients, &alone}) {
    expect_same_values(given->weight, row_gradients.weight, what + ": dweight");
    expect_same_values(given->bias, row_gradients.bias, what + ": dbias");
  }
  layer.backward(over_dy, x, saved, over_dy, tn::none);
  expect_same(over_dy, row_dx, what + ": dx over dy");
  layer.backward(dy, over_x, saved, over_x, tn::none);
  expect_same(over_x, row_dx, what + ": dx over x");
  layer.backward_from_output(row_dy, row_y, saved, row_dx, tn::none);
  layer.backward_from_output(dy, y, saved, dx, tn::none);
  expect_same(dx, row_dx, what + " from the output");
  layer.backward_from_output(dy, over_y, saved, over_y, tn::none);
  expect_same(over_y, row_dx, what + " from the output, in place");
}

template <class T>
class TransposedRows : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(TransposedRows, Numbers);

TYPED_TEST(TransposedRows, AreFewAndSmall) {
  using Transposed = tn::TransposedRows<TypeParam, tn::LayerAxes<1>, 2>;
  const auto pays = [](Index most, Index rows, Index columns) { return Transposed({}, {{rows, columns}}).pays(most, tn::Extents<2>{{1, rows}}); };
  const Index longest = (Index{256} << 10) / 8 / Index(sizeof(TypeParam));
  EXPECT_TRUE(pays(Transposed::kMostForward, 2, 2));
  EXPECT_TRUE(pays(Transposed::kMostForward, 8, longest));
  EXPECT_FALSE(pays(Transposed::kMostForward, 8, longest + 1));
  EXPECT_TRUE(pays(Transposed::kMostForward, 7, 73));
  EXPECT_FALSE(pays(Transposed::kMostForward, 7, 74));
  for (const Index rows : {1, 9, 16}) EXPECT_FALSE(pays(Transposed::kMostForward, rows, 50));
  EXPECT_FALSE(pays(Transposed::kMostForward, 8, 1));
  EXPECT_EQ(pays(Transposed::kMostBackward, 16, 50), sizeof(TypeParam) == 4);
  EXPECT_FALSE(Transposed({}, {{4, 50}}).pays(Transposed::kMostForward, tn::Extents<2>{{1, 4}}, tn::Extents<2>{{1, 5}}));
}

TYPED_TEST(TransposedRows, OfTensorsAreAllLeadingAxes) {
  using OfTwoAxes = tn::TransposedRows<TypeParam, tn::LayerAxes<2>, 4>;
  const OfTwoAxes eight({}, {{2, 4, 5, 10}}), four({}, {{1, 4, 5, 10}}), twelve({}, {{3, 4, 5, 10}});
  const tn::Extents<4> dense{{1, 2, 8, 40}}, with_gaps{{1, 2, 8, 48}};
  EXPECT_TRUE(eight.pays(OfTwoAxes::kMostForward, dense, dense));
  EXPECT_FALSE(eight.pays(OfTwoAxes::kMostForward, dense, with_gaps));
  EXPECT_FALSE(twelve.pays(OfTwoAxes::kMostForward, tn::Extents<4>{{1, 3, 12, 60}}));
  EXPECT_TRUE(four.pays(OfTwoAxes::kMostForward, tn::Extents<4>{{7, 1, 4, 20}})) << "no step along one index";
  using OfGroups = tn::TransposedRows<TypeParam, tn::GroupAxes<-1>, 4>;
  const auto groups_pay = [](Index batch, Index groups) {
    return OfGroups({groups}, {{batch, 3, 5, 6}}).pays(OfGroups::kMostBackward, tn::Extents<4>{{1, batch, 3 * batch, 15 * batch}});
  };
  EXPECT_TRUE(groups_pay(2, 1));
  EXPECT_TRUE(groups_pay(4, 3));
  EXPECT_FALSE(groups_pay(4, 1));
  EXPECT_FALSE(groups_pay(8, 3));
}

/// Roles as the built-in policies have them.
struct UnionOfLayerAxes {
  union Axes {
    int unused;
    static constexpr tn::AxisRole role(int axis, int rank) { return tn::LayerAxes<1>::role(axis, rank); }
  };
};
struct FinalLayerAxes final {
  static constexpr tn::AxisRole role(int axis, int rank) { return tn::LayerAxes<1>::role(axis, rank); }
};

// What can be no base of another class.
TEST(TransposedRowsOfFloat, AreThoseOfAnyPolicy) {
  const Columns<float> x = random_matrix<float>(4, 50, 1);
  const Columns<float> expected = tn::LayerNorm<float>(50)(x);
  expect_same(Columns<float>(tn::Normalization<float, FinalLayerAxes>({50})(x)), expected, "final");
  expect_same(Columns<float>(tn::Normalization<float, UnionOfLayerAxes::Axes>({50})(x)), expected, "a union");
}

TYPED_TEST(TransposedRows, HaveTheBitsOfARowMajorMatrix) {
  using T = TypeParam;
  support::at_each_level([](tn::kernels::Level) {
    for (const Index rows : {2, 3, 4, 5, 6, 7, 8})
      for (const Index columns : {2, 5, 16, 17, 33, 73, 100, 768}) {
        if (columns > 73 && (rows & (rows - 1)) != 0) continue;
        const Columns<T> x = random_matrix<T>(rows, columns, 1);
        const Rows<T> row_x = x;
        for_each_layer<T>(rows, columns, [&](const auto& layer, const std::string& what) {
          tn::SavedStats<T> saved, row_saved;
          Columns<T> y(rows, columns), in_place = x;
          Rows<T> row_y(rows, columns);
          layer.forward(x, y, saved);
          layer.forward(row_x, row_y, row_saved);
          layer.forward(in_place, in_place);
          expect_same(y, row_y, what);
          expect_same(in_place, row_y, what + " in place");
          expect_same_values(saved.mean(), row_saved.mean(), what + ": mean");
          expect_same_values(saved.mean_lo(), row_saved.mean_lo(), what + ": mean_lo");
          expect_same_values(saved.rstd(), row_saved.rstd(), what + ": rstd");
          EXPECT_EQ(saved.samples(), columns);
          EXPECT_FALSE(saved.row_major());
          expect_gradients_of_rows<T>(layer, x, y, saved, what);
        });
      }
  });
}

TEST(TransposedRowsOfFloat, SixteenHaveTheGradientsOfARowMajorMatrix) {
  support::at_each_level([](tn::kernels::Level) {
    for (const Index columns : {2, 17, 100, 768}) {
      const Columns<float> x = random_matrix<float>(16, columns, 1);
      for_each_layer<float>(16, columns, [&](const auto& layer, const std::string& what) {
        tn::SavedStats<float> saved;
        Columns<float> y(16, columns);
        layer.forward(x, y, saved);
        expect_close(y, Rows<float>(layer(Rows<float>(x))), what);
        expect_gradients_of_rows<float>(layer, x, y, saved, what);
      });
    }
  });
}

TYPED_TEST(TransposedRows, OfTensorsAndFunctionsAtAnyAddress) {
  using T = TypeParam;
  using Tensor = Eigen::Tensor<T, 2>;
  for (const Index rows : {2, 3, 4, 8}) {
    const Index columns = 50;
    const Columns<T> x = random_matrix<T>(rows, columns, 1), dy = random_matrix<T>(rows, columns, 2);
    const Eigen::Matrix<T, Eigen::Dynamic, 1> weight = random_matrix<T>(columns, 1, 3), bias = random_matrix<T>(columns, 1, 4);
    Eigen::Matrix<T, Eigen::Dynamic, 1> dweight = weight * T(0), row_dweight = dweight;
    const Rows<T> row_x = x, row_dy = dy;
    Rows<T> row_y(rows, columns), row_dx(rows, columns);
    tn::SavedStats<T> row_saved, saved;
    tn::layer_norm(row_x, row_y, row_saved, weight, bias);
    tn::layer_norm_backward(row_dy, row_x, row_saved, weight, row_dx, row_dweight, tn::none);
    const std::size_t bytes = std::size_t(rows * columns) * sizeof(T);
    for (const std::size_t offset : {0U, 1U, 4U, 12U}) {
      std::vector<unsigned char> memory(3 * (bytes + 64));
      unsigned char* const at = memory.data() + offset;
      Eigen::TensorMap<Tensor> in(reinterpret_cast<T*>(at), rows, columns), out(reinterpret_cast<T*>(at + bytes + 64), rows, columns);
      Eigen::TensorMap<Tensor> gradient(reinterpret_cast<T*>(at + 2 * (bytes + 64) - offset % 2), rows, columns);
      std::memcpy(at, x.data(), bytes);
      tn::layer_norm(in, out, saved, weight, bias);
      Columns<T> y(rows, columns), dx(rows, columns);
      std::memcpy(y.data(), at + bytes + 64, bytes);
      expect_same(y, row_y, "y");
      std::memcpy(at + bytes + 64, dy.data(), bytes);
      dweight.setZero();
      tn::layer_norm_backward(out, in, saved, weight, gradient, dweight, tn::none);
      std::memcpy(dx.data(), at + 2 * (bytes + 64) - offset % 2, bytes);
      expect_same(dx, row_dx, "dx");
      expect_same_values(dweight, row_dweight, "dweight");
    }
  }
}

template <class T>
using Tensor4 = Eigen::Tensor<T, 4>;

/// Example i of a batch.
template <class T>
Tensor4<T> example(const Tensor4<T>& batch, Index i) {
  auto extents = batch.dimensions();
  extents[0] = 1;
  return batch.slice(Eigen::array<Index, 4>{i, 0, 0, 0}, extents);
}

template <class T>
Tensor4<T> random_tensor(const Eigen::array<Index, 4>& shape, unsigned seed) {
  Tensor4<T> tensor(shape);
  const auto values = support::random_values<T>(tensor.size(), seed);
  std::copy(values.begin(), values.end(), tensor.data());
  return tensor;
}

/// Each example has the bits of a batch of its own, in place as well; a RowMajor tensor comes close to all of them, with its parameters'
/// gradients. x is times `scale`.
template <class T, class Layer>
void expect_examples_as_alone(Layer layer, const Eigen::array<Index, 4>& shape, const std::string& what, T scale = T(1)) {
  using RowMajor = Eigen::Tensor<T, 4, Eigen::RowMajor>;
  const Index size = shape[0] * shape[1] * shape[2] * shape[3], count = shape[0];
  auto gradients = layer.zero_gradients();
  const bool has_bias = gradients.bias.size() > 0;
  for (Index i = 0; i < Index(layer.weight().size()); ++i) {
    layer.weight().data()[i] = T(1) + T(i % 7) / T(4);
    if (has_bias) layer.bias().data()[i] = T(i % 5) - T(2);
  }
  const Tensor4<T> x = random_tensor<T>(shape, 1) * scale, dy = random_tensor<T>(shape, 2);
  Tensor4<T> y(shape), dx(shape), y_over_x = x, dx_over_x = x, dx_over_dy = dy, from_output = x;
  tn::SavedStats<T> saved;
  layer.forward(x, y, saved);
  layer.forward(y_over_x, y_over_x, saved);
  layer.backward(dy, x, saved, dx, gradients);
  layer.backward(dy, dx_over_x, saved, dx_over_x, tn::none);
  layer.backward(dx_over_dy, x, saved, dx_over_dy, tn::none);
  layer.backward_from_output(dy, y, saved, from_output, tn::none);
  expect_same_values(y_over_x, y, what + ": y over x");
  expect_same_values(dx_over_x, dx, what + ": dx over x");
  expect_same_values(dx_over_dy, dx, what + ": dx over dy");
  const Index of_each = saved.size() / count;
  for (Index i = 0; i < count; ++i) {
    const Tensor4<T> of_x = example(x, i), of_dy = example(dy, i), of_y = example(y, i), of_dx = example(dx, i);
    Tensor4<T> y_alone = of_x, dx_alone = of_x;
    tn::SavedStats<T> saved_alone;
    layer.forward(of_x, y_alone, saved_alone);
    layer.backward(of_dy, of_x, saved_alone, dx_alone, tn::none);
    expect_same_values(y_alone, of_y, what + ": y");
    expect_same_values(dx_alone, of_dx, what + ": dx");
    ASSERT_EQ(saved_alone.size(), of_each);
    for (Index k = 0; k < of_each; ++k) {  // the examples are the fastest of the kept axes
      EXPECT_TRUE(same_number(saved_alone.mean().data()[k], saved.mean().data()[i + k * count])) << what << ": mean " << k << " of " << i;
      EXPECT_TRUE(same_number(saved_alone.mean_lo().data()[k], saved.mean_lo().data()[i + k * count])) << what << ": mean_lo " << k << " of " << i;
      EXPECT_TRUE(same_number(saved_alone.rstd().data()[k], saved.rstd().data()[i + k * count])) << what << ": rstd " << k << " of " << i;
    }
  }
  RowMajor row_x(shape), row_dy(shape), row_y(shape), row_dx(shape);
  support::assign(row_x, support::logical(x));
  support::assign(row_dy, support::logical(dy));
  tn::SavedStats<T> row_saved;
  auto row_gradients = layer.zero_gradients();
  layer.forward(row_x, row_y, row_saved);
  layer.backward(row_dy, row_x, row_saved, row_dx, row_gradients);
  const T rounding = T(size) * std::numeric_limits<T>::epsilon();
  const auto expect_near = [&](const std::vector<T>& a, const std::vector<T>& b, T bound, const std::string& name) {
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], bound) << what << name << " at " << i;
  };
  expect_near(support::logical(y), support::logical(row_y), T(16) * rounding, ": y");
  expect_near(support::logical(dx), support::logical(row_dx), T(16) * rounding / scale, ": dx");
  expect_near(support::logical(from_output), support::logical(dx), T(64) * rounding / scale, ": dx from the output");
  expect_near(support::logical(gradients.weight), support::logical(row_gradients.weight), T(64) * rounding, ": dweight");
  if (has_bias) expect_near(support::logical(gradients.bias), support::logical(row_gradients.bias), T(64) * rounding, ": dbias");
}

TYPED_TEST(TransposedRows, OfTensorsAreTheSameAloneAndAmongFew) {
  using T = TypeParam;
  using InstanceNormLast = tn::InstanceNorm2d<T, tn::InstanceAxes<-1>>;
  using GroupNormLast = tn::GroupNorm<T, tn::GroupAxes<-1>>;
  support::at_each_level([](tn::kernels::Level) {
    for (const Index count : {2, 3, 4}) {
      const std::string batch = " of a batch of " + std::to_string(count);
      const Index height = 3, width = count == 3 ? 2 : 17;
      expect_examples_as_alone<T>(tn::LayerNorm<T>(5 * width), {count, 1, 1, 5 * width}, "LayerNorm" + batch);
      expect_examples_as_alone<T>(tn::LayerNorm<T, 2>({height, width}), {count, 1, height, width}, "LayerNorm of planes" + batch);
      expect_examples_as_alone<T>(tn::LayerNorm<T, 3>({2, height, width}), {count, 2, height, width}, "LayerNorm of images" + batch);
      expect_examples_as_alone<T>(tn::RMSNorm<T, 2>({height, width}, {.eps = 0}), {count, 1, height, width}, "RMSNorm of planes" + batch);
      expect_examples_as_alone<T>(tn::InstanceNorm2d<T>(1, {.affine = true}), {count, 1, height, width}, "InstanceNorm" + batch);
      expect_examples_as_alone<T>(InstanceNormLast(5, {.affine = true}), {count, height, width, 5}, "InstanceNorm, channels last," + batch);
      for (const Index groups : {3, 2, 6, 3})  // the same shape
        expect_examples_as_alone<T>(GroupNormLast(groups, 6), {count, height, width, 6}, "GroupNorm of " + std::to_string(groups) + batch);
      if (count == 2) expect_examples_as_alone<T>(GroupNormLast(1, 6), {count, height, width, 6}, "GroupNorm of one group" + batch);
      expect_examples_as_alone<T>(GroupNormLast(2, 2 * width), {count, 1, 1, 2 * width}, "GroupNorm of a pixel" + batch);
      expect_examples_as_alone<T>(GroupNormLast(width, width), {count, 1, 1, width}, "GroupNorm of numbers" + batch);
      // Squares out of range: statistics that the kernels for short rows leave to another.
      const T small = std::sqrt(std::numeric_limits<T>::min()) / T(1000);
      expect_examples_as_alone<T>(GroupNormLast(3, 6, {.eps = 0}), {count, height, width, 6}, "GroupNorm of small numbers" + batch, small);
    }
    // Several leading axes: rows of all of them.
    expect_examples_as_alone<T>(tn::LayerNorm<T>(33), {2, 2, 2, 33}, "LayerNorm of four rows each");
    expect_examples_as_alone<T>(tn::LayerNorm<T, 2>({3, 17}), {8, 1, 3, 17}, "LayerNorm of a batch of 8");
    expect_examples_as_alone<T>(tn::InstanceNorm2d<T>(2, {.affine = true}), {4, 2, 5, 7}, "InstanceNorm of two channels");
  });
}

// The mean over images and channels by channel: those of an image come one after the other, those of a channel do not.
TYPED_TEST(TransposedRows, MoveTheRunningStatisticsOfTheirChannels) {
  using T = TypeParam;
  const Eigen::array<Index, 4> shape{4, 3, 7, 5};
  tn::InstanceNorm2d<T, tn::InstanceAxes<-1>> layer(5, {.track_running_stats = true}), row_layer = layer;
  Tensor4<T> x = random_tensor<T>(shape, 1), y(shape);
  Eigen::Tensor<T, 4, Eigen::RowMajor> row_x(shape), row_y(shape);
  support::assign(row_x, support::logical(x));
  layer.forward(x, y);
  row_layer.forward(row_x, row_y);
  for (Index c = 0; c < 5; ++c) {
    EXPECT_NEAR(layer.running_mean()(c), row_layer.running_mean()(c), T(8) * std::numeric_limits<T>::epsilon());
    EXPECT_NEAR(layer.running_var()(c), row_layer.running_var()(c), T(8) * std::numeric_limits<T>::epsilon());
  }
}

// Those with gaps, each operand in its turn, and more rows are not transposed.
TYPED_TEST(TransposedRows, ComeCloseToWhatOtherMatricesGive) {
  using T = TypeParam;
  for (const Index rows : {2, 4, 8, 9, 16, 17}) {
    const Index columns = 50;
    const Columns<T> x = random_matrix<T>(rows, columns, 1), dy = random_matrix<T>(rows, columns, 2);
    for_each_layer<T>(rows, columns, [&](const auto& layer, const std::string& what) {
      tn::SavedStats<T> row_saved;
      Rows<T> row_y(rows, columns), row_dx(rows, columns);
      layer.forward(Rows<T>(x), row_y, row_saved);
      auto row_gradients = layer.zero_gradients();
      layer.backward(Rows<T>(dy), Rows<T>(x), row_saved, row_dx, row_gradients);
      for (int with_gaps = 0; with_gaps < 3; ++with_gaps) {
        const auto place = [&](int operand, const Columns<T>& values) {
          Columns<T> room = Columns<T>::Constant(rows + (operand == with_gaps ? 3 : 0), columns, T(7));
          room.topRows(rows) = values;
          return room;
        };
        Columns<T> of_x = place(0, x), of_y = place(1, x), of_dy = place(1, dy), of_dx = place(2, x);
        tn::SavedStats<T> saved;
        auto gradients = layer.zero_gradients();
        layer.forward(of_x.topRows(rows), of_y.topRows(rows), saved);
        layer.backward(of_dy.topRows(rows), of_x.topRows(rows), saved, of_dx.topRows(rows), gradients);
        expect_close(of_y.topRows(rows).eval(), row_y, what + ": y");
        expect_close(of_dx.topRows(rows).eval(), row_dx, what + ": dx");
        for (Index i = 0; i < Index(gradients.weight.size()); ++i) EXPECT_NEAR(gradients.weight.data()[i], row_gradients.weight.data()[i], 1e-4) << what;
        for (Index i = 0; i < Index(gradients.bias.size()); ++i) EXPECT_NEAR(gradients.bias.data()[i], row_gradients.bias.data()[i], 1e-4) << what;
        for (const Columns<T>* room : {&of_y, &of_dx})
          EXPECT_EQ(room->bottomRows(room->rows() - rows), Columns<T>::Constant(room->rows() - rows, columns, T(7))) << what;
      }
    });
  }
}

}  // namespace
