// SPDX-License-Identifier: MIT
// Few rows of a ColMajor matrix are normalized as those of a RowMajor one: with the same bits, which no other walk would give.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using Eigen::Index;
using support::same_number;

template <class T, int kOrder>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, kOrder>;

template <class T>
Matrix<T, Eigen::ColMajor> random_matrix(Index rows, Index columns, unsigned seed) {
  const auto values = support::random_values<T>(rows * columns, seed);
  return Eigen::Map<const Matrix<T, Eigen::ColMajor>>(values.data(), rows, columns);
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

/// f(layer) for layers of one axis of so many elements.
template <class T, class F>
void for_each_layer(Index columns, const F& f) {
  tn::LayerNorm<T> layer(columns);
  tn::RMSNorm<T> rms(columns);
  const auto weight = random_matrix<T>(1, columns, 5), bias = random_matrix<T>(1, columns, 6);
  for (Index i = 0; i < columns; ++i) {
    layer.weight()(i) = rms.weight()(i) = std::abs(weight(0, i)) + T(1);
    layer.bias()(i) = bias(0, i);
  }
  f(layer, "LayerNorm");
  f(rms, "RMSNorm");
  f(tn::LayerNorm<T>(columns, {.elementwise_affine = false}), "LayerNorm without parameters");
}

template <class T>
class TransposedRows : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(TransposedRows, Numbers);

TYPED_TEST(TransposedRows, HaveTheBitsOfARowMajorMatrix) {
  using T = TypeParam;
  using Columns = Matrix<T, Eigen::ColMajor>;
  using Rows = Matrix<T, Eigen::RowMajor>;
  for (const Index rows : {2, 3, 4, 7, 8})
    for (const Index columns : {2, 5, 16, 17, 33, 100, 768}) {
      if (!tn::TransposedRows<T>::pay({{rows, columns}}, tn::kMostRowsForward)) continue;
      const Columns x = random_matrix<T>(rows, columns, 1), dy = random_matrix<T>(rows, columns, 2);
      const Rows row_x = x, row_dy = dy;
      for_each_layer<T>(columns, [&](const auto& layer, const std::string& name) {
        const std::string what = name + " of " + std::to_string(rows) + "x" + std::to_string(columns);
        tn::SavedStats<T> saved, row_saved;
        Columns y(rows, columns), dx(rows, columns);
        Rows row_y(rows, columns), row_dx(rows, columns);
        layer.forward(x, y, saved);
        layer.forward(row_x, row_y, row_saved);
        expect_same(y, row_y, what);
        expect_same_values(saved.mean(), row_saved.mean(), what + ": mean");
        expect_same_values(saved.mean_lo(), row_saved.mean_lo(), what + ": mean_lo");
        expect_same_values(saved.rstd(), row_saved.rstd(), what + ": rstd");
        Columns in_place = x;
        layer.forward(in_place, in_place);
        expect_same(in_place, row_y, what + " in place");

        auto gradients = layer.zero_gradients(), row_gradients = layer.zero_gradients(), alone = layer.zero_gradients();
        layer.backward(row_dy, row_x, row_saved, row_dx, row_gradients);
        const auto expect_gradients = [&](const auto& actual, const std::string& how) {
          expect_same_values(actual.weight, row_gradients.weight, what + how + ": dweight");
          expect_same_values(actual.bias, row_gradients.bias, what + how + ": dbias");
        };
        layer.backward(dy, x, saved, dx, gradients);
        expect_same(dx, row_dx, what + ": dx");
        expect_gradients(gradients, "");
        layer.backward(dy, x, saved, tn::none, alone);
        expect_gradients(alone, " without dx");
        Columns over_dy = dy, over_x = x;
        layer.backward(over_dy, x, saved, over_dy, tn::none);
        expect_same(over_dy, row_dx, what + ": dx over dy");
        layer.backward(dy, over_x, saved, over_x, tn::none);
        expect_same(over_x, row_dx, what + ": dx over x");

        Rows row_from_output(rows, columns);
        Columns from_output(rows, columns), over_y = y;
        layer.backward_from_output(row_dy, row_y, row_saved, row_from_output, tn::none);
        layer.backward_from_output(dy, y, saved, from_output, tn::none);
        expect_same(from_output, row_from_output, what + " from the output");
        layer.backward_from_output(dy, over_y, saved, over_y, tn::none);
        expect_same(over_y, row_from_output, what + " from the output, in place");
      });
    }
}

// Where an operand has gaps, or the rows are too many, none is transposed: other bits, the same numbers.
TYPED_TEST(TransposedRows, ComeCloseToWhatOtherMatricesGive) {
  using T = TypeParam;
  using Columns = Matrix<T, Eigen::ColMajor>;
  for (const Index rows : {2, 3, 4, 7, 8, 16, 17, 32}) {
    const Index columns = 50;
    const Columns x = random_matrix<T>(rows, columns, 1), dy = random_matrix<T>(rows, columns, 2);
    Columns room = Columns::Constant(rows + 3, columns, T(7)), y(rows, columns), dx(rows, columns), room_dx = room;
    for_each_layer<T>(columns, [&](const auto& layer, const std::string& name) {
      tn::SavedStats<T> saved;
      layer.forward(x, y, saved);
      layer.forward(x, room.topRows(rows));
      EXPECT_LE((room.topRows(rows) - y).cwiseAbs().maxCoeff(), T(1e-5)) << name << " of " << rows;
      layer.backward(dy, x, saved, dx, tn::none);
      layer.backward(dy, x, saved, room_dx.topRows(rows), tn::none);
      EXPECT_LE((room_dx.topRows(rows) - dx).cwiseAbs().maxCoeff(), T(1e-4)) << name << " of " << rows;
      for (const Columns* matrix : {&room, &room_dx}) EXPECT_EQ(matrix->bottomRows(3), Columns::Constant(3, columns, T(7)));
    });
  }
}

TYPED_TEST(TransposedRows, TakeNoMemoryAfterTheFirstCall) {
  using T = TypeParam;
  using Columns = Matrix<T, Eigen::ColMajor>;
  const Columns x = random_matrix<T>(4, 100, 1), dy = random_matrix<T>(4, 100, 2);
  Columns y(4, 100), dx(4, 100);
  const tn::LayerNorm<T> layer(100);
  tn::SavedStats<T> saved;
  auto gradients = layer.zero_gradients();
  const auto call = [&] {
    layer.forward(x, y, saved);
    layer.backward(dy, x, saved, dx, gradients);
  };
  call();
  EXPECT_EQ(support::allocations_in(call), 0);
}

}  // namespace
