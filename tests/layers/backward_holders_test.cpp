// SPDX-License-Identifier: MIT
// Gradients of whatever holds the data: matrices, maps, tensors of fixed size give the bits of tensors. Matrices with
// gaps are walked row by row (column by column) where dense data may be taken together, so that their sums are added up in
// another order. What tensors compute is judged elsewhere.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::logical;
using support::same_bits;

template <class Kind>
class BackwardHolders : public testing::Test {
 protected:
  using Value = typename Kind::Scalar;
  using Rows = typename Kind::template Tensor<2>;
  using Dense = Eigen::Matrix<Value, Eigen::Dynamic, Eigen::Dynamic, Kind::order>;
  using Gapped = Eigen::Map<Dense, Eigen::Unaligned, Eigen::OuterStride<>>;

  static std::vector<Value> flat(const auto& tensor) { return std::vector<Value>(tensor.data(), tensor.data() + tensor.size()); }

  /// f(layer) for every layer of matrices that takes rows of `columns`, with random weights.
  template <class F>
  static void for_each_layer(Index columns, F f) {
    const auto with = [&](auto layer) {
      const auto weight = support::random_values<Value>(columns, 5);
      if (layer.zero_gradients().weight.size() > 0) std::copy(weight.begin(), weight.end(), layer.weight().data());
      f(layer);
    };
    with(tn::LayerNorm<Value>(columns));
    with(tn::LayerNorm<Value>(columns, {.elementwise_affine = false}));
    with(tn::RMSNorm<Value>(columns));
    with(tn::BatchNorm1d<Value>(columns));
    tn::BatchNorm1d<Value> evaluated(columns);
    evaluated.eval();
    with(evaluated);
    if (columns % 2 == 0) with(tn::GroupNorm<Value>(2, columns));
  }

  /// What a layer gives for tensors of these values, and what it must then give for everything else.
  struct Expected {
    Index rows, columns;
    std::vector<Value> x, dy, y, dx, dweight, dbias;
    template <class Layer>
    Expected(Layer layer, Index n, Index m)
        : rows(n), columns(m), x(support::random_values<Value>(n * m, 1)), dy(support::random_values<Value>(n * m, 2)) {
      const auto input = support::tensor_of<Rows>({n, m}, x), grad = support::tensor_of<Rows>({n, m}, dy);
      Rows output(n, m);
      tn::SavedStats<Value> saved;
      layer.forward(input, output, saved);
      const auto gradients = layer.backward(grad, input, saved);
      y = logical(output);
      dx = logical(gradients.dx);
      dweight = flat(gradients.dweight);
      dbias = flat(gradients.dbias);
    }
  };
  template <class DX, class Gradients>
  static void expect(const Expected& expected, const DX& dx, const Gradients& gradients) {
    EXPECT_TRUE(same_bits(logical(dx), expected.dx));
    EXPECT_TRUE(same_bits(flat(gradients.weight), expected.dweight)) << "dweight";
    EXPECT_TRUE(same_bits(flat(gradients.bias), expected.dbias)) << "dbias";
  }
  /// Two results that are each within the bound of backward_test, 2 ulp in float and 4 in double, of the largest dx and the
  /// largest sum of |dy|. Measured: 1 and 6 of the 4 and 8.
  template <class DX, class Gradients>
  static void expect_near(const Expected& expected, const DX& dx, const Gradients& gradients) {
    const double k = std::is_same_v<Value, float> ? 2 : 4;
    EXPECT_TRUE(support::all_near(logical(dx), expected.dx, support::ulps<Value>(2 * k, support::largest(expected.dx))));
    long double scale = 0;
    for (Index column = 0; column < expected.columns; ++column) {
      long double sum = 0;
      for (Index row = 0; row < expected.rows; ++row)
        sum += std::abs(expected.dy[static_cast<std::size_t>(row * expected.columns + column)]);
      scale = std::max(scale, sum);
    }
    EXPECT_TRUE(support::all_near(flat(gradients.weight), expected.dweight, support::ulps<Value>(2 * k, scale)));
    EXPECT_TRUE(support::all_near(flat(gradients.bias), expected.dbias, support::ulps<Value>(2 * k, scale)));
  }
};
TYPED_TEST_SUITE(BackwardHolders, support::Kinds, support::KindNames);

TYPED_TEST(BackwardHolders, Matrices) {
  using Matrix = typename TestFixture::Dense;
  using S = typename TypeParam::Scalar;
  for (const auto& [n, m] : {std::pair<Index, Index>{1, 5}, {9, 13}, {40, 64}, {65, 34}, {300, 3}, {2, 1100}}) {
    this->for_each_layer(m, [&, rows = n, columns = m](auto& layer) {
      if (rows == 1 && layer.is_training() && std::is_same_v<std::remove_cvref_t<decltype(layer)>, tn::BatchNorm1d<S>>)
        return;
      SCOPED_TRACE(testing::PrintToString(std::pair(rows, columns)));
      const typename TestFixture::Expected expected(layer, rows, columns);
      const auto x = support::tensor_of<Matrix>({rows, columns}, expected.x);
      const auto dy = support::tensor_of<Matrix>({rows, columns}, expected.dy);
      Matrix y(rows, columns);
      tn::SavedStats<S> saved;
      layer.forward(x, y, saved);
      const auto [dx, dweight, dbias] = layer.backward(dy, x, saved);
      static_assert(std::is_same_v<std::remove_cvref_t<decltype(dx)>, Matrix>);
      this->expect(expected, dx, tn::ParameterGradients<S>{dweight, dbias});
      // An array, through a Ref of it.
      Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, TypeParam::order> array(rows, columns);
      auto gradients = layer.zero_gradients();
      layer.backward(Eigen::Ref<const Matrix>(dy), Eigen::Ref<const Matrix>(x), saved, array, gradients);
      this->expect(expected, array, gradients);
      // In place of x, by another way to write: a block of the whole.
      Matrix in_place = x;
      gradients = layer.zero_gradients();
      layer.backward(dy, in_place, saved, in_place.topRows(rows), gradients);
      this->expect(expected, in_place, gradients);
    });
  }
}

// dy, x and dx each with its own gap from row to row (column to column), which nobody writes.
TYPED_TEST(BackwardHolders, MatricesWithOuterStrides) {
  using S = typename TypeParam::Scalar;
  using Strided = typename TestFixture::Gapped;
  for (const auto& [n, m] : {std::pair<Index, Index>{9, 13}, {40, 64}, {65, 34}, {300, 3}, {2, 1100}}) {
    this->for_each_layer(m, [&, rows = n, columns = m](auto& layer) {
      SCOPED_TRACE(testing::PrintToString(std::pair(rows, columns)));
      const typename TestFixture::Expected expected(layer, rows, columns);
      const Index inner = TypeParam::order == Eigen::RowMajor ? columns : rows;
      const Index outer = TypeParam::order == Eigen::RowMajor ? rows : columns;
      const auto memory = [&](Index gap) { return std::vector<S>(static_cast<std::size_t>(3 + outer * (inner + gap)), S(-7)); };
      const auto map = [&](std::vector<S>& of, Index gap) {
        return Strided(of.data() + 3, rows, columns, Eigen::OuterStride<>(inner + gap));
      };
      auto x_memory = memory(1), dy_memory = memory(6), dx_memory = memory(3), y_memory = memory(2);
      auto x = map(x_memory, 1), dy = map(dy_memory, 6), dx = map(dx_memory, 3), y = map(y_memory, 2);
      support::assign(x, expected.x);
      support::assign(dy, expected.dy);
      tn::SavedStats<S> saved;
      layer.forward(x, y, saved);
      auto gradients = layer.zero_gradients();
      layer.backward(dy, x, saved, dx, gradients);
      this->expect_near(expected, dx, gradients);
      for (std::size_t i = 0; i < dx_memory.size(); ++i)
        if (i < 3 || static_cast<Index>(i - 3) % (inner + 3) >= inner) {
          ASSERT_EQ(dx_memory[i], S(-7)) << "a gap was written";
        }
      // In place of dy, which has another gap: the same bits.
      auto dy_copy = dy_memory;
      auto in_place = map(dy_copy, 6);
      auto again = layer.zero_gradients();
      layer.backward(in_place, x, saved, in_place, again);
      EXPECT_TRUE(same_bits(logical(in_place), logical(dx)));
      EXPECT_TRUE(same_bits(this->flat(again.weight), this->flat(gradients.weight)));
      EXPECT_TRUE(same_bits(this->flat(again.bias), this->flat(gradients.bias)));
      // From the output, into dx and without it.
      if (layer.zero_gradients().bias.size() == 0) return;
      const auto from_output = [&](auto&& into) {
        auto sums = layer.zero_gradients();
        layer.backward_from_output(dy, y, saved, into, sums);
        return this->flat(sums.weight);
      };
      dx.setConstant(S(-7));
      const auto dweight = from_output(dx);
      // y carries an ulp of rounding, which division by a small weight makes large; the judge of that is backward_test.
      EXPECT_TRUE(same_bits(from_output(tn::none), dweight)) << "norm in memory of its own";
      for (std::size_t i = 0; i < dx_memory.size(); ++i)
        if (i < 3 || static_cast<Index>(i - 3) % (inner + 3) >= inner) {
          ASSERT_EQ(dx_memory[i], S(-7)) << "a gap was written";
        }
    });
  }
}

TYPED_TEST(BackwardHolders, MapsAndTemporaryMaps) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TestFixture::Rows;
  this->for_each_layer(34, [&](auto& layer) {
    const typename TestFixture::Expected expected(layer, 9, 34);
    const auto x = support::tensor_of<Tensor>({9, 34}, expected.x), dy = support::tensor_of<Tensor>({9, 34}, expected.dy);
    Tensor y(9, 34), dx(9, 34);
    using Map = Eigen::TensorMap<Tensor>;
    using ConstMap = Eigen::TensorMap<const Tensor>;
    tn::SavedStats<S> saved;
    layer.forward(ConstMap(x.data(), 9, 34), Map(y.data(), 9, 34), saved);
    auto gradients = layer.zero_gradients();
    layer.backward(ConstMap(dy.data(), 9, 34), ConstMap(x.data(), 9, 34), saved, Map(dx.data(), 9, 34), gradients);
    this->expect(expected, dx, gradients);
    const auto allocated = layer.backward(ConstMap(dy.data(), 9, 34), x, saved);
    static_assert(std::is_same_v<std::remove_cvref_t<decltype(allocated.dx)>, Tensor>);
    EXPECT_TRUE(same_bits(logical(allocated.dx), expected.dx));
  });
}

TYPED_TEST(BackwardHolders, TensorsOfFixedSize) {
  using S = typename TypeParam::Scalar;
  using Fixed = Eigen::TensorFixedSize<S, Eigen::Sizes<9, 34>, TypeParam::order>;
  this->for_each_layer(34, [&](auto& layer) {
    const typename TestFixture::Expected expected(layer, 9, 34);
    Fixed x, dy, y, dx;
    for (Index i = 0; i < 9; ++i)
      for (Index j = 0; j < 34; ++j) {
        x(i, j) = expected.x[static_cast<std::size_t>(34 * i + j)];
        dy(i, j) = expected.dy[static_cast<std::size_t>(34 * i + j)];
      }
    tn::SavedStats<S> saved;
    layer.forward(x, y, saved);
    auto gradients = layer.zero_gradients();
    layer.backward(dy, x, saved, dx, gradients);
    std::vector<S> got;
    for (Index i = 0; i < 9; ++i)
      for (Index j = 0; j < 34; ++j) got.push_back(dx(i, j));
    EXPECT_TRUE(same_bits(got, expected.dx));
    EXPECT_TRUE(same_bits(this->flat(gradients.weight), expected.dweight));
    EXPECT_EQ(layer.backward(dy, x, saved).dx(8, 33), dx(8, 33));
  });
}

}  // namespace
