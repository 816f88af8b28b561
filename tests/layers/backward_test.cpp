// SPDX-License-Identifier: MIT
// The gradients of every layer: against finite differences, the long double reference and their laws, by every way to
// ask for them, and on the data that are hard.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tensornorm/tensornorm.hpp>

#include "support/compare.hpp"
#include "support/dispatch_level.hpp"
#include "support/reference.hpp"
#include "support/subjects.hpp"

namespace {

using namespace support;

/// Each step rounds once, by half an ulp: x - mean, g = dy * weight, the two coefficients and the sum of the three terms:
/// 2 ulp of the terms before they cancel. In double the sums have no wider accumulator than the data, and the column form adds 16 rows
/// in one chain: the variance, and rstd with it, may be 6 more off. Measured: 1.2, and 4.7 (LayerNorm over 990 elements, ColMajor).
template <class Scalar>
constexpr double kBackwardUlps = std::is_same_v<Scalar, float> ? 2 : 8;

template <class Scalar>
reference::Gradients reference_gradients(const Subject<Scalar>& subject, const std::vector<Scalar>& dy,
                                         const std::vector<Scalar>& x, const std::vector<Scalar>& weight, bool frozen) {
  return reference::backward(subject.norm, reference::real(dy), reference::real(x), reference::real(weight),
                             frozen ? subject.running_statistics() : subject.batch_statistics(x), frozen);
}

template <class Kind>
class Backward : public testing::Test {
 protected:
  using S = typename Kind::Scalar;
  static constexpr Index lanes = 64 / sizeof(S);

  /// f(subject) for all layers at these channels and lengths, with random weight and bias.
  template <class F>
  void for_each_subject(std::initializer_list<std::pair<Index, Index>> sizes, F f) {
    for (const auto& [c, l] : sizes) {
      for (const auto& subject : all_subjects<Kind>(c, l)) {
        SCOPED_TRACE(subject->name + " " + testing::PrintToString(subject->shape));
        parameters_ = subject->random_parameters(5);
        f(*subject);
      }
    }
  }
  const std::vector<S>& weight() const { return parameters_.first; }

  void expect_reference(Subject<S>& subject, const std::vector<S>& x, bool frozen = false) {
    const auto dy = subject.random_x(101, 0.3, 1.0);
    subject.forward_saved(x);
    const auto actual = subject.backward(dy, x);
    const auto expected = reference_gradients(subject, dy, x, weight(), frozen);
    const auto statistics = frozen ? subject.running_statistics() : subject.batch_statistics(x);
    const auto real_dy = reference::real(dy), real_x = reference::real(x);
    const double k = kBackwardUlps<S>;
    EXPECT_TRUE(all_near(
        actual.dx, expected.dx,
        ulps<S>(k, reference::terms_of_dx(subject.norm, real_dy, real_x, reference::real(weight()), statistics))));
    const auto terms = ulps<S>(k, reference::terms_of_parameters(
                                      subject.norm, real_dy, reference::normalized(subject.norm, real_x, statistics)));
    if (subject.has_weight) {
      EXPECT_TRUE(all_near(actual.dweight, expected.dweight, terms)) << "dweight";
    }
    if (subject.has_bias) {
      EXPECT_TRUE(all_near(actual.dbias, expected.dbias, terms)) << "dbias";
    }
    EXPECT_EQ(actual.dweight.empty(), !subject.has_weight);
    EXPECT_EQ(actual.dbias.empty(), !subject.has_bias);
  }

 private:
  std::pair<std::vector<S>, std::vector<S>> parameters_;
};
TYPED_TEST_SUITE(Backward, Kinds, KindNames);

// ---- finite differences ----

template <class Kind>
class FiniteDifferences : public testing::Test {
 protected:
  using Values = std::vector<double>;
  // The error of a central difference is h^2 / 6 of a third derivative, some ten times the first here, plus the rounding
  // of the loss over h: each about 1e-9 of the largest gradient.
  static constexpr double h = 3e-5;
  static constexpr double rtol = 1e-8;

  static double loss(Subject<double>& subject, const Values& x, const Values& dy) {
    const Values y = subject.forward(x);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    return sum;
  }
  /// d loss / d values[i] for all i, where evaluate sees the changed values.
  template <class Evaluate>
  static Values central(Values& values, Evaluate evaluate) {
    Values result;
    for (double& value : values) {
      const double at = value;
      value = at + h;
      const double above = evaluate();
      value = at - h;
      const double below = evaluate();
      value = at;
      result.push_back((above - below) / (2 * h));
    }
    return result;
  }
  static void expect_central(Subject<double>& subject) {
    auto parameters = subject.random_parameters(5);
    Values &weight = parameters.first, &bias = parameters.second;
    Values x = subject.random_x(1);
    const Values dy = subject.random_x(101, 0.3, 1.0);
    subject.forward_saved(x);
    const auto actual = subject.backward(dy, x);
    const auto evaluate = [&] {
      subject.set_parameters(weight, bias);
      return loss(subject, x, dy);
    };
    const auto near = [](const Values& gradient, const Values& expected, const char* name) {
      EXPECT_TRUE(all_near(gradient, expected, rtol * largest(expected))) << name;
    };
    near(actual.dx, central(x, evaluate), "dx");
    near(actual.dweight, central(weight, evaluate), "dweight");
    near(actual.dbias, central(bias, evaluate), "dbias");
  }
};
using DoubleKinds = testing::Types<Kind<double, Eigen::RowMajor>, Kind<double, Eigen::ColMajor>>;
TYPED_TEST_SUITE(FiniteDifferences, DoubleKinds, KindNames);

TYPED_TEST(FiniteDifferences, OfEveryLayerInTrainMode) {
  for (const auto& subject : all_subjects<TypeParam>(5, 6)) {
    SCOPED_TRACE(subject->name);
    this->expect_central(*subject);
  }
}

TYPED_TEST(FiniteDifferences, OfEveryLayerInEvalMode) {
  for (const auto& subject : all_subjects<TypeParam>(5, 6)) {
    SCOPED_TRACE(subject->name);
    subject->forward(subject->random_x(7, 2.0));  // moves the running statistics, if there are any
    subject->train(false);
    this->expect_central(*subject);
  }
}

// ---- the reference ----

TYPED_TEST(Backward, MatchesTheReferenceAtAwkwardSizes) {
  const Index N = this->lanes;
  for (const Index n : {Index{1}, Index{3}, Index{7}, Index{16}, N - 1, N, N + 1, 3 * N, 8 * N + 2}) {
    this->for_each_subject({{n, 5}, {3, std::max(n, Index{2})}}, [&](auto& subject) {
      this->expect_reference(subject, subject.random_x(static_cast<unsigned>(n)));
    });
  }
}

TYPED_TEST(Backward, MatchesTheReferenceOnLongStatistics) {
  this->for_each_subject({{2, 9001}},
                         [&](auto& subject) { this->expect_reference(subject, subject.random_x(4, 3.0, 1.0)); });
}

TYPED_TEST(Backward, MatchesTheReferenceInEvalMode) {
  this->for_each_subject({{7, 9}, {33, 6}}, [&](auto& subject) {
    if (!subject.tracks) return;
    subject.forward(subject.random_x(7, 2.0));
    subject.train(false);
    this->expect_reference(subject, subject.random_x(1), true);
  });
}

// ---- ways to ask ----

TYPED_TEST(Backward, EveryWayToAskGivesTheSameBits) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject({{3, 5}, {this->lanes, 2 * this->lanes + 1}, {2, 700}}, [&](auto& subject) {
    for (const bool training : {true, false}) {
      const auto x = subject.random_x(1), dy = subject.random_x(2);
      subject.train(training);
      subject.forward_saved(x);
      const auto all = subject.backward(dy, x);
      const auto expect_all = [&](Ask ask, const char* name) {
        const auto other = subject.backward(dy, x, ask);
        EXPECT_TRUE(same_bits(other.dx, all.dx)) << name << " dx";
        EXPECT_TRUE(same_bits(other.dweight, all.dweight)) << name << " dweight";
        EXPECT_TRUE(same_bits(other.dbias, all.dbias)) << name << " dbias";
      };
      expect_all(Ask::buffers, "buffers");
      expect_all(Ask::dx_in_place_of_dy, "dx in place of dy");
      expect_all(Ask::dx_in_place_of_x, "dx in place of x");
      EXPECT_TRUE(same_bits(subject.backward(dy, x, Ask::dx_only).dx, all.dx));
      const auto parameters = subject.backward(dy, x, Ask::parameters_only);
      EXPECT_TRUE(same_bits(parameters.dweight, all.dweight));
      EXPECT_TRUE(same_bits(parameters.dbias, all.dbias));

      auto doubled = all;
      for (auto* values : {&doubled.dweight, &doubled.dbias})
        for (Scalar& value : *values) value += value;
      const auto twice = subject.backward(dy, x, Ask::twice_into_the_same_gradients);
      EXPECT_TRUE(same_bits(twice.dx, all.dx)) << "dx is assigned";
      EXPECT_TRUE(same_bits(twice.dweight, doubled.dweight)) << "dweight accumulates";
      EXPECT_TRUE(same_bits(twice.dbias, doubled.dbias)) << "dbias accumulates";
    }
  });
}

TYPED_TEST(Backward, AnEmptyBatchHasZeroGradients) {
  this->for_each_subject({{3, 4}}, [&](auto& subject) {
    if (subject.norm.roles[0] != reference::Role::kept && subject.norm.roles[0] != reference::Role::reduced) return;
    Shape empty = subject.shape;
    empty[0] = 0;
    subject.forward_saved({}, empty);
    const auto gradients = subject.backward({}, {}, empty, Ask::allocating);
    EXPECT_TRUE(gradients.dx.empty());
    EXPECT_EQ(gradients.dweight.size(), this->weight().size());
    EXPECT_EQ(largest(gradients.dweight), 0);
    EXPECT_EQ(largest(gradients.dbias), 0);
  });
}

TYPED_TEST(Backward, FromTheOutput) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject({{3, 5}, {this->lanes, 2 * this->lanes + 1}}, [&](auto& subject) {
    if (!subject.has_weight) return;
    auto weight = random_values<Scalar>(subject.norm.parameters(), 1);
    for (Scalar& value : weight) value = std::copysign(Scalar(0.5) + std::abs(value), value);
    const auto bias = subject.has_bias ? random_values<Scalar>(subject.norm.parameters(), 2) : std::vector<Scalar>();
    subject.set_parameters(weight, bias);
    for (const bool training : {true, false}) {
      subject.train(training);
      const bool frozen = !training && subject.tracks;
      const auto x = subject.random_x(1), dy = subject.random_x(2);
      const auto y = subject.forward_saved(x).y;
      const auto actual = subject.backward(dy, y, Ask::from_output);
      const auto expected = reference_gradients(subject, dy, x, weight, frozen);
      const auto statistics = frozen ? subject.running_statistics() : subject.batch_statistics(x);
      // norm = (y - bias) / weight carries the rounding of y: an ulp of max |y|, over the smallest weight, 1/2.
      const auto norms = reference::normalized(subject.norm, reference::real(x), statistics);
      const double k = kBackwardUlps<Scalar> + double(2 * largest(y) / largest(norms));
      EXPECT_TRUE(all_near(actual.dx, expected.dx,
                           ulps<Scalar>(k, reference::terms_of_dx(subject.norm, reference::real(dy), reference::real(x),
                                                                  reference::real(weight), statistics))));
      const auto terms = ulps<Scalar>(k, reference::terms_of_parameters(subject.norm, reference::real(dy), norms));
      EXPECT_TRUE(all_near(actual.dweight, expected.dweight, terms));
      if (subject.has_bias) {
        EXPECT_TRUE(all_near(actual.dbias, expected.dbias, terms));
      }
    }
    weight[weight.size() / 2] = 0;
    subject.set_parameters(weight, bias);
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    const auto y = subject.forward_saved(x).y;
    EXPECT_THROW(subject.backward(dy, y, Ask::from_output), std::invalid_argument);
  });
}

// ---- laws ----

// Over each reduction set the sum of dx is 0 (not RMSNorm), and that of dx * norm is rstd * S2 * eps / (variance + eps)
// with S2 = sum dy * weight * norm (where eps is inside the root of the biased variance). The sums are of the terms, each
// with its own errors of 2 or 4 ulp and either sign, which leave less than one: measured 0.6.
constexpr double kSumUlps = 1;
TYPED_TEST(Backward, SumsOverEachReductionSet) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject({{3, 5}, {this->lanes, 2 * this->lanes + 1}}, [&](auto& subject) {
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    subject.forward_saved(x);
    const auto dx = subject.backward(dy, x).dx;
    const auto statistics = subject.batch_statistics(x);
    const auto norms = reference::normalized(subject.norm, reference::real(x), statistics);
    const auto terms = reference::terms_of_dx(subject.norm, reference::real(dy), reference::real(x),
                                              reference::real(this->weight()), statistics);
    const auto count = static_cast<std::size_t>(subject.norm.statistics());
    reference::Values sum(count), sum_norm(count), s2(count), zero(count), scale(count), scale_norm(count);
    for (std::size_t i = 0; i < dx.size(); ++i) {
      const std::size_t s = subject.norm.statistic(i);
      sum[s] += dx[i];
      sum_norm[s] += dx[i] * norms[i];
      s2[s] += norms[i] * dy[i] * (subject.has_weight ? this->weight()[subject.norm.parameter(i)] : 1);
      scale[s] += terms[i];
      scale_norm[s] += terms[i] * std::abs(norms[i]);
    }
    if (!subject.norm.mean_pinned_to_zero) {
      EXPECT_TRUE(all_near(sum, zero, ulps<Scalar>(kSumUlps, scale)));
    }
    if (subject.norm.unbiased || subject.norm.eps_added_to_deviation) return;
    for (std::size_t s = 0; s < count; ++s) {
      const auto variance = statistics.variance[s];
      s2[s] *= subject.norm.eps / (variance + subject.norm.eps) / std::sqrt(variance + subject.norm.eps);
    }
    EXPECT_TRUE(all_near(sum_norm, s2, ulps<Scalar>(kSumUlps, scale_norm)));
  });
}

TYPED_TEST(Backward, AGroupPerChannelIsInstanceNorm) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const Shape shape{3, 6, 5, 7};
  const Images x = tensor_of<Images>(shape, random_values<Scalar>(size_of(shape), 1));
  const Images dy = tensor_of<Images>(shape, random_values<Scalar>(size_of(shape), 2));
  const auto weight = random_values<Scalar>(6, 3);
  const auto gradients = [&](auto layer) {
    set_parameters(layer, weight, weight);
    Images y(x.dimensions());
    tn::SavedStats<Scalar> saved;
    layer.forward(x, y, saved);
    const auto [dx, dweight, dbias] = layer.backward(dy, x, saved);
    return std::tuple(logical(dx), logical(dweight), logical(dbias));
  };
  EXPECT_EQ(gradients(tn::GroupNorm<Scalar>(6, 6)), gradients(tn::InstanceNorm2d<Scalar>(6, {.affine = true})));
}

// RowMajor; laws_test says why a ColMajor example is summed in another order.
TYPED_TEST(Backward, AnExampleAloneIsTheExampleAmongOthers) {
  using Scalar = typename TypeParam::Scalar;
  if (TypeParam::order == Eigen::ColMajor) return;
  this->for_each_subject({{3, 5}, {this->lanes, 2 * this->lanes + 1}}, [](auto& subject) {
    if (subject.norm.roles[0] != reference::Role::kept) return;
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    subject.forward_saved(x);
    const auto dx = subject.backward(dy, x).dx;
    const auto size = static_cast<std::ptrdiff_t>(x.size()) / subject.shape[0];
    const auto last = [&](const std::vector<Scalar>& all) { return std::vector<Scalar>(all.end() - size, all.end()); };
    Shape alone = subject.shape;
    alone[0] = 1;
    subject.forward_saved(last(x), alone);
    EXPECT_TRUE(same_bits(subject.backward(last(dy), last(x), alone, Ask::allocating).dx, last(dx)));
  });
}

TYPED_TEST(Backward, TheSameBitsForEveryInstructionSetWithFma) {
  using tn::kernels::Level;
  if (AtLevel(Level::avx512).forced != Level::avx512) GTEST_SKIP() << "this processor has one level with FMA or none";
  this->for_each_subject({{3, 5}, {this->lanes, 2 * this->lanes + 1}, {2, 700}}, [](auto& subject) {
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    const auto at = [&](Level level) {
      const AtLevel forced(level);
      subject.forward_saved(x);
      return subject.backward(dy, x);
    };
    const auto widest = at(Level::avx512), narrower = at(Level::avx2);
    EXPECT_TRUE(same_bits(narrower.dx, widest.dx));
    EXPECT_TRUE(same_bits(narrower.dweight, widest.dweight));
    EXPECT_TRUE(same_bits(narrower.dbias, widest.dbias));
  });
}

// ---- hard cases ----

/// dx within 2 ulp of the largest dx in float, 8 in double, as for easy data. Measured: 1.1 and 3.2.
template <class Scalar>
void expect_hard_case(Subject<Scalar>& subject, const std::vector<Scalar>& x, const std::vector<Scalar>& weight) {
  const auto dy = subject.random_x(101, 0.3, 1.0);
  subject.forward_saved(x);
  const auto actual = subject.backward(dy, x).dx;
  const auto expected = reference_gradients(subject, dy, x, weight, false).dx;
  EXPECT_TRUE(all_near(actual, expected, ulps<Scalar>(kBackwardUlps<Scalar>, largest(expected))));
}

// The saved mean has more digits than the data.
TYPED_TEST(Backward, AMeanOfAMillionDeviations) {
  this->for_each_subject({{5, 67}, {67, 19}}, [&](auto& subject) {
    expect_hard_case(subject, subject.random_x(1, 1e6, 1.0), this->weight());
  });
}

TYPED_TEST(Backward, OneHugeOutlier) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject({{5, 67}, {67, 19}}, [&](auto& subject) {
    auto x = subject.random_x(1);
    x[x.size() / 2] = Scalar(1e6);
    expect_hard_case(subject, x, this->weight());
  });
}

TYPED_TEST(Backward, ConstantInput) {
  this->for_each_subject({{5, 67}, {67, 19}}, [&](auto& subject) {
    auto x = subject.random_x(1);
    std::fill(x.begin(), x.end(), x[0]);
    expect_hard_case(subject, x, this->weight());
  });
}

// y is the bias, which x does not move.
TYPED_TEST(Backward, OneElementBehindEachStatistic) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  const auto check = [](auto layer, Index rows, Index columns) {
    const Rows x = tensor_of<Rows>({rows, columns}, random_values<Scalar>(rows * columns, 1, 5.0));
    const Rows dy = tensor_of<Rows>({rows, columns}, std::vector<Scalar>(std::size_t(rows * columns), Scalar(0.5)));
    Rows y(rows, columns);
    tn::SavedStats<Scalar> saved;
    layer.forward(x, y, saved);
    const auto [dx, dweight, dbias] = layer.backward(dy, x, saved);
    for (Index row = 0; row < rows; ++row)
      for (Index i = 0; i < columns; ++i) {
        EXPECT_EQ(y(row, i), layer.bias()(i));
        const double term = 0.5 * double(layer.weight()(i)) / std::sqrt(layer.eps());
        EXPECT_NEAR(double(dx(row, i)), 0, kBackwardUlps<Scalar> * std::numeric_limits<Scalar>::epsilon() * std::abs(term));
      }
    for (Index i = 0; i < columns; ++i) {
      EXPECT_EQ(dweight(i), 0);
      EXPECT_EQ(dbias(i), Scalar(0.5 * double(rows)));
    }
  };
  for (const Index rows : {1, 3, 40}) {
    tn::LayerNorm<Scalar> layer(1);
    set_parameters(layer, random_values<Scalar>(1, 3), random_values<Scalar>(1, 4));
    check(layer, rows, 1);
    tn::GroupNorm<Scalar> group(6, 6);
    set_parameters(group, random_values<Scalar>(6, 3), random_values<Scalar>(6, 4));
    check(group, rows, 6);
  }
}

TYPED_TEST(Backward, EpsOfZero) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  reference::Norm norm{{4, 37}, {reference::Role::kept, reference::Role::reduced_affine}};
  norm.eps = 0;
  auto x = random_values<Scalar>(4 * 37, 1);
  std::fill(x.begin() + 37, x.begin() + 2 * 37, Scalar(0.3));  // a row without a deviation
  const auto dy = random_values<Scalar>(4 * 37, 2), weight = random_values<Scalar>(37, 3);
  for (const bool deviation : {false, true}) {
    norm.eps_added_to_deviation = deviation;
    tn::LayerNorm<Scalar> layer(
        37, {.eps = 0, .eps_added_to = deviation ? tn::EpsAddedTo::deviation : tn::EpsAddedTo::variance});
    set_parameters(layer, weight, std::vector<Scalar>());
    const Rows input = tensor_of<Rows>({4, 37}, x);
    Rows y(4, 37);
    tn::SavedStats<Scalar> saved;
    layer.forward(input, y, saved);
    const auto [dx, dweight, dbias] = layer.backward(tensor_of<Rows>({4, 37}, dy), input, saved);
    const auto statistics = reference::moments(norm, reference::real(x));
    const auto expected =
        reference::backward(norm, reference::real(dy), reference::real(x), reference::real(weight), statistics, false);
    EXPECT_TRUE(all_near(logical(dx), expected.dx, ulps<Scalar>(kBackwardUlps<Scalar>, largest(expected.dx))));
    for (Index i = 0; i < 37; ++i) EXPECT_EQ(dx(1, i), 0);
    EXPECT_TRUE(all_near(logical(dweight), expected.dweight, ulps<Scalar>(kBackwardUlps<Scalar>, largest(expected.dweight))));
  }
}

TYPED_TEST(Backward, ANaNInDyStaysInItsReductionSet) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject({{19, 6}}, [](auto& subject) {
    const auto x = subject.random_x(1);
    auto dy = subject.random_x(2);
    subject.forward_saved(x);
    const auto clean = subject.backward(dy, x).dx;
    const std::size_t poisoned = dy.size() / 2;
    dy[poisoned] = std::numeric_limits<Scalar>::quiet_NaN();
    const auto dx = subject.backward(dy, x).dx;
    for (std::size_t i = 0; i < dx.size(); ++i) {
      if (subject.norm.statistic(i) == subject.norm.statistic(poisoned)) {
        EXPECT_TRUE(std::isnan(dx[i])) << i;
      } else {
        ASSERT_EQ(dx[i], clean[i]) << i;
      }
    }
  });
}

}  // namespace
