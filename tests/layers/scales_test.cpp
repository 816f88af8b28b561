// SPDX-License-Identifier: MIT
// Numbers whose squares leave their type, rows 39 and 44 to 46 of the table of faults: y, the statistics and the
// gradients are right wherever they can be represented, at every level and whatever stands beside them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <type_traits>
#include <vector>

#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/reference.hpp"

namespace {

using namespace faults;
using reference::Real;
using reference::Values;
using support::all_near;
using support::logical;
using support::same_bits;
using support::Shape;
using support::ulps;

template <class Kind>
class Scales : public testing::Test {};
TYPED_TEST_SUITE(Scales, support::Kinds, support::KindNames);

/// What a layer must compute, and of an x of which shape.
struct ShapedNorm : reference::Norm {
  Shape of_x;

  ShapedNorm(const reference::Norm& norm) : reference::Norm(norm), of_x(norm.shape) {}
};

/// f(layer, norm) for layers of every schedule, long ones among them; norm is what the layer must compute.
template <class Kind, class F>
void for_each_schedule(double eps, F f) {
  using S = typename Kind::Scalar;
  const auto with = [&]<int kRank>(auto layer, const char* roles, const Shape& shape, bool pinned = false) {
    ShapedNorm norm(reference::Norm{shape, reference::roles_of(roles), Real(eps), pinned});
    if (norm.roles.size() > std::size_t(kRank)) {  // channels in groups stand there as two axes
      norm.of_x.erase(norm.of_x.begin() + 1);
      norm.of_x[1] *= shape[1];
    }
    SCOPED_TRACE(text_of(layer) + testing::PrintToString(norm.of_x));
    f.template operator()<typename Kind::template Tensor<kRank>>(layer, norm);
  };
  with.template operator()<2>(tn::BatchNorm1d<S>(37, {.eps = eps}), "rK", {90, 37});
  with.template operator()<2>(tn::BatchNorm1d<S>(3, {.eps = eps}), "rK", {1000, 3});
  with.template operator()<4>(tn::BatchNorm2d<S>(3, {.eps = eps}), "rKrr", {2, 3, 5, 7});
  with.template operator()<4>(tn::BatchNorm2d<S>(3, {.eps = eps}), "rKrr", {2, 3, 40, 40});
  with.template operator()<4>(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(3, {.eps = eps}), "rrrK", {2, 5, 7, 3});
  with.template operator()<4>(tn::InstanceNorm2d<S>(3, {.eps = eps, .affine = true}), "kKrr", {2, 3, 5, 7});
  with.template operator()<3>(tn::GroupNorm<S>(2, 6, {.eps = eps}), "kKRr", {3, 2, 3, 10});
  with.template operator()<2>(tn::LayerNorm<S>(9000, {.eps = eps}), "kR", {2, 9000});
  with.template operator()<3>(tn::LayerNorm<S, 2>({3, 50}, {.eps = eps}), "kRR", {4, 3, 50});
  with.template operator()<2>(tn::LayerNorm<S>(7, {.eps = eps}), "kR", {5, 7});
  with.template operator()<2>(tn::RMSNorm<S>(700, {.eps = eps}), "kR", {3, 700}, true);
  with.template operator()<3>(tn::Normalization<S, PositionAxes>({6}, {.eps = eps}), "kRk", {5, 6, 8});
}

/// Random x about 0 of this deviation; in float none beyond the largest.
template <class S>
std::vector<S> values_of(Index size, double deviation, double mean = 0) {
  std::vector<S> result;
  for (const double value : support::random_values<double>(size, 3))
    result.push_back(static_cast<S>(mean + deviation * value));
  return result;
}

template <class S>
std::vector<double> scales();
template <>
std::vector<double> scales<float>() {
  return {1e-41, 1e-38, 1e-30, 1e-24, 1e-20, 1e-17, 1e-12, 1e10, 1e16, 1e18, 1e20, 1e30, 5e37};
}
template <>
std::vector<double> scales<double>() {
  return {1e-308, 1e-300, 1e-200, 1e-160, 1e-146, 1e-100, 1e100, 1e132, 1e140, 1e154, 1e160, 1e250, 3e307};
}

/// y, and where the layer has them the running statistics, at each level. The scale changes no rounding; that of
/// ordinary data is judged elsewhere, and here allowed to be 8 ulp, for double's statistics are themselves in double.
template <class Tensor, class Layer>
void expect_forward(Layer layer, const ShapedNorm& norm, const std::vector<typename Tensor::Scalar>& x) {
  using S = typename Tensor::Scalar;
  using Limits = std::numeric_limits<S>;
  layer.weight().setConstant(S(1.5));
  const Tensor input = support::tensor_of<Tensor>(norm.of_x, x);
  const auto statistics = reference::moments(norm, reference::real(x));
  const Values weight(std::size_t(norm.parameters()), Real(1.5));
  const Values y = reference::forward(norm, reference::real(x), weight, {}, statistics);
  const Real tolerance = ulps<S>(8, support::largest(y));
  support::at_each_level([&](tn::kernels::Level) {
    Tensor actual = support::sized<Tensor>(norm.of_x);
    auto trained = layer;
    trained.forward(input, actual);
    EXPECT_TRUE(all_near(logical(actual), y, tolerance));
    if constexpr (requires { trained.running_stats(); }) {
      if (!trained.track_running_stats()) return;
      const auto n = static_cast<Real>(norm.samples());
      for (Index c = 0; c < trained.num_features(); ++c) {
        const auto k = static_cast<std::size_t>(c);
        const Real mean = Real(0.1) * statistics.mean[k], of_batch = statistics.variance[k] * n / (n - 1);
        const Real variance = Real(0.9) + Real(0.1) * of_batch;
        EXPECT_NEAR(double(trained.running_mean()(c)), double(mean),
                    double(ulps<S>(4, std::sqrt(of_batch)) + Real(Limits::denorm_min())));
        if (variance > Real(Limits::max()) || statistics.variance[k] > Real(std::numeric_limits<double>::max())) {
          EXPECT_EQ(trained.running_var()(c), Limits::infinity());
        } else {
          EXPECT_NEAR(double(trained.running_var()(c) / variance), 1, double(ulps<S>(4, 1)));
        }
      }
    }
  });
}

TYPED_TEST(Scales, Rows45And46YIsRightAtEveryScale) {
  using S = typename TypeParam::Scalar;
  for (const double eps : {0.0, 1e-5})
    for (const double scale : scales<S>()) {
      SCOPED_TRACE(testing::Message() << "scale " << scale << ", eps " << eps);
      for_each_schedule<TypeParam>(eps, [&]<class Tensor>(const auto& layer, const ShapedNorm& norm) {
        const double mean = scale < double(std::numeric_limits<S>::max()) / 100 ? 3 * scale : 0;
        expect_forward<Tensor>(layer, norm, values_of<S>(norm.size(), scale, mean));
      });
    }
}

// A row of +-FLT_MAX has deviation FLT_MAX.
TYPED_TEST(Scales, Row44TheLargestNumbers) {
  using S = typename TypeParam::Scalar;
  for_each_schedule<TypeParam>(1e-5, [&]<class Tensor>(const auto& layer, const ShapedNorm& norm) {
    std::vector<S> x(std::size_t(norm.size()));
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = i * i % 7 < 3 ? std::numeric_limits<S>::max() : -std::numeric_limits<S>::max();
    expect_forward<Tensor>(layer, norm, x);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 5 == 0 ? S(1) : std::numeric_limits<S>::max();
    expect_forward<Tensor>(layer, norm, x);
  });
}

// Constants of any size are the bias, and so are they with an eps whose root cannot be divided by.
TYPED_TEST(Scales, Row42ConstantsOfAnySizeAreTheBias) {
  using S = typename TypeParam::Scalar;
  using Limits = std::numeric_limits<S>;
  for (const double eps : {0.0, 1e-320, 1e-80, 1e-5, 1e80})
    for_each_schedule<TypeParam>(eps, [&]<class Tensor>(auto layer, const ShapedNorm& norm) {
      if (name_of(layer) == "RMSNorm") return;
      layer.bias().setConstant(S(0.3));
      for (const S value : {S(0), S(5), S(0.1), S(-7.7e5), Limits::max(), Limits::lowest(), Limits::min() * S(1.2),
                            3 * Limits::denorm_min()}) {
        auto x = support::sized<Tensor>(norm.of_x);
        x.setConstant(value);
        EXPECT_TRUE(same_bits(logical(layer(x)), std::vector<S>(std::size_t(x.size()), S(0.3))))
            << value << ", eps " << eps;
      }
    });
}

// 1 / deviation is that of eps alone, however large the constant; and dx the distance of dy to its mean, times that.
TYPED_TEST(Scales, Row42GradientsOfConstantsOfAnySize) {
  using S = typename TypeParam::Scalar;
  for (const double eps : {1e-220, 1e-5, 4.0})
    for_each_schedule<TypeParam>(eps, [&]<class Tensor>(const auto& layer, const ShapedNorm& norm) {
      if (name_of(layer) == "RMSNorm" || (sizeof(S) == 4 && eps == 1e-220)) return;
      const auto statistics = static_cast<std::size_t>(norm.statistics());
      const auto dy = support::random_values<S>(norm.size(), 5);
      const Values g = reference::real(dy), weight(std::size_t(norm.parameters()), Real(1));
      const Tensor gradient = support::tensor_of<Tensor>(norm.of_x, dy);
      for (const S value : {S(0.1), S(-7.7e5), S(1e30), sizeof(S) == 8 ? S(1e150) : S(1e38), std::numeric_limits<S>::max()}) {
        SCOPED_TRACE(testing::Message() << value << ", eps " << eps);
        const Values x(std::size_t(norm.size()), Real(value));
        const reference::Statistics known{Values(statistics, Real(value)), Values(statistics, Real(0)), Values(statistics, Real(0))};
        const auto terms = ulps<S>(8, reference::terms_of_dx(norm, g, x, weight, known));
        const auto expected = reference::backward(norm, g, x, weight, known, false);
        auto input = support::sized<Tensor>(norm.of_x), y = input;
        input.setConstant(value);
        support::at_each_level([&](tn::kernels::Level) {
          auto trained = layer;
          tn::SavedStats<S> saved;
          trained.forward(input, y, saved);
          for (Index k = 0; k < saved.rstd().size(); ++k) ASSERT_NEAR(double(saved.rstd().data()[k]) * std::sqrt(eps), 1, 1e-6) << k;
          EXPECT_TRUE(all_near(logical(trained.backward(gradient, input, saved).dx), expected.dx, terms));
        });
      }
    });
}

// Where the statistics are constants, dx is dy * weight / deviation, whatever the mean and however large dy.
TYPED_TEST(Scales, Row53GradientsOfConstantStatisticsKnowNoMean) {
  using S = typename TypeParam::Scalar;
  using Limits = std::numeric_limits<S>;
  const auto check = [](auto layer, const auto& x) {
    SCOPED_TRACE(text_of(layer) + testing::PrintToString(support::shape_of(x)));
    const auto features = static_cast<std::size_t>(layer.num_features());
    auto dy = x;
    for (Index i = 0; i < dy.size(); ++i) dy.data()[i] = (i % 3 == 0 ? S(-0.9) : S(0.7)) * Limits::max();
    layer.eval();
    const auto dx_with = [&](S mean) {
      layer.running_stats().load(std::vector<double>(features, double(mean)), std::vector<double>(features, 1e8), 1);
      tn::SavedStats<S> saved;
      auto y = x;
      layer.forward(x, y, saved);
      const auto [dx, dweight, dbias] = layer.backward(dy, x, saved);
      layer.backward(dy, x, saved, y, tn::none);
      EXPECT_TRUE(same_bits(logical(y), logical(dx)));
      return logical(dx);
    };
    const auto of_zero = dx_with(S(0));
    EXPECT_NEAR(double(of_zero[0]) / (double(Limits::max()) * -0.9e-4), 1, 1e-5);
    for (const S mean : {S(3), S(0.3) * Limits::max(), S(-0.3) * Limits::max(), Limits::infinity(), Limits::quiet_NaN()}) {
      EXPECT_TRUE(same_bits(dx_with(mean), of_zero)) << mean;
    }
  };
  using Rows = typename TypeParam::template Tensor<2>;
  using Images = typename TypeParam::template Tensor<4>;
  support::at_each_level([&](tn::kernels::Level) {
    check(tn::BatchNorm1d<S>(37), random_tensor<Rows>({90, 37}));
    check(tn::BatchNorm2d<S>(3), random_tensor<Images>({2, 3, 5, 7}));
    check(tn::BatchNorm2d<S>(3), random_tensor<Images>({2, 3, 40, 40}));
    check(tn::InstanceNorm2d<S>(3, {.affine = true, .track_running_stats = true}), random_tensor<Images>({2, 3, 5, 7}));
  });
}

// A statistic of zeros beside ordinary ones is the bias, and in these no bit changes. Of one element that is not 0, however small, y is
// +-sqrt(n - 1), and 1 / sqrt(n - 1) the other way elsewhere; of a second of the other sign, which leaves the mean 0, both are sqrt(n / 2).
TYPED_TEST(Scales, Row46OneSmallElementAmongZeros) {
  using S = typename TypeParam::Scalar;
  const S small = static_cast<S>(std::is_same_v<S, float> ? 1e-30 : 1e-200);
  support::at_each_level([&](tn::kernels::Level) {
    for_each_schedule<TypeParam>(0, [&]<class Tensor>(const auto& layer, const ShapedNorm& norm) {
      if (name_of(layer) == "RMSNorm") return;
      const auto y_of = [&](const std::vector<S>& x) {
        auto other = layer;
        return logical(other(support::tensor_of<Tensor>(norm.of_x, x)));
      };
      auto x = values_of<S>(norm.size(), 1);
      const auto ordinary = y_of(x);
      std::vector<std::size_t> elements;
      for (std::size_t i = 0; i < x.size(); ++i)
        if (norm.statistic(i) == norm.statistic(x.size() - 1)) elements.push_back(i);
      for (const std::size_t i : elements) x[i] = 0;
      const double n = double(elements.size());
      const auto expect = [&](double at_first, double at_second, double elsewhere, std::size_t first, std::size_t second) {
        const auto y = y_of(x);
        for (std::size_t i = 0; i < x.size(); ++i) {
          if (norm.statistic(i) != norm.statistic(elements[0])) {
            ASSERT_EQ(y[i], ordinary[i]) << i;
          } else {
            const double value = i == elements[first] ? at_first : i == elements[second] ? at_second : elsewhere;
            ASSERT_NEAR(double(y[i]), value, 4 * std::numeric_limits<S>::epsilon() * std::sqrt(n)) << i;
          }
        }
      };
      expect(0, 0, 0, 0, 0);
      for (const std::size_t first : {std::size_t{0}, elements.size() / 2, elements.size() - 1}) {
        const std::size_t second = (first + elements.size() / 3) % elements.size();
        x[elements[first]] = small;
        expect(std::sqrt(n - 1), -1 / std::sqrt(n - 1), -1 / std::sqrt(n - 1), first, second);
        x[elements[second]] = -small;
        expect(std::sqrt(n / 2), -std::sqrt(n / 2), 0, first, second);
        x[elements[first]] = x[elements[second]] = 0;
      }
    });
  });
}

// Of two statistics side by side the ordinary one comes out as it does alone.
TYPED_TEST(Scales, Rows44To46OrdinaryNeighboursKeepTheirBits) {
  using S = typename TypeParam::Scalar;
  support::at_each_level([](tn::kernels::Level) {
    for_each_schedule<TypeParam>(1e-5, [&]<class Tensor>(const auto& layer, const ShapedNorm& norm) {
      auto x = values_of<S>(norm.size(), 1);
      auto unscaled = layer;
      const auto expected = logical(unscaled(support::tensor_of<Tensor>(norm.of_x, x)));
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t s = norm.statistic(i);
        if (s % 3 == 1) x[i] = static_cast<S>(x[i] * scales<S>().back());
        if (s % 3 == 2) x[i] = static_cast<S>(x[i] * scales<S>().front());
      }
      auto other = layer;
      const auto actual = logical(other(support::tensor_of<Tensor>(norm.of_x, x)));
      for (std::size_t i = 0; i < x.size(); ++i)
        if (norm.statistic(i) % 3 == 0) {
          ASSERT_EQ(actual[i], expected[i]) << i;
        }
      expect_forward<Tensor>(layer, norm, x);
    });
  });
}

// Rows of several chunks, of which each is ordinary, large, small or constant.
TYPED_TEST(Scales, Row45ChunksOfDifferentScales) {
  using S = typename TypeParam::Scalar;
  const double large = scales<S>().back() / 3, small = scales<S>().front();
  const reference::Norm norm{{1, 5 * 4096}, {reference::Role::kept, reference::Role::reduced_affine}, Real(0)};
  const std::vector<std::vector<double>> orders{
      {0, small, 0, small, 0}, {small, 1, small, large, 1}, {large, small, 0, 1, large}, {0, 0, 1, small, 0}};
  for (const auto& order : orders) {
    auto x = values_of<S>(norm.size(), 1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<S>(x[i] * order[i / 4096]);
    expect_forward<typename TypeParam::template Tensor<2>>(tn::LayerNorm<S>(5 * 4096, {.eps = 0}), norm, x);
  }
  std::vector<S> steps(std::size_t(norm.size()));
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = static_cast<S>(i / 4096 % 2 == 0 ? large : -large);
  expect_forward<typename TypeParam::template Tensor<2>>(tn::LayerNorm<S>(5 * 4096, {.eps = 0}), norm, steps);
}

// The slices of a statistic are added up about one pivot, where that serves.
TYPED_TEST(Scales, Row45SlicesOfDifferentScales) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<4>;
  const double large = scales<S>().back() / 3, small = scales<S>().front();
  for (const Index side : {7, 14, 28}) {
    const reference::Norm norm{{4, 2, side, side}, reference::roles_of("rKrr"), Real(0)};
    const std::vector<std::vector<double>> orders{{1, 1, 1, 1},         {0, 1, 1, 1},     {1, 0, 0, 0},         {0, 0, 0, 1},
                                                  {0, small, 0, small}, {1, 1, 1, large}, {small, 1, 1, large}, {large, small, 0, 1}};
    for (const auto& order : orders)
      for (const auto& means : {std::vector<double>{0, 0, 0, 0}, {0, 1e4, 1e4, 1e4}, {1e4, 0, 0, 1}}) {
        SCOPED_TRACE(testing::PrintToString(order) + " about " + testing::PrintToString(means));
        auto x = values_of<S>(norm.size(), 1);
        for (std::size_t i = 0; i < x.size(); ++i) {
          const std::size_t image = i / std::size_t(2 * side * side);
          x[i] = static_cast<S>(x[i] * order[image] + means[image]);
        }
        expect_forward<Tensor>(tn::BatchNorm2d<S>(2, {.eps = 0}), norm, x);
      }
  }
}

template <class S>
long double ulps_apart(S actual, long double expected) {
  return std::abs(actual - expected) / std::ldexp(static_cast<long double>(std::numeric_limits<S>::epsilon()), std::ilogb(expected));
}

/// By how many ulp the running variance of slices of equal numbers each is off.
template <class S>
long double ulp_of_variance(const std::vector<S>& of_slices, Index length) {
  const Index slices = Index(of_slices.size());
  Eigen::Tensor<S, 3, Eigen::RowMajor> x(slices, 2, length), y(slices, 2, length);  // of one channel they would be one
  x.setZero();
  long double mean = 0, m2 = 0;
  for (Index i = 0; i < slices; ++i) {
    mean += static_cast<long double>(of_slices[std::size_t(i)]) / static_cast<long double>(slices);
    for (Index k = 0; k < length; ++k) x(i, 0, k) = of_slices[std::size_t(i)];
  }
  for (const S value : of_slices) m2 += (value - mean) * (value - mean);
  tn::BatchNorm1d<S> layer(2, {.eps = 0, .momentum = 1.0});
  layer.forward(x, y);
  const long double n = static_cast<long double>(slices * length), variance = m2 * static_cast<long double>(length) / (n - 1);
  return ulps_apart(layer.running_var()(0), variance);
}

// Squares of slices that hardly vary are all rounded the same way: they are added up about their own mean, but those of 32, which are joined.
TEST(Slices, OfEqualNumbersEachHaveTheVarianceBetweenThem) {
  const auto expect_variance = [](auto one) {
    using S = decltype(one);
    for (const Index length : {32, 81, 144, 196, 256, 289, 400, 512, 518, 529, 1000})
      for (unsigned seed = 1; seed <= 40; ++seed) {
        const Index slices = std::max<Index>(3, length / (seed % 2 == 0 ? 5 : 9)), different = seed % 3 == 0 ? slices : seed % 3 + 1;
        const auto value = support::random_values<S>(different, seed, seed % 5 == 0 ? 100 : 0, 1.0);
        std::vector<S> of_slices;
        for (Index i = 0; i < slices; ++i) of_slices.push_back(value[std::size_t(seed % 7 < 3 ? i * different / slices : i % different)]);
        EXPECT_LE(ulp_of_variance(of_slices, length), sizeof(S) == 4 && length > 32 ? 1 : 4) << slices << " of " << length << ", seed " << seed;
      }
  };
  support::at_each_level([&](tn::kernels::Level) {
    expect_variance(1.0F);
    expect_variance(1.0);
  });
}

// Of a long slice no more than a block is added up at once.
TEST(Slices, OfTwoNumbersEachHaveTheirVariance) {
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index side : {20, 31})
      for (const float one : {0x1.e64230p+0F, 1.7F, 0.3F}) {
        Eigen::Tensor<float, 4, Eigen::RowMajor> x(4, 2, side, side + 1), y(4, 2, side, side + 1);
        for (Index i = 0; i < x.size(); ++i) x.data()[i] = i % 2 == 0 ? one : -one;
        tn::BatchNorm2d<float> layer(2, {.eps = 0, .momentum = 1.0});
        layer.forward(x, y);
        const double n = double(x.size() / 2), variance = double(one) * double(one) * n / (n - 1);
        EXPECT_LE(std::abs(double(layer.running_var()(0)) - variance) / std::ldexp(0x1p-23, std::ilogb(variance)), 4) << side << ' ' << one;
      }
  });
}

/// By how many ulp the running variance of a row is off, of n numbers of which `few`, `apart` from each other, are one and all else the other.
/// One channel is one row.
template <class S>
long double ulp_of_variance(Index n, Index few, Index apart, S one, S other) {
  Eigen::Tensor<S, 3, Eigen::RowMajor> x(1, 1, n), y(1, 1, n);
  x.setConstant(other);
  for (Index k = 0; k < few; ++k) x(0, 0, k * apart) = one;
  tn::BatchNorm1d<S> layer(1, {.eps = 0, .momentum = 1.0});
  layer.forward(x, y);
  const long double distance = static_cast<long double>(one) - static_cast<long double>(other), of_one = static_cast<long double>(few);
  const long double of_other = static_cast<long double>(n - few), all = of_one + of_other;
  return ulps_apart(layer.running_var()(0), distance * distance * of_one * of_other / (all * (all - 1)));
}

// The squares of one of two numbers are all rounded the same way, beside few large ones as well.
TEST(ScalesOfRows, OfTwoNumbersHaveTheVarianceBetweenThem) {
  const auto expect_variance = [](auto one) {
    using S = decltype(one);
    for (const Index n : {100, 154, 199, 219, 256, 289, 400, 508, 512, 816, 1000, 3000, 4096, 5034})
      for (const auto& [few, apart] : {std::pair<Index, Index>(1, 1), {9, 1}, {n / 20, 1}, {n * 11 / 20, 1}, {3, 8}, {4, 8}}) {
        const auto values = support::random_values<S>(600, unsigned(n + few), 0, 1.0);
        for (std::size_t i = 0; i < values.size(); i += 2)
          ASSERT_LE(ulp_of_variance(n, few, apart, values[i], values[i + 1]), sizeof(S) == 4 ? 7.5 : 7) << few << " of " << n << ", pair " << i;
      }
  };
  support::at_each_level([&](tn::kernels::Level) {
    expect_variance(1.0F);
    expect_variance(1.0);
    EXPECT_LE(ulp_of_variance(199, 3, 8, 0x1.e5141b6f5e949p-1, -0x1.e4fa8e4bf0419p-2), 6);
    EXPECT_LE(ulp_of_variance(154, 1, 1, 0x1.e6a970e5f18d9p+0, -0x1.31756d18e1f34p+0), 6);
    EXPECT_LE(ulp_of_variance(151, 4, 1, 0x1.49db5d60f9e6bp-5, 0x1.1fd7d0eeee0e8p+0), 6);
    EXPECT_LE(ulp_of_variance(219, 4, 8, -0x1.82ac14af984e7p-2, 0x1.1a048da3862c4p-2), 6);
  });
}

/// By how many ulp the running variance of a column is off at most. Of its n rows every second run of `period` rows is `one`, the first `few`
/// where that is 0; all others are the other.
template <class S>
long double worst_ulp_of_columns(Index n, Index columns, Index few, Index period, S one, S other) {
  Eigen::Tensor<S, 2, Eigen::RowMajor> x(n, columns), y(n, columns);
  long double of_one = 0;
  for (Index i = 0; i < n; ++i) {
    const bool is_one = period > 0 ? i / period % 2 == 0 : i < few;
    of_one += is_one ? 1 : 0;
    for (Index c = 0; c < columns; ++c) x(i, c) = is_one ? one : other;
  }
  tn::BatchNorm1d<S> layer(columns, {.eps = 0, .momentum = 1.0});
  layer.forward(x, y);
  const long double distance = static_cast<long double>(one) - static_cast<long double>(other), all = static_cast<long double>(n);
  long double most = 0;
  for (Index c = 0; c < columns; ++c)
    most = std::max(most, ulps_apart(layer.running_var()(c), distance * distance * of_one * (all - of_one) / (all * (all - 1))));
  return most;
}

// Neither the numbers less the pivot nor their squares are added up in a long sum.
TEST(ScalesOfColumns, OfTwoNumbersHaveTheVarianceBetweenThem) {
  const auto expect_variance = [](auto number) {
    using S = decltype(number);
    for (const Index n : {33, 77, 206, 464, 1072})
      for (const Index columns : {3, 16, 37})
        for (const auto& [few, period] : {std::pair<Index, Index>(n / 12, 0), {n / 2, 0}, {0, 1}, {0, 3}, {0, 8}}) {
          const auto values = support::random_values<S>(100, unsigned(n + columns), 0, 1.0);
          for (std::size_t i = 0; i < values.size(); i += 2)
            ASSERT_LE(worst_ulp_of_columns(n, columns, few, period, values[i], values[i + 1]), 5)
                << columns << " columns of " << n << " rows, the first " << few << " or runs of " << period << ", pair " << i;
        }
  };
  support::at_each_level([&](tn::kernels::Level) {
    expect_variance(1.0F);
    expect_variance(1.0);
  });
}

// Those that the pivot is made of need not lie where the others do, which are then added up once more, or vary as much.
TEST(Slices, MayLieFarFromThoseThePivotIsMadeOf) {
  for (const double mean : {3.0, 1000.0, 1e6})
    for (const Index side : {11, 14, 28})
      for (const Index slices : {20, 32}) {
        const reference::Norm norm{{slices, 2, side, side}, reference::roles_of("rKrr"), Real(0)};
        auto x = values_of<float>(norm.size(), 1);
        const std::size_t image = std::size_t(2 * side * side), every = std::size_t(slices / 4);
        for (std::size_t i = 0; i < x.size(); ++i)
          if (i / image % every != 0) x[i] = static_cast<float>(x[i] + mean);
          else if (mean > 1e5) x[i] = 0;
        expect_forward<Eigen::Tensor<float, 4, Eigen::RowMajor>>(tn::BatchNorm2d<float>(2, {.eps = 0}), norm, x);
      }
}

// Each half is equal to its pivot; the variance is that between them, and in double it is below every number.
TEST(ScalesOfChunks, Row46ChunksOfEqualElements) {
  const auto expect_signs = [](auto small) {
    using S = decltype(small);
    Eigen::Tensor<S, 2, Eigen::RowMajor> x(1, 8192), y(1, 8192);
    for (int i = 0; i < 8192; ++i) x(0, i) = i < 4096 ? S(0) : small;
    tn::LayerNorm<S>(8192, {.eps = 0}).forward(x, y);
    EXPECT_EQ(y(0, 0), S(-1));
    EXPECT_EQ(y(0, 8191), S(1));
  };
  expect_signs(0x1p-100F);
  expect_signs(0x1p-700);
}

// dx is as large as 1 / deviation, and the parameters' gradients as those of any other scale: also where dx is beyond
// the largest number, if the statistics' type still holds 1 / deviation.
TYPED_TEST(Scales, Rows45And46GradientsAreRightWhereTheyCanBe) {
  using S = typename TypeParam::Scalar;
  using Limits = std::numeric_limits<S>;
  for (const double eps : {0.0, 1e-5})
    for (const double scale : scales<S>()) {
      const bool fits = scale >= 8 * double(Limits::min());  // 1 / scale is below the largest number
      if (!fits && sizeof(S) == 8) continue;
      SCOPED_TRACE(testing::Message() << "scale " << scale << ", eps " << eps);
      for_each_schedule<TypeParam>(eps, [&]<class Tensor>(auto layer, const ShapedNorm& norm) {
        const auto x = values_of<S>(norm.size(), scale), dy = support::random_values<S>(norm.size(), 5);
        layer.weight().setConstant(S(1.5));
        const Values weight(std::size_t(norm.parameters()), Real(1.5)), real = reference::real(x),
                                                                        g = reference::real(dy);
        const Tensor input = support::tensor_of<Tensor>(norm.of_x, x),
                     gradient = support::tensor_of<Tensor>(norm.of_x, dy);
        const auto statistics = reference::moments(norm, real);
        const auto expected = reference::backward(norm, g, real, weight, statistics, false);
        auto terms = ulps<S>(8, reference::terms_of_dx(norm, g, real, weight, statistics));
        for (Real& term : terms) term += 4 * Real(Limits::denorm_min());
        const auto sums =
            ulps<S>(8, reference::terms_of_parameters(norm, g, reference::normalized(norm, real, statistics)));
        support::at_each_level([&](tn::kernels::Level) {
          Tensor y = support::sized<Tensor>(norm.of_x);
          tn::SavedStats<S> saved;
          layer.forward(input, y, saved);
          const auto actual = layer.backward(gradient, input, saved);
          EXPECT_TRUE(all_near(logical(actual.dweight), expected.dweight, sums));
          if (name_of(layer) != "RMSNorm") {
            EXPECT_TRUE(all_near(logical(actual.dbias), expected.dbias, sums));
          }
          if (!fits) return;
          EXPECT_TRUE(all_near(logical(actual.dx), expected.dx, terms));
          Tensor dx = support::sized<Tensor>(norm.of_x);
          layer.backward_from_output(gradient, y, saved, dx, tn::none);
          auto rounded = terms;  // y is rounded, and divided by weight
          for (Real& term : rounded) term *= 2;
          EXPECT_TRUE(all_near(logical(dx), expected.dx, rounded));
        });
      });
    }
}

// Equal numbers: rstd, which is all that their dx is made of, has a square beyond the largest number.
TEST(ScalesOfGradients, Row42OfAnEpsWhoseInverseCannotBeSquared) {
  for (const auto to : {tn::EpsAddedTo::variance, tn::EpsAddedTo::deviation}) {
    const bool squared = to == tn::EpsAddedTo::variance;
    const double eps = squared ? 1e-300 : 5.853668800337481e-192, rstd = 1 / (squared ? std::sqrt(eps) : eps);
    tn::LayerNorm<double> layer(7, {.eps = eps, .eps_added_to = to});
    Eigen::Tensor<double, 2, Eigen::RowMajor> x(1, 7), y(1, 7), dy(1, 7);
    x.setConstant(5);
    dy.setZero();
    dy(0, 0) = 1;
    tn::SavedStats<double> saved;
    layer.forward(x, y, saved);
    const auto dx = layer.backward(dy, x, saved).dx;
    for (Index i = 0; i < 7; ++i) EXPECT_NEAR(dx(0, i) / rstd, (i == 0 ? 6.0 : -1.0) / 7, 1e-12) << i;
  }
}

// dx is little more than the smallest normal number, and has the digits that are left at that size.
TEST(ScalesOfGradients, Row45AtTheLargestDeviation) {
  const auto expect_digits = [](auto deviation) {
    using S = decltype(deviation);
    const reference::Norm norm{{1, 96}, reference::roles_of("kR"), Real(0)};
    std::vector<S> x;
    for (int i = 0; i < 96; ++i) x.push_back(deviation * S(i * i % 7 - 3));
    const auto dy = support::random_values<S>(96, 5);
    using Tensor = Eigen::Tensor<S, 2, Eigen::RowMajor>;
    const auto input = support::tensor_of<Tensor>(norm.shape, x), gradient = support::tensor_of<Tensor>(norm.shape, dy);
    Tensor y(1, 96);
    tn::LayerNorm<S> layer(96, {.eps = 0});
    tn::SavedStats<S> saved;
    layer.forward(input, y, saved);
    const auto expected = reference::backward(norm, reference::real(dy), reference::real(x), Values(96, 1),
                                              reference::moments(norm, reference::real(x)), false);
    EXPECT_TRUE(all_near(logical(layer.backward(gradient, input, saved).dx), expected.dx,
                         ulps<S>(2, support::largest(expected.dx)) + 4 * Real(std::numeric_limits<S>::denorm_min())));
  };
  expect_digits(1e38F);
  expect_digits(5e307);
}

// y of the channel is NaN, as its variance; its mean is infinite. Everything else keeps its bits. As PyTorch has it.
TYPED_TEST(Scales, Row39OneInfiniteElement) {
  using S = typename TypeParam::Scalar;
  support::at_each_level([](tn::kernels::Level) {
    for_each_schedule<TypeParam>(1e-5, [&]<class Tensor>(const auto& layer, const ShapedNorm& norm) {
      if (name_of(layer) == "RMSNorm") return;
      const auto clean = values_of<S>(norm.size(), 1.5, 0.5);
      auto first = layer;
      const auto expected = logical(first(support::tensor_of<Tensor>(norm.of_x, clean)));
      const std::size_t size = clean.size();
      for (const std::size_t at : {std::size_t{0}, std::size_t{1}, size / 3, size / 2 + 7, size - 1})
        for (const double bad : {kInf, -kInf}) {
          auto x = clean;
          x[at] = S(bad);
          auto spoiled = layer;
          const auto y = logical(spoiled(support::tensor_of<Tensor>(norm.of_x, x)));
          for (std::size_t i = 0; i < size; ++i) {
            if (norm.statistic(i) == norm.statistic(at)) {
              ASSERT_TRUE(std::isnan(y[i])) << at << " " << i;
            } else {
              ASSERT_EQ(y[i], expected[i]) << at << " " << i;
            }
          }
          if constexpr (requires { spoiled.running_stats(); }) {
            if (!spoiled.track_running_stats()) continue;
            for (Index c = 0; c < spoiled.num_features(); ++c) {
              if (c == Index(norm.parameter(at))) {
                EXPECT_EQ(spoiled.running_mean()(c), S(bad)) << at;
                EXPECT_TRUE(std::isnan(spoiled.running_var()(c))) << at;
              } else {
                EXPECT_TRUE(spoiled.running_mean()(c) == first.running_mean()(c) &&
                            spoiled.running_var()(c) == first.running_var()(c));
              }
            }
          }
        }
    });
  });
}

}  // namespace
