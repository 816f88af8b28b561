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
#include <tensornorm/tensornorm.hpp>
#include <vector>

#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

using namespace faults;
using support::all_near;
using support::logical;

template <class Kind>
class Environment : public testing::Test {};
TYPED_TEST_SUITE(Environment, FaultKinds, support::KindNames);

/// Everything a layer computes from x and dy, by every schedule it has.
template <class Layer, class X>
std::vector<double> results_of(Layer layer, const X& x, const X& dy) {
  std::vector<double> all;
  const auto keep = [&](const auto& tensor) {
    for (const auto value : logical(tensor)) all.push_back(static_cast<double>(value));
  };
  X y = like(x);
  tn::SavedStats<typename X::Scalar> saved;
  layer.forward(x, y, saved);
  keep(y);
  keep(saved.mean());
  keep(saved.rstd());
  const auto gradients = layer.backward(dy, x, saved);
  keep(gradients.dx);
  keep(gradients.dweight);
  keep(gradients.dbias);
  if constexpr (requires { layer.running_stats(); }) {
    keep(layer.running_mean());
    keep(layer.running_var());
  }
  keep(std::as_const(layer).infer(x));
  return all;
}

/// f(layer, x, dy) for every layer, and for shapes that leave a tail in every vector.
template <class Kind, class F>
void for_each_call(F f) {
  using S = typename Kind::Scalar;
  for_each_layer<Kind>([&](const auto& layer, const auto& x) {
    f(layer, x, random_tensor<std::remove_cvref_t<decltype(x)>>(support::shape_of(x), 2));
  });
  using Rows = typename Kind::template Tensor<2>;
  f(tn::LayerNorm<S>(1021), random_tensor<Rows>({3, 1021}), random_tensor<Rows>({3, 1021}, 2));
  f(tn::BatchNorm1d<S>(61), random_tensor<Rows>({67, 61}), random_tensor<Rows>({67, 61}, 2));
}

/// Agreement within a few ulp of the largest of all results.
template <class S>
testing::AssertionResult agree(const std::vector<double>& actual, const std::vector<double>& expected, double k) {
  return all_near(actual, expected, support::ulps<S>(k, support::largest(expected)));
}

#if defined(__SSE2__)
// Denormal numbers are taken for 0 and results of their size become 0: nothing here is that small but what cancels.
TYPED_TEST(Environment, Row82DenormalsFlushedToZero) {
  using S = typename TypeParam::Scalar;
  constexpr unsigned flush = 0x8040;  // FTZ and DAZ
  support::at_each_level([](tn::kernels::Level) {
    for_each_call<TypeParam>([](const auto& layer, const auto& x, const auto& dy) {
      using X = std::remove_cvref_t<decltype(x)>;
      const auto expected = results_of(layer, x, dy);
      const unsigned before = _mm_getcsr();
      _mm_setcsr((before | flush) & ~0x3FU);
      const auto actual = results_of(layer, x, dy);
      X tiny = x;
      for (Index i = 0; i < tiny.size(); ++i) tiny.data()[i] = S(i % 3) * std::numeric_limits<S>::denorm_min();
      const auto of_denormals = results_of(layer, tiny, dy);
      const unsigned after = _mm_getcsr();
      _mm_setcsr(before);
      EXPECT_EQ(after & ~0x3FU, (before | flush) & ~0x3FU) << "the control bits are the caller's";
      EXPECT_TRUE(agree<S>(actual, expected, 1));
      for (const double value : of_denormals) ASSERT_FALSE(std::isnan(value));
    });
  });
}
#endif

// var >= 0, no NaN, constants are the bias, and four times the error.
TYPED_TEST(Environment, Row83RoundingModes) {
  using S = typename TypeParam::Scalar;
  support::at_each_level([](tn::kernels::Level) {
    for_each_call<TypeParam>([](const auto& layer, const auto& x, const auto& dy) {
      using X = std::remove_cvref_t<decltype(x)>;
      const auto expected = results_of(layer, x, dy);
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
        EXPECT_TRUE(agree<S>(actual, expected, 4 * 2 * 8)) << mode;  // 8 ulp of terms up to twice the largest result
        if constexpr (requires { copy.running_var(); }) {
          for (const auto value : logical(copy.running_var())) EXPECT_GE(value, 0);
        }
        if (name_of(layer) == "RMSNorm") continue;
        for (const S value : y) ASSERT_EQ(value, S(0)) << mode;
      }
    });
  });
}

/// Fills this thread's scratch memory with signaling NaNs: whoever computes with what he has not written is told.
template <class S>
void poison_scratch() {
  constexpr std::size_t bytes = std::size_t{1} << 20;
  std::byte* memory = tn::Scratch::acquire(bytes);
  const std::uint64_t nan = sizeof(S) == 4 ? 0x7FA000007FA00000U : 0x7FF4000000000000U;
  for (std::size_t i = 0; i < bytes; i += sizeof nan) std::memcpy(memory + i, &nan, sizeof nan);
}

// No operation that would trap were exceptions unmasked, in the lanes beyond the last element as little as elsewhere.
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
      EXPECT_EQ(raised, 0) << text_of(layer);
      EXPECT_FALSE(results.empty());
    });
  });
}

}  // namespace
