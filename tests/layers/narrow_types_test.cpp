// SPDX-License-Identifier: MIT
// Half and bfloat16 through every layer, with parameters of their own type and of float: y and all gradients within an
// ulp of the type, whatever the layout, as if computed exactly and rounded at the end.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tensornorm/tensornorm.hpp>

#include "support/compare.hpp"
#include "support/dispatch_level.hpp"
#include "support/reference.hpp"
#include "support/subjects.hpp"

namespace {

using namespace support;

/// Half an ulp for the rounding at the end; what float sums before it leave is thousands of times smaller.
constexpr double kNarrowUlps = 0.51;
/// The distance between denormals, below which no difference is seen.
template <class Scalar>
constexpr long double kLeast = std::is_same_v<Scalar, Eigen::half> ? 0x1p-24L : 0x1p-133L;

/// kNarrowUlps of each scale, where it is no denormal.
template <class Scalar>
reference::Values narrow_ulps(reference::Values scales) {
  for (long double& scale : scales) scale = kNarrowUlps * std::max(unit_of<Scalar>() * scale, kLeast<Scalar>);
  return scales;
}

/// Statistics are computed in float and double, as for float.
constexpr double kStatisticUlps = 2;

template <class Kind>
class NarrowLayers : public testing::Test {
 protected:
  using Element = typename Kind::Scalar;
  using Parameter = typename Kind::Parameter;
  using Values = std::vector<Element>;

  /// f(subject) for all layers at these channels and lengths, with random weight and bias.
  template <class F>
  void for_each_subject(std::initializer_list<std::pair<Index, Index>> sizes, F f) {
    for (const auto& [c, l] : sizes) {
      for (const auto& subject : all_subjects<Kind>(c, l)) {
        SCOPED_TRACE(subject->name + " " + testing::PrintToString(subject->shape));
        parameters = subject->random_parameters(5);
        f(*subject);
      }
    }
  }
  void expect_forward(Subject<Element, Parameter>& subject, const Values& x, bool frozen = false) {
    const auto real_x = reference::real(x);
    const auto statistics = frozen ? subject.running_statistics() : subject.batch_statistics(x);
    const auto norms = reference::normalized(subject.norm, real_x, statistics);
    const auto expected = reference::forward(subject.norm, real_x, reference::real(parameters.first),
                                             reference::real(parameters.second), statistics);
    EXPECT_TRUE(all_near(frozen ? subject.infer(x) : subject.forward(x), expected, ulps<Element>(kNarrowUlps, largest(expected))));
  }
  void expect_backward(Subject<Element, Parameter>& subject, const Values& x, bool frozen = false) {
    const auto dy = subject.random_x(101, 0.3, 1.0);
    subject.forward_saved(x);
    const auto actual = subject.backward(dy, x);
    const auto real_dy = reference::real(dy), real_x = reference::real(x), weight = reference::real(parameters.first);
    const auto statistics = frozen ? subject.running_statistics() : subject.batch_statistics(x);
    const auto expected = reference::backward(subject.norm, real_dy, real_x, weight, statistics, frozen);
    EXPECT_TRUE(all_near(actual.dx, expected.dx,
                         narrow_ulps<Element>(reference::terms_of_dx(subject.norm, real_dy, real_x, weight, statistics))));
    const auto scales = reference::terms_of_parameters(subject.norm, real_dy,
                                                       reference::normalized(subject.norm, real_x, statistics));
    // Gradients of float parameters are as exact as those of a float layer.
    const auto terms = std::is_same_v<Parameter, float> ? ulps<float>(2, scales) : narrow_ulps<Parameter>(scales);
    if (subject.has_weight) {
      EXPECT_TRUE(all_near(actual.dweight, expected.dweight, terms)) << "dweight";
    }
    if (subject.has_bias) {
      EXPECT_TRUE(all_near(actual.dbias, expected.dbias, terms)) << "dbias";
    }
  }

  template <class Number>
  static double real_of(Number value) {
    return double(static_cast<float>(value));
  }

  std::pair<std::vector<Parameter>, std::vector<Parameter>> parameters;
};
TYPED_TEST_SUITE(NarrowLayers, NarrowKinds, KindNames);

TYPED_TEST(NarrowLayers, MatchTheReferenceAtAwkwardSizes) {
  for (const Index n : {1, 3, 7, 15, 16, 17, 31, 33, 130}) {
    this->for_each_subject({{n, 5}, {3, std::max(n, Index{2})}}, [&](auto& subject) {
      const auto x = subject.random_x(static_cast<unsigned>(n));
      this->expect_forward(subject, x);
      this->expect_backward(subject, x);
    });
  }
}

TYPED_TEST(NarrowLayers, MatchTheReferenceOnLongStatistics) {
  this->for_each_subject({{1, 4133}}, [&](auto& subject) {
    const auto x = subject.random_x(4, 3.0, 1.0);
    this->expect_forward(subject, x);
    this->expect_backward(subject, x);
  });
}

// At 1000 an ulp of half is 1/2, of bfloat16 4: little is left of the deviations, and that is normalized.
TYPED_TEST(NarrowLayers, MatchTheReferenceAtALargeMean) {
  this->for_each_subject({{5, 67}, {67, 5}}, [&](auto& subject) {
    const auto x = subject.random_x(3, 1e3, 3.0);
    this->expect_forward(subject, x);
    this->expect_backward(subject, x);
  });
}

TYPED_TEST(NarrowLayers, MatchTheReferenceInEvalMode) {
  this->for_each_subject({{7, 9}, {33, 6}}, [&](auto& subject) {
    if (!subject.tracks) return;
    subject.forward(subject.random_x(7, 2.0));
    const auto x = subject.random_x(1);
    this->expect_forward(subject, x, true);
    subject.train(false);
    this->expect_backward(subject, x, true);
  });
}

TYPED_TEST(NarrowLayers, SaveTheStatisticsOfFloat) {
  this->for_each_subject({{7, 19}}, [&](auto& subject) {
    const auto x = subject.random_x(1);
    const auto saved = subject.forward_saved(x);
    const auto statistics = subject.batch_statistics(x);
    reference::Values rstd;
    for (const auto variance : statistics.variance) rstd.push_back(reference::factor(subject.norm, variance).value);
    EXPECT_TRUE(all_near(saved.rstd, rstd, ulps<float>(kStatisticUlps, largest(rstd))));
    if (!subject.norm.mean_pinned_to_zero) {
      EXPECT_TRUE(all_near(saved.mean, statistics.mean, ulps<float>(kStatisticUlps, largest(x))));
    }
    EXPECT_TRUE(same_bits(saved.y, subject.forward(x)));
  });
}

TYPED_TEST(NarrowLayers, InPlaceGivesTheSameBits) {
  this->for_each_subject({{3, 5}, {32, 65}, {1, 700}}, [&](auto& subject) {
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    EXPECT_TRUE(same_bits(subject.forward_in_place(x), subject.forward(x)));
    subject.forward_saved(x);
    const auto all = subject.backward(dy, x);
    for (const Ask ask : {Ask::buffers, Ask::dx_in_place_of_dy, Ask::dx_in_place_of_x}) {
      const auto other = subject.backward(dy, x, ask);
      EXPECT_TRUE(same_bits(other.dx, all.dx));
      EXPECT_TRUE(same_bits(other.dweight, all.dweight));
      EXPECT_TRUE(same_bits(other.dbias, all.dbias));
    }
    EXPECT_TRUE(same_bits(subject.backward(dy, x, Ask::dx_only).dx, all.dx));
    EXPECT_TRUE(same_bits(subject.backward(dy, x, Ask::parameters_only).dweight, all.dweight));
  });
}

// Beside few rows weight and bias are converted where they are used, and the gradients of a single one added where they belong.
TYPED_TEST(NarrowLayers, ARowIsTheSameAloneAndAmongOthers) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  using Rows = Eigen::Tensor<S, 2, Eigen::RowMajor>;
  constexpr Index all = 9;
  for (const Index width : {2, 7, 8, 16, 33, 100, 512, 513, 700, 4099}) {
    for (const bool bias : {true, false}) {
      SCOPED_TRACE(testing::Message() << width << (bias ? "" : " without bias"));
      const auto weights = random_values<P>(width, 3, 1.0, 0.5), biases = random_values<P>(width, 4);
      tn::LayerNorm<P> layer(width, {.bias = bias});
      std::copy(weights.begin(), weights.end(), layer.weight().data());
      if (bias) std::copy(biases.begin(), biases.end(), layer.bias().data());
      const Rows x = tensor_of<Rows>({all, width}, random_values<S>(all * width, 1)), dy = tensor_of<Rows>({all, width}, random_values<S>(all * width, 2));
      struct Result {
        Rows y, dx, dx_only;
        typename tn::LayerNorm<P>::Gradients gradients;
        std::vector<double> mean, rstd;
      };
      const auto run = [&](Index first, Index rows) {
        const Eigen::array<Index, 2> at{first, 0}, size{rows, width};
        const Rows some = x.slice(at, size), some_dy = dy.slice(at, size);
        Result result{Rows(rows, width), Rows(rows, width), Rows(rows, width), layer.zero_gradients(), {}, {}};
        result.gradients.weight.setConstant(P(2.0F));
        if (bias) result.gradients.bias.setConstant(P(3.0F));
        typename tn::LayerNorm<P>::Saved saved;
        layer.forward(some, result.y, saved);
        layer.backward(some_dy, some, saved, result.dx, result.gradients);
        layer.backward(some_dy, some, saved, result.dx_only, tn::none);
        result.mean.assign(saved.mean().data(), saved.mean().data() + rows);
        result.rstd.assign(saved.rstd().data(), saved.rstd().data() + rows);
        return result;
      };
      const auto same = [&](const Rows& whole, Index first, const Rows& part) {
        return std::memcmp(static_cast<const void*>(whole.data() + first * width), static_cast<const void*>(part.data()), sizeof(S) * std::size_t(part.size())) == 0;
      };
      const Result together = run(0, all);
      for (const Index rows : {1, 2, 4, 5}) {
        for (Index first = 0; first + rows <= all; first += 3) {
          const Result part = run(first, rows);
          EXPECT_TRUE(same(together.y, first, part.y)) << rows;
          EXPECT_TRUE(same(together.dx, first, part.dx)) << rows;
          EXPECT_TRUE(same(part.dx, 0, part.dx_only)) << rows;
          if (rows > 1) continue;
          for (Index i = 0; i < width; ++i) {
            const double bound = std::is_same_v<P, float> ? 2 : kNarrowUlps;
            const double g = this->real_of(dy(first, i)), norm = (this->real_of(x(first, i)) - part.mean[0]) * part.rstd[0];
            ASSERT_NEAR(this->real_of(part.gradients.weight(i)), 2 + g * norm, double(ulps<P>(bound, 2 + std::abs(g * norm)))) << i;
            if (bias) {
              ASSERT_NEAR(this->real_of(part.gradients.bias(i)), 3 + g, double(ulps<P>(bound, 3 + std::abs(g)))) << i;
            }
          }
        }
      }
    }
  }
}

// What they are read from may lie where gradients go: then they are added up apart.
TYPED_TEST(NarrowLayers, TheGradientsOfARowMayLieWhereItsElementsDo) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  using Row = Eigen::Tensor<S, 2, Eigen::RowMajor>;
  if constexpr (std::is_same_v<S, P>) {
    constexpr Index width = 75;
    tn::LayerNorm<P> layer(width);
    const auto weights = random_values<P>(width, 3, 1.0, 0.5);
    std::copy(weights.begin(), weights.end(), layer.weight().data());
    const Row x = tensor_of<Row>({1, width}, random_values<S>(width, 1)), dy = tensor_of<Row>({1, width}, random_values<S>(width, 2));
    Row y(1, width), dx(1, width), other_dx(1, width);
    typename tn::LayerNorm<P>::Saved saved;
    layer.forward(x, y, saved);
    auto apart = layer.zero_gradients(), together = layer.zero_gradients();
    std::copy_n(x.data(), width, apart.weight.data());
    std::copy_n(x.data(), width, together.weight.data());
    layer.backward(dy, x, saved, dx, apart);
    layer.backward(dy, Eigen::TensorMap<const Row>(together.weight.data(), 1, width), saved, other_dx, together);
    for (Index i = 0; i < width; ++i) {
      EXPECT_EQ(this->real_of(other_dx(0, i)), this->real_of(dx(0, i))) << i;
      EXPECT_EQ(this->real_of(together.weight(i)), this->real_of(apart.weight(i))) << i;
      EXPECT_EQ(this->real_of(together.bias(i)), this->real_of(apart.bias(i))) << i;
    }
  }
}

TYPED_TEST(NarrowLayers, TheSameBitsForEveryInstructionSetWithFma) {
  using tn::kernels::Level;
  if (AtLevel(Level::avx512).forced != Level::avx512) GTEST_SKIP() << "this processor has one level with FMA or none";
  this->for_each_subject({{3, 5}, {32, 65}, {1, 700}}, [](auto& subject) {
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    const auto at = [&](Level level) {
      const AtLevel forced(level);
      auto y = subject.forward_saved(x).y;
      return std::pair(std::move(y), subject.backward(dy, x));
    };
    const auto widest = at(Level::avx512), narrower = at(Level::avx2);
    EXPECT_TRUE(same_bits(narrower.first, widest.first));
    EXPECT_TRUE(same_bits(narrower.second.dx, widest.second.dx));
    EXPECT_TRUE(same_bits(narrower.second.dweight, widest.second.dweight));
    EXPECT_TRUE(same_bits(narrower.second.dbias, widest.second.dbias));
  });
}

// norm = (y - bias) / weight carries the rounding of y, and its own to the elements' type.
TYPED_TEST(NarrowLayers, BackwardFromTheOutput) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  this->for_each_subject({{3, 5}, {32, 65}}, [&](auto& subject) {
    if (!subject.has_weight) return;
    auto weight = random_values<P>(subject.norm.parameters(), 1);
    for (P& value : weight) {
      const auto real = static_cast<float>(value);
      value = P(std::copysign(0.5F + std::abs(real), real));
    }
    const auto bias = subject.has_bias ? random_values<P>(subject.norm.parameters(), 2) : std::vector<P>();
    subject.set_parameters(weight, bias);
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    const auto y = subject.forward_saved(x).y;
    const auto actual = subject.backward(dy, y, Ask::from_output);
    const auto statistics = subject.batch_statistics(x);
    const auto real_dy = reference::real(dy), real_x = reference::real(x), real_weight = reference::real(weight);
    const auto expected = reference::backward(subject.norm, real_dy, real_x, real_weight, statistics, false);
    const auto norms = reference::normalized(subject.norm, real_x, statistics);
    const double k = 2 + static_cast<double>(2 * largest(y) / largest(norms));
    EXPECT_TRUE(all_near(actual.dx, expected.dx,
                         ulps<S>(k, reference::terms_of_dx(subject.norm, real_dy, real_x, real_weight, statistics))));
  });
}

// ---- the faults that sums in 16 bits have ----

template <class Kind>
class NarrowFaults : public testing::Test {
 protected:
  using Element = typename Kind::Scalar;
  using Parameter = typename Kind::Parameter;
  using Rows = typename Kind::template Tensor<2>;
  static float real(Element value) { return static_cast<float>(value); }
};
TYPED_TEST_SUITE(NarrowFaults, NarrowKinds, KindNames);

TYPED_TEST(NarrowFaults, Row6EpsIsNotRoundedToTheElementsType) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  typename TypeParam::template Tensor<2> x(1, 8), y(1, 8);
  for (Index i = 0; i < 8; ++i) x(0, i) = S(i % 2 == 0 ? 0x1p-24F : -0x1p-24F);  // the least half
  tn::LayerNorm<P> layer(8, {.eps = 1e-12});                                     // 0 in half
  EXPECT_EQ(layer.eps(), 1e-12);
  layer.forward(x, y);
  const double expected = 0x1p-24 / std::sqrt(0x1p-48 + 1e-12);
  for (Index i = 0; i < 8; ++i)
    EXPECT_NEAR(std::abs(this->real(y(0, i))), expected, static_cast<double>(ulps<S>(0.51, 0x1p-4L)));
}

TYPED_TEST(NarrowFaults, Row42AConstantGivesTheBiasExactly) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  for (const Index n : {1, 5, 16, 100, 5000}) {
    for (const float value : {0.1F, -3.0F, 1000.0F, 65504.0F}) {
      typename TypeParam::template Tensor<2> x(n, 19), y(n, 19), z(n, 19);
      x.setConstant(S(value));
      const auto bias = random_values<P>(19, 1);
      tn::LayerNorm<P> rows(19);
      tn::BatchNorm1d<P> columns(19);
      std::copy(bias.begin(), bias.end(), rows.bias().data());
      std::copy(bias.begin(), bias.end(), columns.bias().data());
      rows.forward(x, y);
      if (n > 1) columns.forward(x, z);
      for (Index i = 0; i < n; ++i) {
        for (Index k = 0; k < 19; ++k) {
          const S expected(static_cast<float>(bias[static_cast<std::size_t>(k)]));
          ASSERT_EQ(this->real(y(i, k)), this->real(expected));
          if (n > 1) {
            ASSERT_EQ(this->real(z(i, k)), this->real(expected));
          }
        }
      }
      if (n > 1) {
        EXPECT_EQ(columns.running_var()(0), 0.9F);
      }
    }
  }
}

TYPED_TEST(NarrowFaults, Row49TheLargestHalvesDoNotOverflowASum) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  constexpr Index n = 8192;
  typename TypeParam::template Tensor<2> x(n, 3), y(n, 3);
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < 3; ++k) x(i, k) = S(i % 4 == 0 ? -65504.0F : 65504.0F);
  const auto large = static_cast<double>(this->real(x(1, 0)));
  const auto [mean, variance] = tn::moments(x, tn::over<0>);
  tn::BatchNorm1d<P> layer(3, {.momentum = 1.0, .running_variance = tn::VarianceEstimator::biased});
  layer.forward(x, y);
  for (Index k = 0; k < 3; ++k) {
    EXPECT_EQ(mean(k), static_cast<float>(large / 2));
    EXPECT_FLOAT_EQ(variance(k), static_cast<float>(large * large * 0.75));
    EXPECT_EQ(layer.running_mean()(k), static_cast<float>(large / 2));
    // Row 51: beyond what a half can hold.
    EXPECT_FLOAT_EQ(layer.running_var()(k), static_cast<float>(large * large * 0.75));
    EXPECT_EQ(this->real(y(0, k)), this->real(S(static_cast<float>(-std::sqrt(3.0)))));
    EXPECT_EQ(this->real(y(1, k)), this->real(S(static_cast<float>(std::sqrt(1.0 / 3)))));
  }
  typename TypeParam::template Tensor<2> row(2, n), row_y(2, n);
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < 2; ++k) row(k, i) = x(i, k);
  tn::LayerNorm<P>(n).forward(row, row_y);
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < 2; ++k) ASSERT_EQ(this->real(row_y(k, i)), this->real(y(i, k))) << i;
}

TYPED_TEST(NarrowFaults, Row50TheMeanOfManyOnesIsOne) {
  using S = typename TypeParam::Scalar;
  typename TypeParam::template Tensor<2> x(70000, 2);
  x.setConstant(S(1.0F));
  const auto [mean, variance] = tn::moments(x, tn::over<0>);
  const auto whole = tn::moments(x, tn::over<0, 1>);
  EXPECT_EQ(mean(0), 1.0F);
  EXPECT_EQ(mean(1), 1.0F);
  EXPECT_EQ(variance(0), 0.0F);
  EXPECT_EQ(whole.mean(), 1.0F);
  EXPECT_EQ(whole.variance(), 0.0F);
}

TYPED_TEST(NarrowFaults, Row51RunningStatisticsAreStoredInFloat) {
  using P = typename TypeParam::Parameter;
  tn::BatchNorm1d<P> layer(2);
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(layer.running_var()(0))>, float>);
  layer.running_stats().load(std::vector<float>{1e5F, 0}, std::vector<float>{1e10F, 1e-10F}, 3);
  layer.eval();
  typename TypeParam::template Tensor<2> x(1, 2), y(1, 2);
  x.setZero();
  layer.forward(x, y);
  EXPECT_EQ(this->real(y(0, 0)), -1.0F);
  EXPECT_EQ(this->real(y(0, 1)), 0.0F);
}

// Row 52: eps is far above the least half, so nothing is divided by 0.
TYPED_TEST(NarrowFaults, Row52ARunningVarianceOfZeroIsDividedByEps) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  tn::BatchNorm1d<P> layer(2);
  layer.running_stats().load(std::vector<float>{0, 0}, std::vector<float>{0, 1e-40F}, 3);
  layer.eval();
  typename TypeParam::template Tensor<2> x(1, 2), y(1, 2);
  x.setConstant(S(1.0F));
  layer.forward(x, y);
  const S expected(static_cast<float>(1 / std::sqrt(1e-5)));
  EXPECT_EQ(this->real(y(0, 0)), this->real(expected));
  EXPECT_EQ(this->real(y(0, 1)), this->real(expected));
}

// Denormal elements are numbers like others, in x and in y. The squares of bfloat16's would be beyond the range of float.
TYPED_TEST(NarrowFaults, DenormalElements) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  const float least = std::is_same_v<S, Eigen::half> ? 0x1p-24F : 0x1p-60F;
  typename TypeParam::template Tensor<2> x(3, 33), y(3, 33);
  for (Index i = 0; i < 3; ++i)
    for (Index k = 0; k < 33; ++k) x(i, k) = S(static_cast<float>(k - 16) * least);
  tn::LayerNorm<P> layer(33, {.eps = 0.0});
  layer.forward(x, y);
  const double deviation = std::sqrt(2.0 * (16 * 17 * 33 / 6) / 33);
  for (Index k = 0; k < 33; ++k)
    EXPECT_NEAR(static_cast<double>(this->real(y(1, k))), static_cast<double>(k - 16) / deviation, double(ulps<S>(1, 1.0L)));
  const float denormal = std::is_same_v<S, Eigen::half> ? 0x1p-24F : 0x1p-133F;
  layer.weight().setConstant(P(denormal));
  layer.forward(x, y);
  for (Index k = 0; k < 33; ++k)
    EXPECT_NEAR(static_cast<double>(this->real(y(1, k))), static_cast<double>(k - 16) / deviation * denormal, 0.51 * denormal);
}

TYPED_TEST(NarrowFaults, OverflowOfYIsInfinityAndANaNStaysInItsRow) {
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  typename TypeParam::template Tensor<2> x(3, 40), y(3, 40), clean(3, 40);
  for (Index i = 0; i < 3; ++i)
    for (Index k = 0; k < 40; ++k) x(i, k) = S(k == 7 ? 60000.0F : 0.0F);
  tn::LayerNorm<P> layer(40);
  layer.weight().setConstant(P(std::is_same_v<P, Eigen::half> ? 60000.0F : 3e38F));
  layer.forward(x, clean);
  EXPECT_TRUE(std::isinf(this->real(clean(0, 7))));
  x(1, 39) = S(std::numeric_limits<float>::quiet_NaN());
  layer.forward(x, y);
  for (Index k = 0; k < 40; ++k) {
    EXPECT_TRUE(std::isnan(this->real(y(1, k))));
    EXPECT_EQ(this->real(y(0, k)), this->real(clean(0, k)));
    EXPECT_EQ(this->real(y(2, k)), this->real(clean(2, k)));
  }
}

}  // namespace
