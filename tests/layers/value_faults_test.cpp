// SPDX-License-Identifier: MIT
// Part C of the table of faults, whose rows faults_test lists: values. Accuracy is the tests of kernels and tests/accuracy.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/reference.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::same_bits;

using namespace faults;

template <class Kind>
class Faults : public testing::Test {};
TYPED_TEST_SUITE(Faults, FaultKinds, support::KindNames);

// Rows 38 and 39; and the redo of a bad pivot, too, is its channel's own affair. `layer_of(c)`: the same layer again and again.
template <class LayerOf, class X>
void expect_one_spoiled_channel(const LayerOf& layer_of, const X& clean) {
  using S = typename X::Scalar;
  const Index channels = clean.dimension(1), channel = channels / 2;
  auto layer = layer_of(channels);
  const auto y = layer(clean);
  for (const double bad : {kNaN, kInf, -kInf, sizeof(S) == 2 ? 6e4 : 1e6}) {
    SCOPED_TRACE(bad);
    auto spoiled = clean;
    support::Shape at(support::shape_of(clean).size(), 0);
    at[0] = clean.dimension(0) - 1;
    at[1] = channel;
    support::coefficient(spoiled, at) = S(bad);
    auto other = layer_of(channels);
    const auto got = other(spoiled);
    for (Index flat = 0; flat < clean.size(); ++flat) {
      const auto place = support::coordinates(flat, support::shape_of(clean));
      const S value = support::coefficient(got, place), before = support::coefficient(y, place);
      if (place[1] != channel) {
        ASSERT_EQ(std::memcmp(&value, &before, sizeof value), 0) << "at " << flat;
      } else if (!std::isfinite(bad)) {
        ASSERT_TRUE(std::isnan(static_cast<double>(value))) << "at " << flat;
      }
    }
    for (Index c = 0; c < channels; ++c) {
      const auto mean = other.running_mean()(c), variance = other.running_var()(c);
      if (c != channel) {
        ASSERT_TRUE(mean == layer.running_mean()(c) && variance == layer.running_var()(c)) << c;
      } else if (!std::isfinite(bad)) {
        EXPECT_TRUE(std::isnan(bad) ? std::isnan(mean) : static_cast<double>(mean) == bad) << mean;
        EXPECT_TRUE(std::isnan(variance)) << variance;
      }
    }
  }
}

TYPED_TEST(Faults, Rows38And39OneChannelSpoiledLeavesTheOthersAlone) {
  using S = typename TypeParam::Scalar;
  const auto of_vectors = [](Index c) { return tn::BatchNorm1d<S>(c); };
  const auto of_images = [](Index c) { return tn::BatchNorm2d<S>(c); };
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index c : {1, 3, 17, 40, 600}) {
      expect_one_spoiled_channel(of_vectors, random_tensor<typename TypeParam::template Tensor<2>>({50, c}));
      expect_one_spoiled_channel(of_images, random_tensor<typename TypeParam::template Tensor<4>>({5, c, 7, 7}));
    }
    expect_one_spoiled_channel(of_images, random_tensor<typename TypeParam::template Tensor<4>>({2, 3, 40, 40}));
  });
}

template <class Kind>
class NarrowFaults : public testing::Test {};
using NarrowFaultKinds = testing::Types<support::Kind<Eigen::bfloat16, Eigen::RowMajor>, support::Kind<Eigen::half, Eigen::ColMajor>>;
TYPED_TEST_SUITE(NarrowFaults, NarrowFaultKinds, support::KindNames);

TYPED_TEST(NarrowFaults, Rows38And39OneChannelSpoiledLeavesTheOthersAlone) {
  using S = typename TypeParam::Scalar;
  const auto of_vectors = [](Index c) { return tn::BatchNorm1d<S>(c); };
  const auto of_images = [](Index c) { return tn::BatchNorm2d<S>(c); };
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index c : {3, 40, 257}) {
      expect_one_spoiled_channel(of_vectors, random_tensor<typename TypeParam::template Tensor<2>>({50, c}));
      expect_one_spoiled_channel(of_images, random_tensor<typename TypeParam::template Tensor<4>>({5, c, 7, 7}));
    }
  });
}

// Columns beside spoiled ones are added up again with them, tile by tile, and come out as they were.
TYPED_TEST(Faults, Rows38And39OrdinaryChannelsBetweenSpoiledOnes) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  struct Results {
    Tensor y, dx;
    typename tn::BatchNorm1d<S>::Gradients gradients;
  };
  const auto results = [](const Tensor& x, const Tensor& dy) {
    tn::BatchNorm1d<S> layer(x.dimension(1));
    Results r{Tensor(x.dimensions()), Tensor(x.dimensions()), layer.zero_gradients()};
    tn::SavedStats<S> saved;
    layer.forward(x, r.y, saved);
    layer.backward(dy, x, saved, r.dx, r.gradients);
    return r;
  };
  for (const auto& [rows, channels] : {std::pair<Index, Index>{1000, 600}, {3000, 20}, {1100, 37}}) {
    const Tensor clean = random_tensor<Tensor>({rows, channels}), dy = random_tensor<Tensor>({rows, channels});
    const Results expected = results(clean, dy);
    for (const S bad : {S(kInf), sizeof(S) == 8 ? S(1e250) : S(1e30)}) {
      Tensor x = clean;
      for (const Index channel : {Index{0}, channels - 1})
        for (Index r = 0; r < rows; ++r) x(r, channel) = std::isfinite(bad) ? x(r, channel) * bad : r == 7 ? bad : x(r, channel);
      const Results actual = results(x, dy);
      for (Index c = 1; c + 1 < channels; ++c) {
        ASSERT_EQ(actual.gradients.weight(c), expected.gradients.weight(c)) << c;
        ASSERT_EQ(actual.gradients.bias(c), expected.gradients.bias(c)) << c;
        for (Index r = 0; r < rows; ++r) {
          ASSERT_EQ(actual.y(r, c), expected.y(r, c)) << r << ", " << c;
          ASSERT_EQ(actual.dx(r, c), expected.dx(r, c)) << r << ", " << c;
        }
      }
    }
  }
}

TYPED_TEST(Faults, Row41OneInfiniteElementOfAnRmsNormRow) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  for (const Index n : {5, 16, 100, 5000}) {
    tn::RMSNorm<S> layer(n);
    const Tensor clean = random_tensor<Tensor>({3, n}), expected = layer(clean);
    for (const double infinity : {kInf, -kInf}) {
      Tensor x = clean;
      x(1, 3) = S(infinity);
      const Tensor y = layer(x);
      for (Index i = 0; i < n; ++i) {
        EXPECT_EQ(y(0, i), expected(0, i));
        EXPECT_EQ(y(2, i), expected(2, i));
        if (i == 3) EXPECT_TRUE(std::isnan(y(1, i)));
        else EXPECT_EQ(y(1, i), S(0));
      }
    }
  }
}

TYPED_TEST(Faults, Row40InEvalModeOnlyTheElementItselfIsSpoiled) {
  using S = typename TypeParam::Scalar;
  const auto check = [](auto layer, const auto& clean) {
    layer(clean);  // every channel has statistics and parameters of its own
    for (Index c = 0; c < layer.num_features(); ++c) {
      layer.weight()(c) = S(0.5) + S(0.25) * S(c);
      layer.bias()(c) = S(c);
    }
    layer.eval();
    const auto expected = support::logical(layer(clean));
    const support::Shape shape = support::shape_of(clean);
    for (const S bad : {S(kNaN), S(kInf), S(-kInf)})
      for (const Index flat : {Index{0}, clean.size() / 2, clean.size() - 1}) {
        auto x = clean;
        support::coefficient(x, support::coordinates(flat, shape)) = bad;
        auto got = support::logical(layer(x));
        const auto at = static_cast<std::size_t>(flat);
        EXPECT_TRUE(std::isnan(bad) ? std::isnan(got[at]) : got[at] == bad) << bad << " became " << got[at];
        got[at] = expected[at];
        EXPECT_TRUE(same_bits(got, expected)) << bad << " at " << flat;
      }
  };
  const auto images = random_tensor<typename TypeParam::template Tensor<4>>({2, 3, 5, 7});
  check(tn::BatchNorm2d<S>(3), images);
  check(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(7), images);
  check(tn::InstanceNorm2d<S>(3, {.affine = true, .track_running_stats = true}), images);
  check(tn::BatchNorm1d<S>(41), random_tensor<typename TypeParam::template Tensor<2>>({9, 41}));
}

TYPED_TEST(Faults, Rows42And43AConstantIsTheBias) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    if (name_of(layer) == "RMSNorm") return;
    if constexpr (requires { layer.bias(); }) layer.bias().setConstant(S(0.3));
    for (const S value : {S(0), S(7.7e5), S(0.1), S(-1e-20)}) {
      auto constant = x;
      constant.setConstant(value);
      EXPECT_TRUE(same_bits(support::logical(layer(constant)), std::vector<S>(std::size_t(x.size()), S(0.3)))) << value;
    }
  });
}

// What float holds of deviations of 1 about a million are sixteenths. y is that of the stored numbers.
TYPED_TEST(Faults, Row47AMeanOfAMillionDeviations) {
  using S = typename TypeParam::Scalar;
  const auto check = [](auto layer, const auto& near_zero, const std::string& letters) {
    auto x = near_zero;
    for (Index i = 0; i < x.size(); ++i) x.data()[i] += S(1e6);
    const auto norm = norm_of(layer, support::shape_of(x), letters);
    const auto real_x = reference::real(support::logical(x));
    const auto expected = reference::normalized(norm, real_x, reference::moments(norm, real_x));
    EXPECT_TRUE(support::all_near(support::logical(layer(x)), expected, support::ulps<S>(2, support::largest(expected))))
        << text_of(layer);
  };
  support::at_each_level([&](tn::kernels::Level) {
    for_each_layer<TypeParam>([&](const auto& layer, const auto& x) { check(layer, x, ""); });
    const auto of_order = [&]<int kOrder>() {
      const auto images = random_tensor<Eigen::Tensor<S, 4, kOrder>>({4, 9, 11, 37});
      check(tn::BatchNorm2d<S>(9), images, "");
      check(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(37), images, "rrrK");
      check(tn::BatchNorm1d<S>(37), random_tensor<Eigen::Tensor<S, 2, kOrder>>({4001, 37}), "");
      check(tn::LayerNorm<S>(4001), random_tensor<Eigen::Tensor<S, 3, kOrder>>({2, 2, 4001}), "");
    };
    of_order.template operator()<Eigen::RowMajor>();
    of_order.template operator()<Eigen::ColMajor>();
  });
}

// Half of it goes with every batch of equal numbers, until it is denormal, and 0. eps is what is divided by then, forward and backward.
TYPED_TEST(Faults, Row52ARunningVarianceThatDecays) {
  using S = typename TypeParam::Scalar;
  using Matrix = typename TypeParam::template Tensor<2>;
  tn::BatchNorm1d<S> layer(3, {.momentum = 0.5});
  Matrix equal(4, 3), x(4, 3), y(4, 3), dx(4, 3);
  equal.setConstant(S(2));
  x.setConstant(S(3));
  bool denormal = false;
  for (int i = 0; i < 1200; ++i) {
    layer(equal);
    denormal |= layer.running_var()(1) > 0 && layer.running_var()(1) < std::numeric_limits<S>::min();
    std::as_const(layer).infer(x, y);
    for (const S value : support::logical(y)) ASSERT_TRUE(std::isfinite(value)) << i;
  }
  EXPECT_TRUE(denormal);
  EXPECT_EQ(support::logical(layer.running_var()), (std::vector<S>{0, 0, 0}));
  layer.eval();
  tn::SavedStats<S> saved;
  layer.forward(x, y, saved);
  layer.backward(x, x, saved, dx, tn::none);
  const std::vector<long double> rstd(12, 1 / std::sqrt(static_cast<long double>(layer.eps()))), thrice(12, 3 * rstd[0]);
  EXPECT_TRUE(support::all_near(support::logical(y), rstd, support::ulps<S>(1, rstd)));
  EXPECT_TRUE(support::all_near(support::logical(dx), thrice, support::ulps<S>(1, thrice)));
}

// Multiples of 2^-10 about 100: sums of them, and of their squares' distances, are exact in integers.
TYPED_TEST(Faults, Row48SixteenMillionNumbersFarFromZero) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  const auto check = [](Index rows, Index columns, auto axes, Index statistics, Index step) {
    Tensor x(rows, columns);
    std::vector<std::int64_t> sum(static_cast<std::size_t>(statistics)), squares(sum);
    std::uint32_t random = 1;
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c) {
        random = random * 1664525U + 1013904223U;
        const auto offset = std::int64_t(random >> 20) - 2048;
        x(r, c) = static_cast<S>(100 + double(offset) / 1024);
        const auto k = std::size_t(step == 0 ? r : c);
        sum[k] += offset;
        squares[k] += offset * offset;
      }
    const auto actual = tn::moments(x, axes);
    const auto n = static_cast<long double>(rows * columns / statistics);
    for (Index k = 0; k < statistics; ++k) {
      const long double mean = static_cast<long double>(sum[std::size_t(k)]) / n;
      const long double variance = (static_cast<long double>(squares[std::size_t(k)]) / n - mean * mean) / (1024.0L * 1024.0L);
      EXPECT_NEAR(double(actual.mean(k) - (100 + mean / 1024)), 0, double(support::ulps<S>(1, 100)));
      EXPECT_NEAR(double(actual.variance(k) - variance), 0, double(support::ulps<S>(4, variance)));
    }
  };
  check(1, Index{1} << 24, tn::over<1>, 1, 0);
  check(Index{1} << 23, 2, tn::over<0>, 2, 1);
}

// y = +-0 * weight + bias, by the sign rules of IEEE 754: what PyTorch's formula gives where the mean is 0.
TYPED_TEST(Faults, Row54TheSignOfZero) {
  using S = typename TypeParam::Scalar;
  typename TypeParam::template Tensor<4> zeros(2, 6, 5, 7);
  for (Index i = 0; i < zeros.size(); ++i) zeros.data()[i] = i % 3 == 0 ? S(-0.0) : S(0);
  const std::vector<S> x = support::logical(zeros);
  const auto check = [&](auto layer, bool has_bias) {
    std::vector<S> expected = x;
    auto training = layer;  // whose running statistics move
    EXPECT_TRUE(same_bits(support::logical(training(zeros)), expected)) << layer << " in training";
    layer.eval();
    EXPECT_TRUE(same_bits(support::logical(layer(zeros)), expected)) << layer;
    for (const S weight : {S(1.5), S(-2)})
      for (const S bias : {S(0), S(-0.0)}) {
        layer.weight().setConstant(weight);
        if constexpr (requires { layer.bias(); }) {
          if (has_bias) layer.bias().setConstant(bias);
        }
        for (std::size_t i = 0; i < x.size(); ++i) expected[i] = has_bias ? x[i] * weight + bias : x[i] * weight;
        EXPECT_TRUE(same_bits(support::logical(layer(zeros)), expected)) << layer << ' ' << weight << ' ' << bias;
      }
  };
  const auto with_negative_bias = [](auto layer) {
    layer.bias().setConstant(S(-0.0));  // +-0 * 1 + -0 is the +-0 itself
    return layer;
  };
  check(with_negative_bias(tn::BatchNorm2d<S>(6)), true);
  check(with_negative_bias(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(7)), true);
  check(with_negative_bias(tn::LayerNorm<S>({7})), true);
  check(with_negative_bias(tn::LayerNorm<S, 3>({6, 5, 7})), true);
  check(with_negative_bias(tn::GroupNorm<S>(3, 6)), true);
  check(with_negative_bias(tn::InstanceNorm2d<S>(6, {.affine = true})), true);
  check(tn::LayerNorm<S>(7, {.bias = false}), false);
  check(tn::RMSNorm<S>({7}), false);
  tn::BatchNorm2d<S> plain(6, {.affine = false});
  plain.eval();
  EXPECT_TRUE(same_bits(support::logical(plain(zeros)), x));
  EXPECT_TRUE(same_bits(support::logical(tn::InstanceNorm2d<S>(6)(zeros)), x)) << "without parameters";
}

}  // namespace
