// SPDX-License-Identifier: MIT
// Normalization, which every layer is made of: the forward pass of all of them against the long double reference, and
// the kinds of tensors they take.
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <tensornorm/tensornorm.hpp>
#include <utility>

#include "support/compare.hpp"
#include "support/logical.hpp"
#include "support/reference.hpp"
#include "support/subjects.hpp"

namespace {

using namespace support;

template <class Kind>
class EveryLayer : public testing::Test {
 protected:
  using S = typename Kind::Scalar;
  static constexpr Index lanes = 64 / sizeof(S);  // values in the fixed 64-byte lanes of the kernels
};
TYPED_TEST_SUITE(EveryLayer, Kinds, KindNames);

/// x - mean, rstd, the product with the weight and the sum with the bias are rounded once each, half an ulp of the
/// largest term: 2. In double the statistics have no wider accumulator than the data: 2 more for rstd.
template <class Scalar>
constexpr double kForwardUlps = std::is_same_v<Scalar, float> ? 2 : 4;

template <class Scalar>
long double scale_of_y(const reference::Values& norms, const std::vector<Scalar>& weight,
                       const std::vector<Scalar>& bias) {
  return largest(norms) * (weight.empty() ? 1 : largest(weight)) + largest(bias);
}

template <class Scalar>
void expect_reference(Subject<Scalar>& subject, const std::vector<Scalar>& x, bool frozen = false) {
  SCOPED_TRACE(subject.name + " " + testing::PrintToString(subject.shape));
  const auto [weight, bias] = subject.random_parameters(11);
  const auto statistics = frozen ? subject.running_statistics() : subject.batch_statistics(x);
  const auto norms = reference::normalized(subject.norm, reference::real(x), statistics);
  const auto expected =
      reference::forward(subject.norm, reference::real(x), reference::real(weight), reference::real(bias), statistics);
  const auto tolerance = ulps<Scalar>(kForwardUlps<Scalar>, scale_of_y(norms, weight, bias));
  EXPECT_TRUE(all_near(frozen ? subject.infer(x) : subject.forward(x), expected, tolerance));
}

// Rule 16's sizes around the vector width, once as the last spatial axis, once as the channels.
TYPED_TEST(EveryLayer, MatchesTheReferenceAtAwkwardSizes) {
  using Scalar = typename TypeParam::Scalar;
  const Index N = this->lanes;
  for (const Index n : {Index{1}, Index{3}, Index{7}, Index{16}, N - 1, N, N + 1, 3 * N, 8 * N + 2}) {
    for (const auto& [c, l] : {std::pair{n, Index{5}}, std::pair{Index{3}, std::max(n, Index{2})}})
      for (const auto& subject : all_subjects<TypeParam>(c, l))
        expect_reference<Scalar>(*subject, subject->random_x(static_cast<unsigned>(n)));
  }
}

// A mean of 1e4 standard deviations costs no accuracy: the bound is the same.
TYPED_TEST(EveryLayer, MatchesTheReferenceAtALargeMean) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& [c, l] : {std::pair{Index{5}, Index{67}}, std::pair{Index{67}, Index{5}}})
    for (const auto& subject : all_subjects<TypeParam>(c, l))
      expect_reference<Scalar>(*subject, subject->random_x(3, 1e4, 1.0));
}

// More elements per statistic than one block or chunk of the kernels holds.
TYPED_TEST(EveryLayer, MatchesTheReferenceOnLongStatistics) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& subject : all_subjects<TypeParam>(2, 9001))
    expect_reference<Scalar>(*subject, subject->random_x(4, 3.0, 1.0));
}

TYPED_TEST(EveryLayer, InfersByTheRunningStatistics) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& subject : all_subjects<TypeParam>(7, 9)) {
    if (!subject->tracks) continue;
    expect_reference<Scalar>(*subject, subject->random_x(1), true);  // as constructed: mean 0, variance 1
    subject->forward(subject->random_x(2));
    expect_reference<Scalar>(*subject, subject->random_x(3), true);
  }
}

TYPED_TEST(EveryLayer, SavesTheBatchStatistics) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& subject : all_subjects<TypeParam>(7, 19)) {
    SCOPED_TRACE(subject->name);
    const auto x = subject->random_x(1);
    const auto saved = subject->forward_saved(x);
    const auto statistics = subject->batch_statistics(x);
    reference::Values rstd;
    for (const auto variance : statistics.variance) rstd.push_back(reference::factor(subject->norm, variance).value);
    // Kept in double, but computed from sums of Scalar: the bound of y.
    const double k = kForwardUlps<Scalar>;
    EXPECT_TRUE(all_near(saved.rstd, rstd, ulps<Scalar>(k, largest(rstd))));
    if (!subject->norm.mean_pinned_to_zero) {
      EXPECT_TRUE(all_near(saved.mean, statistics.mean, ulps<Scalar>(k, largest(x))));
    }
    EXPECT_TRUE(same_bits(saved.y, subject->forward(x)));
  }
}

TYPED_TEST(EveryLayer, TakesAnEmptyBatch) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& subject : all_subjects<TypeParam>(3, 4)) {
    SCOPED_TRACE(subject->name);
    if (subject->norm.roles[0] != reference::Role::kept && subject->norm.roles[0] != reference::Role::reduced) continue;
    Shape empty = subject->shape;
    empty[0] = 0;
    const auto before = subject->running();
    EXPECT_TRUE(subject->forward(std::vector<Scalar>(), empty).empty());
    EXPECT_EQ(subject->running(), before);
  }
}

// ---- kinds of tensors: the same numbers, bit for bit, as an Eigen::Tensor of that storage order ----

template <class Kind>
class TensorKinds : public testing::Test {
 protected:
  using S = typename Kind::Scalar;
  using T = typename Kind::template Tensor<4>;

  TensorKinds() : layer(3) {
    set_parameters(layer, random_values<S>(3, 1), random_values<S>(3, 2));
    expected = logical(tn::BatchNorm2d<S>(layer)(input));
  }
  const Shape shape{2, 3, 4, 5};
  tn::BatchNorm2d<S> layer;
  T input = tensor_of<T>(shape, random_values<S>(size_of(shape), 3));
  std::vector<S> expected;
};
TYPED_TEST_SUITE(TensorKinds, Kinds, KindNames);

TYPED_TEST(TensorKinds, TensorMapAlsoOfConst) {
  using Tensor = typename TypeParam::template Tensor<4>;
  const Tensor copy = this->input;
  const Eigen::TensorMap<const Tensor> constant(copy.data(), copy.dimensions());
  EXPECT_TRUE(same_bits(logical(this->layer(constant)), this->expected));

  Eigen::TensorMap<Tensor> map(this->input.data(), this->input.dimensions());
  EXPECT_TRUE(same_bits(logical(this->layer(map)), this->expected));

  Tensor y(this->input.dimensions());
  this->layer.forward(constant, Eigen::TensorMap<Tensor>(y.data(), y.dimensions()));  // a temporary map
  EXPECT_TRUE(same_bits(logical(y), this->expected));
  EXPECT_TRUE(same_bits(logical(copy), logical(this->input))) << "x was written to";
}

TYPED_TEST(TensorKinds, MisalignedTensorMap) {
  using Scalar = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<4>;
  for (std::size_t offset = 0; offset < 4; ++offset) {
    const auto size = static_cast<std::size_t>(this->input.size());
    std::vector<Scalar> in(size + offset), out(size + 2 * offset, Scalar{42});
    std::copy_n(this->input.data(), size, in.data() + offset);
    const Eigen::TensorMap<const Tensor> x(in.data() + offset, this->input.dimensions());
    this->layer.forward(x, Eigen::TensorMap<Tensor>(out.data() + offset, this->input.dimensions()));
    EXPECT_TRUE(
        same_bits(logical(Eigen::TensorMap<Tensor>(out.data() + offset, this->input.dimensions())), this->expected));
    for (std::size_t i = 0; i < offset; ++i) {
      EXPECT_EQ(out[i], 42);
      EXPECT_EQ(out[offset + size + i], 42);
    }
  }
}

TYPED_TEST(TensorKinds, TensorFixedSize) {
  using Fixed = Eigen::TensorFixedSize<typename TypeParam::Scalar, Eigen::Sizes<2, 3, 4, 5>, TypeParam::order>;
  Fixed x, y;
  assign(x, logical(this->input));
  this->layer.forward(x, y);
  EXPECT_TRUE(same_bits(logical(y), this->expected));
  EXPECT_TRUE(same_bits(logical(this->layer(x)), this->expected));
}

TYPED_TEST(TensorKinds, BuffersStayWhereTheyAre) {
  using Tensor = typename TypeParam::template Tensor<4>;
  const auto* const data = this->input.data();
  Tensor y(this->input.dimensions());
  const auto* const before = y.data();
  this->layer.forward(this->input, y);
  EXPECT_EQ(y.data(), before) << "the caller's buffer is never resized";
  EXPECT_TRUE(same_bits(logical(y), this->expected));
  this->layer.forward(this->input, this->input);
  EXPECT_EQ(this->input.data(), data);
  EXPECT_TRUE(same_bits(logical(this->input), this->expected)) << "in place";
}

template <class Kind>
class Matrices : public testing::Test {
 protected:
  using S = typename Kind::Scalar;
  using T = typename Kind::template Tensor<2>;
  using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Kind::order>;
  using Array = Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, Kind::order>;
  using Stride = Eigen::OuterStride<>;
  static constexpr Index rows = 19, columns = 37;

  const std::vector<S> values = random_values<S>(rows * columns, 5);
  const Matrix x = tensor_of<Matrix>({rows, columns}, values);

  /// Every kind of matrix through one layer; the tensor of that storage order says what must come: the same bits, or
  /// where the memory has gaps, so that it may be walked and added up in another way, twice the forward bound.
  template <class Layer>
  void expect_all_kinds(const Layer& made) {
    Layer layer = made;
    set_parameters(layer, random_values<S>(columns, 1), random_values<S>(columns, 2));
    const auto expected = logical(Layer(layer)(tensor_of<T>({rows, columns}, values)));

    const Matrix y = layer(x);
    EXPECT_TRUE(same_bits(logical(y), expected)) << "Matrix";
    const Array a = x.array();
    const Array ya = layer(a);
    EXPECT_TRUE(same_bits(logical(ya), expected)) << "Array";
    const Eigen::Ref<const Matrix> constant(x);
    EXPECT_TRUE(same_bits(logical(layer(constant)), expected)) << "Ref of const";
    const Eigen::Map<const Matrix> map(x.data(), rows, columns);
    EXPECT_TRUE(same_bits(logical(layer(map)), expected)) << "Map of const";

    const auto rounding = ulps<S>(2 * kForwardUlps<S>, largest(expected));
    // Inside larger matrices: an outer stride that is not the number of rows or columns, another one for y.
    Matrix wide_in = Matrix::Constant(rows + 6, columns + 5, S{-7});
    Matrix wide_out = Matrix::Constant(rows + 9, columns + 3, S{42});
    wide_in.block(2, 1, rows, columns) = x;
    const Eigen::Ref<const Matrix, 0, Stride> in = wide_in.block(2, 1, rows, columns);
    Eigen::Ref<Matrix, 0, Stride> out = wide_out.block(1, 2, rows, columns);
    layer.forward(in, out);
    EXPECT_TRUE(all_near(logical(out), expected, rounding)) << "Ref with an outer stride";
    wide_out.block(1, 2, rows, columns).setConstant(S{42});
    EXPECT_TRUE((wide_out.array() == S{42}).all()) << "written outside the block";
    EXPECT_TRUE(all_near(logical(layer(in)), expected, rounding));

    Eigen::Map<Matrix, 0, Stride> strided(&wide_in(2, 1), rows, columns, Stride(wide_in.outerStride()));
    layer.forward(strided, strided);
    EXPECT_TRUE(all_near(logical(strided), expected, rounding)) << "Map with an outer stride, in place";
    wide_in.block(2, 1, rows, columns).setConstant(S{-7});
    EXPECT_TRUE((wide_in.array() == S{-7}).all()) << "written outside the block";
  }
};
TYPED_TEST_SUITE(Matrices, Kinds, KindNames);

TYPED_TEST(Matrices, BatchNorm1d) {
  this->expect_all_kinds(tn::BatchNorm1d<typename TypeParam::Scalar>(this->columns));
}
TYPED_TEST(Matrices, LayerNorm) { this->expect_all_kinds(tn::LayerNorm<typename TypeParam::Scalar>(this->columns)); }
TYPED_TEST(Matrices, GroupNorm) {
  this->expect_all_kinds(tn::GroupNorm<typename TypeParam::Scalar>(37, this->columns));
}
TYPED_TEST(Matrices, BatchNorm1dEval) {
  tn::BatchNorm1d<typename TypeParam::Scalar> layer(this->columns);
  layer(this->x);
  layer.eval();
  this->expect_all_kinds(layer);
}
TYPED_TEST(Matrices, FixedSizeMatrix) {
  using Scalar = typename TypeParam::Scalar;
  const Eigen::Matrix<Scalar, 4, 3, TypeParam::order> fixed = Eigen::Matrix<Scalar, 4, 3, TypeParam::order>::Random();
  tn::LayerNorm<Scalar> layer(3);
  EXPECT_TRUE(same_bits(logical(layer(fixed)), logical(layer(typename TestFixture::Matrix(fixed)))));
}

// ---- a policy of the user's own, and what a layer is as a value ----

TYPED_TEST(EveryLayer, PositionAxesNormalizesTheChannelsOfEveryPosition) {
  using Scalar = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<4>;
  tn::Normalization<Scalar, PositionAxes> pono({64});
  EXPECT_EQ(pono.weight().size(), 64);
  EXPECT_EQ(pono.bias().size(), 64);
  const Shape shape{2, 64, 3, 5};
  const Tensor x = tensor_of<Tensor>(shape, random_values<Scalar>(size_of(shape), 1, 10.0, 2.0));
  const Tensor y = pono(x);
  for (Index n = 0; n < 2; ++n) {
    for (Index h = 0; h < 3; ++h) {
      for (Index w = 0; w < 5; ++w) {
        double sum = 0, squares = 0;
        for (Index c = 0; c < 64; ++c) {
          sum += y(n, c, h, w);
          squares += double(y(n, c, h, w)) * y(n, c, h, w);
        }
        EXPECT_NEAR(sum / 64, 0, 1e-6);
        EXPECT_NEAR(squares / 64, 1, 1e-4);  // eps / variance is 2.5e-6 and the variance of 64 samples spreads
      }
    }
  }
}

TYPED_TEST(EveryLayer, NormalizationHasTheModesOfALayerWithoutRunningStatistics) {
  using Scalar = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<4>;
  tn::Normalization<Scalar, PositionAxes> pono({3}, {.eps = 0.5, .bias = false});
  EXPECT_EQ(pono.eps(), 0.5);
  EXPECT_THROW(pono.bias(), std::logic_error);
  const Shape shape{2, 3, 2, 2};
  const Tensor x = tensor_of<Tensor>(shape, random_values<Scalar>(size_of(shape), 1));
  const auto y = logical(pono(x));
  EXPECT_TRUE(pono.is_training());
  pono.eval();
  EXPECT_FALSE(pono.is_training());
  EXPECT_TRUE(same_bits(logical(pono(x)), y));
  EXPECT_TRUE(same_bits(logical(std::as_const(pono)(x)), y));
  EXPECT_TRUE(same_bits(logical(std::as_const(pono).infer(x)), y));
  std::ostringstream text;
  text << pono;
  EXPECT_EQ(text.str(), "Normalization([3], eps=0.5, affine=true, bias=false)");
}

TYPED_TEST(EveryLayer, CopiesDeeply) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm1d<Scalar> layer(3);
  tn::BatchNorm1d<Scalar> copy = layer;
  copy.weight().setConstant(Scalar{5});
  copy(tensor_of<typename TypeParam::template Tensor<2>>({2, 3}, random_values<Scalar>(6, 1)));
  EXPECT_EQ(layer.weight()(0), 1);
  EXPECT_EQ(layer.running_mean()(0), 0);
  EXPECT_EQ(layer.running_stats().num_batches(), 0);
  EXPECT_EQ(copy.running_stats().num_batches(), 1);
}

}  // namespace
