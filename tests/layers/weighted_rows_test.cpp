// SPDX-License-Identifier: MIT
// Rows of columns with one weight each, as those of ColMajor batches: their coefficients stay in registers, their weights' gradients are
// gathered. RowMajor tensors, which take other ways, come close to them.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using Eigen::Index;

template <class T, int kOrder>
using Tensor = Eigen::Tensor<T, 4, kOrder>;

template <class T, int kOrder>
struct Result {
  Tensor<T, kOrder> y, dx;
  std::vector<T> dweight, dbias;
};

/// Forward and backward of random numbers; in_place: y over x, dx over dy.
template <int kOrder, class T, class Layer>
Result<T, kOrder> run(Layer layer, const support::Shape& shape, bool in_place) {
  const Index size = support::size_of(shape);
  for (Index i = 0; i < Index(layer.weight().size()); ++i) {
    layer.weight().data()[i] = T(1) + T(i % 7) / T(4);
    layer.bias().data()[i] = T(i % 5) - T(2);
  }
  const auto x = support::tensor_of<Tensor<T, kOrder>>(shape, support::random_values<T>(size, 1));
  const auto dy = support::tensor_of<Tensor<T, kOrder>>(shape, support::random_values<T>(size, 2));
  Result<T, kOrder> result{x, dy, {}, {}};
  Tensor<T, kOrder> y = x, dx = x;
  tn::SavedStats<T> saved;
  auto gradients = layer.zero_gradients();
  if (in_place) {
    layer.forward(result.y, result.y, saved);
    layer.backward(result.dx, x, saved, result.dx, gradients);
  } else {
    layer.forward(x, y, saved);
    layer.backward(dy, x, saved, dx, gradients);
    result.y = y;
    result.dx = dx;
  }
  result.dweight = support::logical(gradients.weight);
  result.dbias = support::logical(gradients.bias);
  return result;
}

template <class A, class B, class T>
void expect_near(const A& a, const B& b, T bound, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], bound) << what << " at " << i;
}

/// f(layer, shape, name) for layers and shapes whose rows have one weight each: runs shorter than half a vector and longer than eight, again
/// and again or once a row, and wide rows of one weight, with and without a part of one that is left.
template <class T, class F>
void for_each_case(const F& f) {
  for (const Index batch : {9, 16, 17, 31, 33, 50, 65, 80, 129, 257, 1100})
    f(tn::LayerNorm<T>(batch > 500 ? 70 : 300), {batch, 1, 1, batch > 500 ? 70 : 300}, "LayerNorm of " + std::to_string(batch));
  f(tn::LayerNorm<T, 2>({21, 30}), {20, 1, 21, 30}, "LayerNorm of planes");
  using GroupNorm = tn::GroupNorm<T, tn::GroupAxes<-1>>;
  for (const Index batch : {6, 9, 30})
    for (const Index height : {1, 7, 41}) f(GroupNorm(2, 6), {batch, height, 5, 6}, "GroupNorm of " + std::to_string(batch) + ", " + std::to_string(height));
  f(GroupNorm(1, 2), {16, 64, 64, 2}, "GroupNorm of long rows");
  for (const Index batch : {5, 6}) f(GroupNorm(4, 80), {batch, 8, 8, 80}, "GroupNorm of channels in parts, " + std::to_string(batch));
  f(GroupNorm(16, 640), {2, 8, 8, 640}, "GroupNorm of whole channels");
  for (const Index side : {6, 7})  // by rows of one weight together, some of which are left over, and row by row
    f(GroupNorm(2, 70), {5, side, side, 70}, "GroupNorm of whole channels, which are no whole vectors, " + std::to_string(side));
  for (const Index batch : {5, 16}) f(tn::GroupNorm<T>(1, 6), {batch, 6, 7, 1}, "GroupNorm of all channels, " + std::to_string(batch));
}

template <class T>
class WeightedRows : public testing::Test {};
using Numbers = testing::Types<float, double>;
TYPED_TEST_SUITE(WeightedRows, Numbers);

TYPED_TEST(WeightedRows, ComeCloseToRowMajorTensors) {
  using T = TypeParam;
  for_each_case<T>([](const auto& layer, const support::Shape& shape, const std::string& what) {
    const auto expected = run<Eigen::RowMajor, T>(layer, shape, false);
    const T rounding = std::numeric_limits<T>::epsilon() * T(support::size_of(shape) / Index(layer.weight().size()));
    support::at_each_level([&](tn::kernels::Level) {
      const auto columns = run<Eigen::ColMajor, T>(layer, shape, false);
      expect_near(support::logical(columns.y), support::logical(expected.y), std::numeric_limits<T>::epsilon() * T(64), what + ": y");
      expect_near(support::logical(columns.dx), support::logical(expected.dx), std::numeric_limits<T>::epsilon() * T(64), what + ": dx");
      expect_near(columns.dweight, expected.dweight, T(8) * rounding, what + ": dweight");
      expect_near(columns.dbias, expected.dbias, T(8) * rounding, what + ": dbias");
    });
  });
}

TYPED_TEST(WeightedRows, GiveTheSameBitsInPlaceAndOnEveryInstructionSetWithFma) {
  using T = TypeParam;
  for_each_case<T>([](const auto& layer, const support::Shape& shape, const std::string& what) {
    std::vector<Result<T, Eigen::ColMajor>> results;
    support::at_each_level([&](tn::kernels::Level level) {
      results.push_back(run<Eigen::ColMajor, T>(layer, shape, false));
      const auto in_place = run<Eigen::ColMajor, T>(layer, shape, true);
      EXPECT_TRUE(support::same_bits(support::logical(in_place.y), support::logical(results.back().y))) << what << ": y over x";
      EXPECT_TRUE(support::same_bits(support::logical(in_place.dx), support::logical(results.back().dx))) << what << ": dx over dy";
      if (!support::has_fma(level)) results.pop_back();
    });
    for (const auto& result : results) {
      EXPECT_TRUE(support::same_bits(support::logical(result.y), support::logical(results.front().y))) << what << ": y";
      EXPECT_TRUE(support::same_bits(support::logical(result.dx), support::logical(results.front().dx))) << what << ": dx";
      EXPECT_TRUE(support::same_bits(result.dweight, results.front().dweight)) << what << ": dweight";
      EXPECT_TRUE(support::same_bits(result.dbias, results.front().dbias)) << what << ": dbias";
    }
  });
}

}  // namespace
