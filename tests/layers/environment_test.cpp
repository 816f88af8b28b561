// SPDX-License-Identifier: MIT
// Rows 82 to 84 of the table of faults: floating-point environments that are not the default one. Every layer, forward
// and backward, is right in them as far as they allow, and leaves them as they were.
#include <gtest/gtest.h>

#include <array>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <type_traits>
#include <vector>

#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/reference.hpp"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

using namespace faults;
using support::largest;
using support::logical;
using support::ulps;

using EnvironmentKinds = testing::Types<support::Kind<float, Eigen::RowMajor>, support::Kind<double, Eigen::ColMajor>,
                                        support::Kind<Eigen::half, Eigen::RowMajor>>;
template <class Kind>
class Environment : public testing::Test {};
TYPED_TEST_SUITE(Environment, EnvironmentKinds, support::KindNames);

/// By their names: each is judged by its own scale.
using Results = std::map<std::string, std::vector<double>>;

/// Everything a layer computes from x and dy, by every schedule it has.
template <class Layer, class X>
Results results_of(Layer layer, const X& x, const X& dy) {
  Results all;
  const auto keep = [&](const char* name, const auto& tensor) {
    for (const auto value : logical(tensor)) all[name].push_back(static_cast<double>(value));
  };
  X y = like(x);
  tn::SavedStats<typename X::Scalar> saved;
  layer.forward(x, y, saved);
  keep("y", y);
  keep("mean", saved.mean());
  keep("rstd", saved.rstd());
  const auto gradients = layer.backward(dy, x, saved);
  keep("dx", gradients.dx);
  keep("dweight", gradients.dweight);
  keep("dbias", gradients.dbias);
  if constexpr (requires { layer.running_stats(); }) {
    if (layer.track_running_stats()) {
      keep("running mean", layer.running_mean());
      keep("running variance", layer.running_var());
    }
  }
  keep("infer", std::as_const(layer).infer(x));
  return all;
}

/// What the reference makes of the same, and how far from it the library may be.
struct Expected {
  struct Quantity {
    reference::Values values, tolerances;
  };
  std::map<std::string, Quantity> all;

  template <class Layer, class X>
  Expected(const Layer& layer, const X& tensor, const X& gradient) {
    using S = typename X::Scalar;
    using Statistic = std::conditional_t<sizeof(S) == 2, float, S>;
    // y and the gradients in ulp of their scales, as README says; a mean in ulp of the largest x, a variance within 4 of its own,
    // and so rstd; the running ones as properties_test has it.
    constexpr bool narrow = sizeof(S) == 2;
    constexpr double of_y = narrow ? 1 : 4, of_gradients = narrow ? 1 : 8, of_mean = 1, of_rstd = 4, of_running = 8;
    const auto norm = norm_of(layer, support::shape_of(tensor));
    const auto x = reference::real(logical(tensor)), dy = reference::real(logical(gradient));
    const auto weight = reference::real(logical(layer.weight()));
    const auto statistics = reference::moments(norm, x);
    const auto expect_y = [&](const char* name, const reference::Statistics& of) {
      const long double scale = largest(reference::normalized(norm, x, of)) * largest(weight);
      all[name] = {reference::forward(norm, x, weight, {}, of), reference::Values(x.size(), ulps<S>(of_y, scale))};
    };
    expect_y("y", statistics);
    expect_y("infer", statistics);
    const auto gradients = reference::backward(norm, dy, x, weight, statistics, false);
    const auto terms = ulps<S>(of_gradients, reference::terms_of_parameters(norm, dy, reference::normalized(norm, x, statistics)));
    all["dx"] = {gradients.dx, ulps<S>(of_gradients, reference::terms_of_dx(norm, dy, x, weight, statistics))};
    all["dweight"] = {gradients.dweight, terms};
    all["dbias"] = {gradients.dbias, terms};
    reference::Values rstd;
    for (const auto variance : statistics.variance) rstd.push_back(reference::factor(norm, variance).value);
    const support::Shape shape = norm.statistic_shape();
    const auto as_saved = [&](const reference::Values& values) {  // in x's storage order
      reference::Values result(values.size());
      for (Index s = 0; s < norm.statistics(); ++s)
        result[std::size_t(support::storage_index<X::Layout>(support::coordinates(s, shape), shape))] = values[std::size_t(s)];
      return result;
    };
    all["mean"] = {as_saved(statistics.mean), reference::Values(rstd.size(), ulps<Statistic>(of_mean, largest(x)))};
    all["rstd"] = {as_saved(rstd), ulps<Statistic>(of_rstd, as_saved(rstd))};
    if constexpr (requires { layer.running_stats(); }) {
      if (!layer.track_running_stats()) return;
      const auto channels = static_cast<std::size_t>(layer.num_features());
      const auto images = static_cast<long double>(rstd.size() / channels), n = static_cast<long double>(norm.samples());
      reference::Values mean(channels), variance(channels, 0.9L);
      for (std::size_t s = 0; s < rstd.size(); ++s) {
        mean[s % channels] += 0.1L * statistics.mean[s] / images;
        variance[s % channels] += 0.1L * statistics.variance[s] / images * n / (n - 1);
      }
      all["running mean"] = {mean, reference::Values(channels, ulps<Statistic>(of_running, largest(x)))};
      all["running variance"] = {variance, ulps<Statistic>(of_running, variance)};
      reference::Statistics running{{}, reference::Values(rstd.size()), {}};
      for (std::size_t s = 0; s < rstd.size(); ++s) {
        running.mean.push_back(mean[s % channels]);
        running.variance.push_back(variance[s % channels]);
      }
      expect_y("infer", running);
    }
  }

  /// times: what the environment may add to the bounds.
  void compare(const Results& results, double times) const {
    for (const auto& [name, actual] : results) {
      const Quantity& expected = all.at(name);
      auto tolerances = expected.tolerances;
      for (auto& tolerance : tolerances) tolerance *= times;
      EXPECT_TRUE(support::all_near(actual, expected.values, tolerances)) << name;
    }
  }
};

/// f(layer, x, dy) for what for_each_layer() has, and for shapes that leave a tail in every vector; of half only for those.
template <class Kind, class F>
void for_each_call(F f) {
  using S = typename Kind::Scalar;
  if constexpr (sizeof(S) > 2)
    for_each_layer<Kind>([&](const auto& layer, const auto& x) {
      f(layer, x, random_tensor<std::remove_cvref_t<decltype(x)>>(support::shape_of(x), 2));
    });
  using Rows = typename Kind::template Tensor<2>;
  f(tn::LayerNorm<S>(1021), random_tensor<Rows>({3, 1021}), random_tensor<Rows>({3, 1021}, 2));
  f(tn::BatchNorm1d<S>(61), random_tensor<Rows>({67, 61}), random_tensor<Rows>({67, 61}, 2));
}

#if defined(__SSE2__)
// Denormal numbers are taken for 0 and results of their size become 0: nothing here is that small but what cancels.
TYPED_TEST(Environment, Row82DenormalsFlushedToZero) {
  using S = typename TypeParam::Scalar;
  constexpr unsigned flush = 0x8040;  // FTZ and DAZ
  support::at_each_level([](tn::kernels::Level) {
    for_each_call<TypeParam>([](const auto& layer, const auto& x, const auto& dy) {
      using X = std::remove_cvref_t<decltype(x)>;
      const auto ordinary = results_of(layer, x, dy);
      X tiny = x;
      for (Index i = 0; i < tiny.size(); ++i) tiny.data()[i] = S(i % 3) * std::numeric_limits<S>::denorm_min();
      const unsigned before = _mm_getcsr();
      _mm_setcsr((before | flush) & ~0x3FU);
      const auto actual = results_of(layer, x, dy);
      const auto of_denormals = results_of(layer, tiny, dy);
      const unsigned after = _mm_getcsr();
      _mm_setcsr(before);
      EXPECT_EQ(after & ~0x3FU, (before | flush) & ~0x3FU) << "the control bits are the caller's";
      SCOPED_TRACE(text_of(layer));
      Expected(layer, x, dy).compare(actual, 1);
      for (const auto& [name, values] : actual)
        EXPECT_TRUE(support::all_near(values, ordinary.at(name), ulps<S>(1, largest(ordinary.at(name))))) << name;
      for (const auto& [name, values] : of_denormals)
        for (const double value : values) ASSERT_FALSE(std::isnan(value)) << name;
    });
  });
}

// Numbers of ordinary exponents whose differences are flushed are no constants: they are taken larger first.
TYPED_TEST(Environment, Row82DifferencesThatAreFlushed) {
  using S = typename TypeParam::Scalar;
  if constexpr (sizeof(S) > 2) {
    const auto y_of = [](auto layer, Index rows, Index columns, bool by_row) {
      typename TypeParam::template Tensor<2> x(rows, columns);
      const S small = std::numeric_limits<S>::min() * S(64), more = small * (1 + S(0x1p-10));
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c) x(r, c) = (by_row ? c : r) % 2 == 0 ? small : more;
      const unsigned before = _mm_getcsr();
      _mm_setcsr(before | 0x8040);
      const auto y = logical(layer(x));
      _mm_setcsr(before);
      for (std::size_t i = 0; i < y.size(); ++i)
        ASSERT_NEAR(double(y[i]), (by_row ? i : i / static_cast<std::size_t>(columns)) % 2 == 0 ? -1 : 1, 1e-5) << text_of(layer) << i;
    };
    support::at_each_level([&](tn::kernels::Level) {
      y_of(tn::BatchNorm1d<S>(37, {.eps = 0}), 90, 37, false);
      y_of(tn::LayerNorm<S>(64, {.eps = 0}), 3, 64, true);
      y_of(tn::LayerNorm<S>(1024, {.eps = 0}), 9, 1024, true);
      y_of(tn::LayerNorm<S>(64, {.eps = 0}), 33, 64, true);
    });
  }
}
#endif

// No NaN, constants are the bias, and four times the error.
TYPED_TEST(Environment, Row83RoundingModes) {
  using S = typename TypeParam::Scalar;
  support::at_each_level([](tn::kernels::Level) {
    for_each_call<TypeParam>([](const auto& layer, const auto& x, const auto& dy) {
      using X = std::remove_cvref_t<decltype(x)>;
      const Expected expected(layer, x, dy);
      SCOPED_TRACE(text_of(layer));
      X constant = x;
      constant.setConstant(S(0.1));
      for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
        std::fesetround(mode);
        const auto actual = results_of(layer, x, dy);
        auto copy = layer;
        const auto y = logical(copy(constant));
        const int after = std::fegetround();
        std::fesetround(FE_TONEAREST);
        EXPECT_EQ(after, mode);
        SCOPED_TRACE(mode);
        expected.compare(actual, 4);
        if (name_of(layer) == "RMSNorm") continue;
        for (const S value : y) ASSERT_EQ(value, S(0)) << mode;
      }
    });
  });
}

// var >= 0: of numbers that are nearly all the same, far from 0, roundings are what parts a difference of sums from a negative one. Of
// equal numbers it is 0. Four times its error, but for doubles: what rounding took from their sums is known exactly to nearest only.
TYPED_TEST(Environment, Row83NoVarianceIsNegative) {
  using S = typename TypeParam::Scalar;
  using Statistic = std::conditional_t<sizeof(S) == 2, float, S>;
  const auto in_each_mode = [](const auto& run) {
    support::at_each_level([&](tn::kernels::Level) {
      for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
        SCOPED_TRACE(mode);
        run(mode);
      }
    });
  };
  const auto check = [&](const auto& x, auto axes, const char* letters) {
    const auto expected = reference::moments({support::shape_of(x), reference::roles_of(letters)}, reference::real(logical(x)));
    const auto tolerances = ulps<Statistic>(sizeof(S) < 8 ? 4 * 4 : 4 * 256, expected.variance);
    in_each_mode([&](int mode) {
      std::fesetround(mode);
      const auto actual = tn::moments(x, axes);
      std::fesetround(FE_TONEAREST);
      for (const auto value : logical(actual.variance)) ASSERT_GE(value, 0);
      EXPECT_TRUE(support::all_near(logical(actual.variance), expected.variance, tolerances));
    });
  };
  const auto check_running = [&](const auto& x) {
    tn::BatchNorm1d<S> layer(x.dimension(1), {.momentum = 1});
    in_each_mode([&](int mode) {
      std::fesetround(mode);
      layer(x);
      std::fesetround(FE_TONEAREST);
      for (const auto value : logical(layer.running_var())) ASSERT_GE(value, 0);
    });
  };
  // 1, and numbers beside it, in steps of an ulp or of some whose square is rounded: all the same, all but the first, all but the last,
  // every second, and a few of each.
  const double ulp = static_cast<double>(support::unit_of<S>());
  const auto nearly_constant = [](auto x, std::size_t kind, double step) {
    const Index n = x.size(), few = n / 100 + 1;
    std::uint32_t random = 1;
    for (Index i = 0; i < n; ++i) {
      random = random * 1664525U + 1013904223U;
      const std::array<double, 5> steps{3, i < few ? 0.0 : 3, i < n - few ? 3.0 : 0, double(i % 2), double(random >> 30)};
      x.data()[i] = static_cast<S>((1 + steps[kind] * step) * 1024);
    }
    return x;
  };
  using Rows = typename TypeParam::template Tensor<2>;
  using Runs = typename TypeParam::template Tensor<3>;
  for (const double step : {ulp, (sizeof(S) == 8 ? 94906267 : sizeof(S) == 4 ? 5461 : 5) * ulp})
    for (std::size_t kind = 0; kind < 5; ++kind)
      for (const Index n : {5, 64, 1021, 5000}) {
        SCOPED_TRACE("kind " + std::to_string(kind) + ", n = " + std::to_string(n) + ", step " + std::to_string(step / ulp));
        check(nearly_constant(Rows(3, n), kind, step), tn::over<1>, "kr");
        const auto columns = nearly_constant(Rows(n, 37), kind, step);
        const auto runs = nearly_constant(Runs(n / 5 + 1, 4, 7), kind, step);
        check(columns, tn::over<0>, "rk");
        check(runs, tn::over<0, 2>, "rkr");
        check_running(columns);
        check_running(runs);
      }
}

/// Fills this thread's scratch memory with signaling NaNs: whoever computes with what he has not written is told.
template <class S>
void poison_scratch() {
  constexpr std::size_t bytes = std::size_t{1} << 20;
  std::byte* memory = tn::Scratch::acquire(bytes);
  const std::uint64_t nan = sizeof(S) <= 4 ? 0x7FA000007FA00000U : 0x7FF4000000000000U;
  for (std::size_t i = 0; i < bytes; i += sizeof nan) std::memcpy(memory + i, &nan, sizeof nan);
}

// No operation traps with exceptions unmasked, in the lanes beyond the last element as little as elsewhere.
TYPED_TEST(Environment, Row84OrdinaryDataRaiseNoException) {
  using S = typename TypeParam::Scalar;
  constexpr int trapping = FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW;
  support::at_each_level([&](tn::kernels::Level) {
    for_each_call<TypeParam>([&](const auto& layer, const auto& x, const auto& dy) {
      poison_scratch<S>();
      std::feclearexcept(FE_ALL_EXCEPT);
#if defined(__GLIBC__) && defined(__x86_64__)
      feenableexcept(trapping);
#endif
      const auto results = results_of(layer, x, dy);
      const int raised = std::fetestexcept(trapping);
#if defined(__GLIBC__) && defined(__x86_64__)
      fedisableexcept(trapping);
#endif
      SCOPED_TRACE(text_of(layer));
      EXPECT_EQ(raised, 0);
      Expected(layer, x, dy).compare(results, 1);
    });
  });
}

// Of rows of zeros, as dead units have, and of tiny numbers nothing is divided by 0 or scaled to infinity.
TYPED_TEST(Environment, Row84ZerosAndTinyNumbersRaiseNoException) {
  using S = typename TypeParam::Scalar;
  using Rows = Eigen::Tensor<S, 2, Eigen::RowMajor>;
  // dx of a row of zeros has a factor of 1 / eps, which 16 bits may not hold.
  constexpr int trapping = FE_DIVBYZERO | FE_INVALID | (sizeof(S) > 2 ? FE_OVERFLOW : 0);
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index columns : {8, 33, 5000}) {
      const Index rows = columns == 8 ? 8 : columns == 33 ? 300 : 4;
      for (const S scale : {S(0), std::numeric_limits<S>::min() * S(8), S(1)}) {
        Rows x = random_tensor<Rows>({rows, columns});
        const Rows dy = x;
        for (Index i = 0; i < x.size(); ++i) x.data()[i] *= i / columns == 1 ? S(0) : scale;
        const auto check = [&](const char* name, auto layer) {
          Rows y(rows, columns), dx(rows, columns);
          typename decltype(layer)::Saved saved;
          auto gradients = layer.zero_gradients();
          std::feclearexcept(FE_ALL_EXCEPT);
          layer.forward(x, y, saved);
          EXPECT_EQ(std::fetestexcept(trapping), 0) << name << ", " << columns << " columns, scale " << double(scale);
          std::feclearexcept(FE_ALL_EXCEPT);
          layer.backward(dy, x, saved, dx, gradients);
          EXPECT_EQ(std::fetestexcept(trapping), 0) << name << " backward, " << columns << " columns, scale " << double(scale);
        };
        for (const auto added_to : {tn::EpsAddedTo::variance, tn::EpsAddedTo::deviation})
          check("LayerNorm", tn::LayerNorm<S>(columns, {.eps_added_to = added_to}));
        check("BatchNorm1d", tn::BatchNorm1d<S>(columns));
        check("RMSNorm", tn::RMSNorm<S>(columns));
        if (scale == S(0)) check("LayerNorm, eps 0", tn::LayerNorm<S>(columns, {.eps = 0}));
        if (scale == S(0)) check("BatchNorm1d, eps 0", tn::BatchNorm1d<S>(columns, {.eps = 0}));
      }
    }
  });
}

// A row whose squares overflow is found by that, and no statistic is made of them, beside its neighbours' either.
TYPED_TEST(Environment, Row84ARowOfLargeNumbersRaisesNothingInvalid) {
  using S = typename TypeParam::Scalar;
  using Rows = Eigen::Tensor<S, 2, Eigen::RowMajor>;
  Rows x = random_tensor<Rows>({8, 8}), y(8, 8);
  for (Index i = 0; i < 8; ++i) x(5, i) = std::numeric_limits<S>::max() / S(i == 0 ? -8 : 8);
  support::at_each_level([&](tn::kernels::Level) {
    tn::LayerNorm<S> layer(8);
    std::feclearexcept(FE_ALL_EXCEPT);
    layer.forward(x, y);
    EXPECT_EQ(std::fetestexcept(FE_DIVBYZERO | FE_INVALID), 0);
    for (const auto value : logical(y)) ASSERT_TRUE(std::isfinite(double(value)));
  });
}

// The same of channels of a few small images; and of one whose rstd is too large for its type.
TYPED_TEST(Environment, Row84AChannelOfLargeNumbersRaisesNothingInvalid) {
  using S = typename TypeParam::Scalar;
  if (sizeof(S) > 4) return;  // those of doubles are columns, of which squares that overflow raise it once
  using Images = Eigen::Tensor<S, 3, Eigen::RowMajor>;
  for (const Index images : {2, 3}) {  // of three, what is not ordinary is of short slices
    Images x = random_tensor<Images>({images, 8, 12}), y(images, 8, 12);
    for (Index n = 0; n < images; ++n)
      for (Index i = 0; i < 12; ++i) {
        x(n, 5, i) = std::numeric_limits<S>::max() / S(i == 0 ? -8 : 8);
        x(n, 6, i) = S(0.3);
      }
    support::at_each_level([&](tn::kernels::Level) {
      for (const double eps : {1e-5, 1e-100}) {
        if (eps < 1e-5 && sizeof(S) == 2) continue;  // 16-bit numbers are not scaled
        tn::BatchNorm1d<S> layer(8, {.eps = eps, .track_running_stats = false});
        std::feclearexcept(FE_ALL_EXCEPT);
        layer.forward(x, y);
        EXPECT_EQ(std::fetestexcept(FE_DIVBYZERO | FE_INVALID), 0) << eps;
        for (const auto value : logical(y)) ASSERT_TRUE(std::isfinite(double(value)));
      }
    });
  }
}

}  // namespace
