// SPDX-License-Identifier: MIT
// What must happen on bad input to backward: a test per row of the table of faults, by its number. Whatever throws has
// changed nothing: the layer, the saved statistics, dy, x, dx and the gradients are compared byte by byte.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/pages.hpp"
#include "support/reference.hpp"
#include "support/small_stack.hpp"

namespace {

using namespace faults;
using support::logical;
using support::same_bits;
using support::Shape;

/// Gradients of weight and bias that have been added to before.
template <class Layer>
auto gradients_before(const Layer& layer) {
  auto gradients = layer.zero_gradients();
  using S = std::remove_cvref_t<decltype(gradients.weight.data()[0])>;
  gradients.weight.setConstant(S(0.75F));
  gradients.bias.setConstant(S(-2.5F));
  return gradients;
}
template <class Gradients>
std::string gradient_bytes(const Gradients& gradients) {
  return bytes_of(gradients.weight) + "|" + bytes_of(gradients.bias);
}

/// The operands of a backward call that goes well, after a forward call of the layer on x.
template <class Layer, class X>
struct Operands {
  Layer layer;
  X x, dy, y, dx;
  typename Layer::Saved saved;
  typename Layer::Gradients gradients;

  Operands(const Layer& of, const X& input)
      : layer(of), x(input), dy(random_tensor<X>(support::shape_of(input), 2)), y(like(input)), dx(like(input)) {
    layer.weight() = random_tensor<std::remove_cvref_t<decltype(layer.weight())>>(support::shape_of(layer.weight()), 3);
    layer.forward(x, y, saved);
    gradients = gradients_before(layer);
  }
  /// The gradients as they must come out.
  auto expected() const { return layer.backward(dy, x, saved); }
};

/// f(operands) for every layer.
template <class Kind, class F>
void for_each_operands(F f) {
  for_each_layer<Kind>([&](auto& layer, const auto& x) {
    Operands operands(layer, x);
    f(operands);
  });
}

/// What backward is asked for.
enum : unsigned { kAll = 1, kDxOnly = 2, kGradientsOnly = 4, kFromOutput = 8, kAllocating = 16 };

/// Every way to call backward that `ways` names is refused and has changed nothing.
template <class Error = std::invalid_argument, class Layer, class DY, class X, class Saved, class DX, class Gradients>
void expect_refused(const Layer& layer, const DY& dy, const X& x, const Saved& saved, DX&& dx, Gradients& gradients,
                    const Parts& parts, unsigned ways = kAll | kDxOnly | kGradientsOnly | kFromOutput | kAllocating) {
  SCOPED_TRACE(text_of(layer));
  const bool all = (ways & kAll) != 0, dx_only = (ways & kDxOnly) != 0, gradients_only = (ways & kGradientsOnly) != 0,
             from_output = (ways & kFromOutput) != 0;
  expect_calls_refused<Error>(
      name_of(layer),
      [&] { return state_of(layer) + saved_state(saved) + bytes_of(dy) + bytes_of(x) + bytes_of(dx) + gradient_bytes(gradients); }, parts,
      {{all, "backward", [&] { layer.backward(dy, x, saved, dx, gradients); }},
       {dx_only, "backward", [&] { layer.backward(dy, x, saved, dx, tn::none); }},
       {gradients_only, "backward", [&] { layer.backward(dy, x, saved, tn::none, gradients); }},
       {(ways & kAllocating) != 0, "backward", [&] { (void)layer.backward(dy, x, saved); }},
       {from_output, "backward_from_output", [&] { layer.backward_from_output(dy, x, saved, dx, gradients); }},
       {from_output && dx_only, "backward_from_output", [&] { layer.backward_from_output(dy, x, saved, dx, tn::none); }},
       {from_output && gradients_only, "backward_from_output", [&] { layer.backward_from_output(dy, x, saved, tn::none, gradients); }}});
}

template <class Kind>
class BackwardFaults : public testing::Test {};
TYPED_TEST_SUITE(BackwardFaults, FaultKinds, support::KindNames);

// ---- B. shapes ----

// An empty batch, or none but empty images: dx is empty, and nothing is added to the gradients.
TYPED_TEST(BackwardFaults, Row27NothingToDifferentiate) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const std::string name = name_of(layer);
    const int last = static_cast<int>(support::shape_of(x).size()) - 1;
    std::vector<int> empty_axes;
    if (name != "InstanceNorm3d") empty_axes.push_back(0);  // an image without N
    if (name != "LayerNorm" && name != "RMSNorm" && last != 1) empty_axes.push_back(last);
    for (const int axis : empty_axes)
      for (const bool training : {true, false}) {
        training ? layer.train() : layer.eval();
        const auto empty = like(x, axis, -extent(x, axis));
        auto y = empty;
        auto dx = empty;
        tn::SavedStats<typename TypeParam::Scalar> saved;
        layer.forward(empty, y, saved);
        const std::string state = state_of(layer);
        const auto [new_dx, dweight, dbias] = layer.backward(empty, empty, saved);
        EXPECT_EQ(support::shape_of(new_dx), support::shape_of(empty));
        EXPECT_EQ(dweight.size(), layer.zero_gradients().weight.size());
        EXPECT_EQ(dbias.size(), layer.zero_gradients().bias.size());
        EXPECT_EQ(support::largest(logical(dweight)) + support::largest(logical(dbias)), 0);
        auto gradients = gradients_before(layer);
        const std::string before = gradient_bytes(gradients);
        layer.backward(empty, empty, saved, dx, gradients);
        layer.backward(empty, empty, saved, tn::none, gradients);
        layer.backward(empty, empty, saved, dx, tn::none);
        layer.backward_from_output(empty, empty, saved, dx, gradients);
        EXPECT_EQ(gradient_bytes(gradients), before);
        EXPECT_EQ(state_of(layer), state);
      }
  });
}

TYPED_TEST(BackwardFaults, Row30DyOfAnotherShape) {
  for_each_operands<TypeParam>([](auto& o) {
    const Shape shape = support::shape_of(o.x);
    for (int axis = 0; axis < static_cast<int>(shape.size()); ++axis)
      for (const Index more : {1, -1}) {
        const auto dy = like(o.x, axis, more);
        const std::string text = "dy: expected " + text_of_shape(shape) + ", got " + text_of_shape(support::shape_of(dy));
        expect_refused(o.layer, dy, o.x, o.saved, o.dx, o.gradients, {text});
      }
  });
}

TEST(BackwardFaultsOfShapes, Row30NamesBothShapes) {
  const Eigen::Tensor<float, 2> x(4, 3), dy(3, 3);
  Eigen::Tensor<float, 2> y(4, 3), dx(4, 3);
  tn::LayerNorm<float> layer(3);
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  expect_error([&] { layer.backward(dy, x, saved, dx, tn::none); }, {"LayerNorm::backward: dy: expected [4,3], got [3,3]"});
}

TYPED_TEST(BackwardFaults, Row30ADxOfAnotherShape) {
  for_each_operands<TypeParam>([](auto& o) {
    const Shape shape = support::shape_of(o.x);
    for (int axis = 0; axis < static_cast<int>(shape.size()); ++axis)
      for (const Index more : {1, -1}) {
        auto dx = like(o.x, axis, more);
        const std::string text = text_of_shape(shape) + ", got " + text_of_shape(support::shape_of(dx));
        expect_refused(o.layer, o.dy, o.x, o.saved, dx, o.gradients, {"dx: expected " + text},
                       kAll | kDxOnly | kFromOutput);
        EXPECT_EQ(support::shape_of(dx), support::shape_of(like(o.x, axis, more))) << "resized";
      }
  });
}

// An x, and dy and dx with it, that is not the forward call's: its shape is all that can be told.
TYPED_TEST(BackwardFaults, Row31AnotherXThanForward) {
  for_each_operands<TypeParam>([](auto& o) {
    const Shape shape = support::shape_of(o.x);
    for (int axis = 0; axis < static_cast<int>(shape.size()); ++axis)
      for (const Index more : {1, -1}) {
        const auto x = like(o.x, axis, more), dy = x;
        expect_refused(o.layer, o.dy, x, o.saved, o.dx, o.gradients, {"expected ", ", got "});
        auto dx = x;
        bool fits = true;  // the layer
        try {
          std::as_const(o.layer).infer(x, dx);
        } catch (const std::invalid_argument&) {
          fits = false;
        }
        if (fits) expect_refused<std::logic_error>(o.layer, dy, x, o.saved, dx, o.gradients, {"the saved statistics of a forward call: expected "});
        else expect_refused(o.layer, dy, x, o.saved, dx, o.gradients, {"expected ", ", got "});
      }
  });
}

TYPED_TEST(BackwardFaults, Row32AWeightOfTheWrongShape) {
  for_each_operands<TypeParam>([](auto& o) {
    const Shape right = support::shape_of(o.layer.weight());
    for (int axis = 0; axis < static_cast<int>(right.size()); ++axis)
      for (const Index more : {1, -1}) {
        auto changed = o.layer;
        changed.weight() = like(o.layer.weight(), axis, more);
        expect_refused(changed, o.dy, o.x, o.saved, o.dx, o.gradients,
                       {"weight: expected " + text_of_shape(right) + ", got " + text_of_shape(support::shape_of(changed.weight()))});
      }
  });
}

TYPED_TEST(BackwardFaults, Row32GradientsOfTheWrongShape) {
  for_each_operands<TypeParam>([](auto& o) {
    const auto expect = [&](auto gradients, const char* name, const Shape& right, const Shape& wrong) {
      expect_refused(o.layer, o.dy, o.x, o.saved, o.dx, gradients,
                     {std::string(name) + ": expected " + text_of_shape(right) + ", got " + text_of_shape(wrong)},
                     kAll | kGradientsOnly | kFromOutput);
    };
    const Shape right = support::shape_of(o.layer.weight());
    for (int axis = 0; axis < static_cast<int>(right.size()); ++axis)
      for (const Index more : {1, -1}) {
        auto wrong = o.gradients;
        wrong.weight = like(wrong.weight, axis, more);
        expect(wrong, "dweight", right, support::shape_of(wrong.weight));
        if (name_of(o.layer) == "RMSNorm") continue;
        wrong = o.gradients;
        wrong.bias = like(wrong.bias, axis, more);
        expect(wrong, "dbias", right, support::shape_of(wrong.bias));
      }
    auto none_at_all = o.gradients;
    none_at_all.weight = {};
    expect(none_at_all, "dweight", right, Shape(right.size(), 0));
  });
}

TYPED_TEST(BackwardFaults, Row35WithoutTheStatisticsOfAForwardCall) {
  using S = typename TypeParam::Scalar;
  const unsigned ways = kAll | kDxOnly | kGradientsOnly | kFromOutput | kAllocating;
  for_each_operands<TypeParam>([](auto& o) {
    const std::string text = "backward needs the saved statistics of a forward call: expected shape [";
    expect_refused<std::logic_error>(o.layer, o.dy, o.x, tn::SavedStats<S>(), o.dx, o.gradients, {text, "got none"}, ways);
    expect_refused<std::logic_error>(o.layer, o.dy, o.x, saved_before<S>(), o.dx, o.gradients, {text, ", got [7]"}, ways);
  });
  // Another layer's, of this very x.
  using Images = typename TypeParam::template Tensor<4>;
  Operands batch(tn::BatchNorm2d<S>(4), random_tensor<Images>({2, 4, 3, 5}));
  Operands group(tn::GroupNorm<S>(2, 4), random_tensor<Images>({2, 4, 3, 5}));
  expect_refused<std::logic_error>(batch.layer, batch.dy, batch.x, group.saved, batch.dx, batch.gradients,
                                   {"expected shape [4], got [2,2]"}, ways);
  expect_refused<std::logic_error>(group.layer, group.dy, group.x, batch.saved, group.dx, group.gradients,
                                   {"expected shape [2,2], got [4]"}, ways);
}

// As many, each of as many elements of this very x, or constants.
TYPED_TEST(BackwardFaults, Row35WithTheStatisticsOfAnotherLayer) {
  using S = typename TypeParam::Scalar;
  using Matrix = typename TypeParam::template Tensor<2>;
  const unsigned ways = kAll | kDxOnly | kGradientsOnly | kFromOutput | kAllocating;
  const auto refuses = [&](auto& o, const tn::SavedStats<S>& saved, const std::string& got) {
    expect_refused<std::logic_error>(
        o.layer, o.dy, o.x, saved, o.dx, o.gradients,
        {"backward needs the saved statistics of a forward call: expected those of such a layer, got those " + got}, ways);
  };
  const Matrix x = random_tensor<Matrix>({4, 4});
  Operands layer(tn::LayerNorm<S>(4), x), batch(tn::BatchNorm1d<S>(4), x), squares(tn::RMSNorm<S>(4), x);
  tn::BatchNorm1d<S> frozen(4);
  frozen.eval();
  const Operands constants(frozen, x);
  refuses(layer, squares.saved, "about 0");
  refuses(squares, layer.saved, "about the mean");
  refuses(layer, batch.saved, "over other axes");
  refuses(batch, layer.saved, "over other axes");
  refuses(layer, constants.saved, "over other axes");
  refuses(squares, constants.saved, "over other axes");
  using Images = typename TypeParam::template Tensor<4>;
  const Images images_as_wide = random_tensor<Images>({2, 4, 3, 4});  // channels first and last
  Operands first(tn::BatchNorm2d<S>(4), images_as_wide), last(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(4), images_as_wide);
  refuses(first, last.saved, "over other axes");
  refuses(last, first.saved, "over other axes");
  const auto square = random_tensor<typename TypeParam::template Tensor<3>>({2, 4, 4});
  Operands rows(tn::LayerNorm<S>(4), square), channels(tn::InstanceNorm1d<S>(4, {.affine = true}), square);
  Operands one_each(tn::GroupNorm<S, tn::GroupAxes<-1>>(4, 4), square);  // a group of one channel, over the axis before it
  refuses(rows, one_each.saved, "over other axes");
  refuses(channels, one_each.saved, "over other axes");
  refuses(one_each, rows.saved, "over other axes");
  // Of one layer, as images of one element or without.
  Operands groups(tn::GroupNorm<S, tn::GroupAxes<-1>>(2, 4), random_tensor<typename TypeParam::template Tensor<2>>({3, 4}));
  auto pixels = random_tensor<typename TypeParam::template Tensor<3>>({3, 1, 4});
  std::copy_n(groups.x.data(), 12, pixels.data());
  EXPECT_EQ(logical(groups.layer.backward(pixels, pixels, groups.saved).dx), logical(groups.layer.backward(groups.x, groups.x, groups.saved).dx));
  const auto images = random_tensor<typename TypeParam::template Tensor<3>>({4, 4, 1});
  EXPECT_EQ(logical(frozen.backward(images, images, constants.saved).dx), logical(frozen.backward(constants.x, constants.x, constants.saved).dx));
}

// Statistics of channels are of one shape whatever the batch and the images are.
TYPED_TEST(BackwardFaults, Row35WithTheStatisticsOfAnotherBatch) {
  using S = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const unsigned ways = kAll | kDxOnly | kGradientsOnly | kFromOutput | kAllocating;
  const auto refuses = [&](auto layer, const Shape& shape, const Shape& other, const std::string& expected, const std::string& got) {
    Operands o(layer, random_tensor<Images>(shape)), of_other(layer, random_tensor<Images>(other));
    expect_refused<std::logic_error>(o.layer, o.dy, o.x, of_other.saved, o.dx, o.gradients,
                                     {"the saved statistics of a forward call: expected each of " + expected + " elements of x, got each of " + got},
                                     ways);
  };
  refuses(tn::BatchNorm2d<S>(4), {2, 4, 3, 5}, {3, 4, 3, 5}, "30", "45");
  refuses(tn::BatchNorm2d<S>(4), {2, 4, 3, 5}, {2, 4, 3, 4}, "30", "24");
  refuses(tn::GroupNorm<S>(2, 4), {2, 4, 3, 5}, {2, 4, 3, 4}, "30", "24");
  refuses(tn::InstanceNorm2d<S>(4, {.affine = true}), {2, 4, 3, 5}, {2, 4, 4, 5}, "15", "20");
  // Given statistics are constants of any batch.
  tn::BatchNorm2d<S> layer(4);
  layer.eval();
  Operands small(layer, random_tensor<Images>({1, 4, 3, 5})), large(layer, random_tensor<Images>({2, 4, 3, 5}));
  EXPECT_EQ(logical(layer.backward(large.dy, large.x, small.saved).dx), logical(layer.backward(large.dy, large.x, large.saved).dx));
}

// dx = dy * weight * rstd of the running statistics, whatever the mode is by now.
TYPED_TEST(BackwardFaults, Row36AfterAForwardCallInEvalMode) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    if constexpr (requires { layer.running_stats(); }) {
      if (!layer.track_running_stats()) return;
      layer(x);
      layer.eval();
      Operands o(layer, x);
      o.layer.train();
      EXPECT_TRUE(o.saved.constant());
      const auto actual = o.expected();
      const Shape shape = support::shape_of(x);
      const std::size_t channel_axis = name_of(layer) == "InstanceNorm3d" ? 0 : 1;
      std::vector<long double> dx, dweight(3), dbias(3), terms(3);
      for (Index i = 0; i < x.size(); ++i) {
        const Shape at = support::coordinates(i, shape);
        const Index c = at[channel_axis];
        const auto k = static_cast<std::size_t>(c);
        const long double rstd = 1 / std::sqrt(static_cast<long double>(layer.running_var()(c)) + layer.eps());
        const long double dy = support::coefficient(o.dy, at);
        const long double norm = (support::coefficient(x, at) - static_cast<long double>(layer.running_mean()(c))) * rstd;
        dx.push_back(dy * o.layer.weight()(c) * rstd);
        dweight[k] += dy * norm;
        dbias[k] += dy;
        terms[k] += std::abs(dy) * std::max(1.0L, std::abs(norm));
      }
      std::vector<long double> sizes = dx;
      for (long double& size : sizes) size = std::abs(size);
      // rstd * weight is rounded, then its product with dy.
      EXPECT_TRUE(support::all_near(logical(actual.dx), dx, support::ulps<S>(1.5, sizes)));
      // x - mean, the sum of its products with dy, and that times rstd are rounded.
      EXPECT_TRUE(support::all_near(logical(actual.dweight), dweight, support::ulps<S>(1.5, terms)));
      EXPECT_TRUE(support::all_near(logical(actual.dbias), dbias, support::ulps<S>(1, terms)));
    }
  });
}

// The weight of the backward call counts, not the one forward has seen; the bias is not looked at.
TYPED_TEST(BackwardFaults, Row37ParametersChangedSinceForward) {
  for_each_operands<TypeParam>([](auto& o) {
    auto later = o.layer;
    later.weight() = o.layer.weight() * typename TypeParam::Scalar(4);  // a power of two: every rounding is the same
    if constexpr (requires { later.bias(); })
      if (name_of(later) != "RMSNorm") later.bias().setConstant(17);
    const auto before = o.expected(), after = later.backward(o.dy, o.x, o.saved);
    auto four_times = logical(before.dx);
    for (auto& value : four_times) value *= 4;
    EXPECT_TRUE(same_bits(logical(after.dx), four_times));
    EXPECT_TRUE(same_bits(logical(after.dweight), logical(before.dweight)));
    EXPECT_TRUE(same_bits(logical(after.dbias), logical(before.dbias)));
  });
}

// ---- C. values ----

// Every norm is 0 and rstd is 1 / sqrt(eps): as large as it is, dx stays finite. At lengths for each way of going about a row or a column.
TYPED_TEST(BackwardFaults, Row43OfZeros) {
  using S = typename TypeParam::Scalar;
  const auto check = [](const auto& layer, auto x) {
    SCOPED_TRACE(text_of(layer));
    x.setZero();
    const Operands o(layer, x);
    const auto norm = norm_of(layer, support::shape_of(x));
    const auto real_x = reference::real(logical(x)), dy = reference::real(logical(o.dy)), weight = reference::real(logical(o.layer.weight()));
    const auto statistics = reference::moments(norm, real_x);
    const auto expected = reference::backward(norm, dy, real_x, weight, statistics, false);
    const auto actual = o.expected();
    EXPECT_TRUE(support::all_near(logical(actual.dx), expected.dx,
                                  support::ulps<S>(8, reference::terms_of_dx(norm, dy, real_x, weight, statistics))));
    for (const auto& tensor : {logical(actual.dx), logical(actual.dweight), logical(actual.dbias)})
      for (const S value : tensor) ASSERT_TRUE(std::isfinite(value));
    EXPECT_EQ(support::largest(logical(actual.dweight)), 0);
  };
  using Rows = typename TypeParam::template Tensor<2>;
  using Images = typename TypeParam::template Tensor<4>;
  support::at_each_level([&](tn::kernels::Level) {
    for_each_layer<TypeParam>([&](const auto& layer, const auto& x) { check(layer, x); });
    for (const Index n : {64, 1021}) {
      check(tn::LayerNorm<S>(n), Rows(3, n));
      check(tn::RMSNorm<S>(n), Rows(3, n));
      check(tn::BatchNorm1d<S>(n), Rows(67, n));
      check(tn::GroupNorm<S>(2, 6), Images(2, 6, n, 7));
    }
  });
}

// dx of its reduction set is spoiled, and the gradients of its own parameter; all others have the bits they had. Where the statistics
// are constants, of dx that element alone. Of a NaN all of it is NaN, of an infinite dy infinite or NaN, as its sums come out.
TYPED_TEST(BackwardFaults, Row53DyThatIsNotFinite) {
  using S = typename TypeParam::Scalar;
  const auto check = [](auto layer, const auto& x, auto same_statistic, auto parameter_of, const Shape& bad) {
    SCOPED_TRACE(text_of(layer) + (layer.is_training() ? "" : " in eval mode"));
    Operands o(layer, x);
    const auto clean = o.expected();
    for (const double value : {kNaN, kInf, -kInf}) {
      auto dy = o.dy;
      support::coefficient(dy, bad) = S(value);
      const auto spoiled = o.layer.backward(dy, x, o.saved);
      const auto dx = logical(spoiled.dx), clean_dx = logical(clean.dx);
      for (std::size_t i = 0; i < dx.size(); ++i) {
        const Shape at = support::coordinates(static_cast<Index>(i), support::shape_of(x));
        if (o.saved.constant() ? at == bad : same_statistic(at, bad)) {
          ASSERT_TRUE(std::isnan(value) ? std::isnan(dx[i]) : !std::isfinite(dx[i])) << value << " became " << dx[i] << " at " << i;
        } else {
          ASSERT_EQ(std::memcmp(&dx[i], &clean_dx[i], sizeof(S)), 0) << value << " at " << i;
        }
      }
      const auto parameter = static_cast<std::size_t>(parameter_of(bad));
      for (const bool weight : {true, false}) {
        if (!weight && name_of(layer) == "RMSNorm") continue;
        auto got = logical(weight ? spoiled.dweight : spoiled.dbias);
        const auto expected = logical(weight ? clean.dweight : clean.dbias);
        EXPECT_TRUE(std::isnan(value) ? std::isnan(got[parameter]) : !std::isfinite(got[parameter])) << value << " to " << got[parameter];
        // One infinite term makes an infinite sum, as in PyTorch; NaN where the sum is multiplied with what rounding left of the mean, 0.
        constexpr bool kRows = int(std::remove_cvref_t<decltype(x)>::Layout) == int(Eigen::RowMajor);
        const bool apart = kRows && (name_of(layer) == "LayerNorm" || name_of(layer) == "RMSNorm");
        if (!std::isnan(value) && (!weight || apart)) {
          EXPECT_TRUE(std::isinf(got[parameter])) << value << " at column " << bad[1];
        }
        got[parameter] = expected[parameter];
        EXPECT_TRUE(same_bits(got, expected)) << value << (weight ? " dweight" : " dbias");
      }
    }
  };
  const auto channel = [](const Shape& at) { return at[1]; };
  const auto by_channel = [](const Shape& a, const Shape& b) { return a[1] == b[1]; };
  const auto by_image = [](const Shape& a, const Shape& b) { return a[0] == b[0] && a[1] == b[1]; };
  const auto by_group = [](const Shape& a, const Shape& b) { return a[0] == b[0] && a[1] / 3 == b[1] / 3; };
  const auto by_row = [](const Shape& a, const Shape& b) { return a[0] == b[0]; };
  const auto in_eval_mode = [](auto layer) {
    layer.eval();
    return layer;
  };
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index n : {2, 5, 19}) {
      const auto images = random_tensor<typename TypeParam::template Tensor<4>>({3, 6, n, 7});
      const Shape middle{1, 4, n - 1, 6};
      const tn::InstanceNorm2d<S> tracking(6, {.affine = true, .track_running_stats = true});
      check(tn::BatchNorm2d<S>(6), images, by_channel, channel, middle);
      check(in_eval_mode(tn::BatchNorm2d<S>(6)), images, by_channel, channel, middle);
      check(tracking, images, by_image, channel, middle);
      check(in_eval_mode(tracking), images, by_image, channel, middle);
      check(tn::GroupNorm<S>(2, 6), images, by_group, channel, middle);
      const auto rows = random_tensor<typename TypeParam::template Tensor<2>>({7, 6 * n});
      const auto column = [](const Shape& at) { return at[1]; };
      check(tn::BatchNorm1d<S>(6 * n), rows, by_channel, column, {2, 6 * n - 1});
      check(in_eval_mode(tn::BatchNorm1d<S>(6 * n)), rows, by_channel, column, {2, 6 * n - 1});
      check(tn::LayerNorm<S>(6 * n), rows, by_row, column, {2, n});
      check(tn::RMSNorm<S>(6 * n), rows, by_row, column, {6, 0});
      // The last element of whole vectors, which the kernel meets again beside those after it.
      const Index w = tn::kernels::virtual_width<tn::accumulator_t<S>>, twice = std::max<Index>(6 * n / w * w, 1) - 1;
      check(tn::LayerNorm<S>(6 * n), rows, by_row, column, {3, twice});
    }
  });
}

// ---- D. memory ----

TYPED_TEST(BackwardFaults, Row56InPlaceIsOutOfPlace) {
  const auto check = [](auto& o, bool from_output) {
    const auto call = [&](const auto& dy, const auto& x, auto&& dx, auto& gradients) {
      if (from_output) o.layer.backward_from_output(dy, x, o.saved, dx, gradients);
      else o.layer.backward(dy, x, o.saved, dx, gradients);
    };
    auto gradients = o.layer.zero_gradients();
    const auto& input = from_output ? o.y : o.x;
    call(o.dy, input, o.dx, gradients);
    const auto expected = logical(o.dx);
    for (const bool of_dy : {true, false}) {
      auto dy = o.dy, x = input;
      auto other = o.layer.zero_gradients();
      auto& in_place = of_dy ? dy : x;
      call(dy, x, in_place, other);
      const char* name = of_dy ? "dx is dy" : "dx is x";
      EXPECT_TRUE(same_bits(logical(in_place), expected)) << name;
      EXPECT_EQ(gradient_bytes(other), gradient_bytes(gradients)) << name;
      EXPECT_EQ(bytes_of(of_dy ? x : dy), bytes_of(of_dy ? input : o.dy)) << name << ": the other input was written";
    }
    // dy and x themselves one tensor, and dx that tensor too: x^2 / 2 is the loss.
    auto dx = o.dx, all = input;
    call(input, input, dx, gradients);
    call(all, all, all, o.gradients);
    EXPECT_TRUE(same_bits(logical(all), logical(dx))) << "dy is x is dx";
  };
  for_each_operands<TypeParam>([&](auto& o) { check(o, false); });
  for_each_operands<TypeParam>([&](auto& o) { check(o, true); });
  using Rows = typename TypeParam::template Tensor<2>;
  using S = typename TypeParam::Scalar;
  Operands large(tn::LayerNorm<S>(1000), random_tensor<Rows>({40, 1000}));
  check(large, false);
  Operands columns(tn::BatchNorm1d<S>(300), random_tensor<Rows>({90, 300}));
  check(columns, false);
}

TYPED_TEST(BackwardFaults, Row57ADxThatOverlapsAPartOfDyOrX) {
  using S = typename TypeParam::Scalar;
  for_each_operands<TypeParam>([](auto& o) {
    using Map = Eigen::TensorMap<std::remove_cvref_t<decltype(o.x)>>;
    const auto distance = static_cast<std::ptrdiff_t>(o.x.size()) * std::ptrdiff_t{sizeof(S)};  // in bytes, as the shifts are
    std::vector<S> memory(3 * static_cast<std::size_t>(o.x.size()) + 2, S(1));
    auto* middle = reinterpret_cast<unsigned char*>(memory.data() + o.x.size() + 1);
    const auto at = [&](std::ptrdiff_t shift) { return Map(reinterpret_cast<S*>(middle + shift), o.x.dimensions()); };
    const Map data = at(0);
    const std::string before = bytes_of(memory);
    constexpr std::ptrdiff_t element = sizeof(S);
    for (const std::ptrdiff_t shift : {element, distance - element, std::ptrdiff_t{1}, element + 1, distance - 1})
      for (const std::ptrdiff_t signed_shift : {shift, -shift}) {
        Map dx = at(signed_shift);
        expect_refused(o.layer, data, o.x, o.saved, dx, o.gradients, {"dx partially overlaps dy"},
                       kAll | kDxOnly | kFromOutput);
        expect_refused(o.layer, o.dy, data, o.saved, dx, o.gradients, {"dx partially overlaps "},
                       kAll | kDxOnly | kFromOutput);
        EXPECT_TRUE(bytes_of(memory) == before) << signed_shift;
      }
    for (const std::ptrdiff_t shift : {distance, -distance, distance + 1, -distance - 1})
      o.layer.backward(data, o.x, o.saved, at(shift), o.gradients);
  });
}

TEST(BackwardFaultsOfMemory, Row57BlocksOfOneMatrix) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Matrix whole = Matrix::Random(7, 20);
  const Matrix x = Matrix::Random(7, 5), dy = whole.middleCols(3, 5);
  Matrix y(7, 5), expected(7, 5);
  tn::LayerNorm<float> layer(5);
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  layer.backward(dy, x, saved, expected, tn::none);
  const std::string before = bytes_of(whole);
  for (const Index start : {0, 4, 7}) {
    expect_error([&] { layer.backward(whole.middleCols(3, 5), x, saved, whole.middleCols(start, 5), tn::none); },
                 {"LayerNorm::backward: ", "dx partially overlaps dy"});
    expect_error([&] { layer.backward(dy, whole.middleCols(3, 5), saved, whole.middleCols(start, 5), tn::none); },
                 {"LayerNorm::backward: ", "dx partially overlaps x"});
    EXPECT_TRUE(bytes_of(whole) == before) << start;
  }
  // By parts of an element: the same pitch, and a distance of no whole number of elements. The last ends within dy's next row.
  using Block = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
  const auto block = [&](Index byte) {
    return Block(reinterpret_cast<float*>(reinterpret_cast<unsigned char*>(whole.data()) + byte), 6, 5, Eigen::OuterStride<>(20));
  };
  const Matrix top = x.topRows(6);
  layer.forward(top, y.topRows(6), saved);
  for (const Index byte : {5 * 4 + 3, 3 * 4 - 1, 3 * 4 + 1, 7 * 4 + 2, 18 * 4 + 1}) {
    expect_error([&] { layer.backward(block(3 * 4), top, saved, block(byte), tn::none); }, {"LayerNorm::backward: ", "dx partially overlaps dy"});
    expect_error([&] { layer.backward(block(byte), top, saved, block(3 * 4), tn::none); }, {"LayerNorm::backward: ", "dx partially overlaps dy"});
    expect_error([&] { layer.backward(top, block(byte), saved, block(3 * 4), tn::none); }, {"LayerNorm::backward: ", "dx partially overlaps x"});
    EXPECT_TRUE(bytes_of(whole) == before) << byte;
  }
  layer.forward(x, y, saved);
  for (const Index start : {8, 15}) {
    layer.backward(whole.middleCols(3, 5), x, saved, whole.middleCols(start, 5), tn::none);
    EXPECT_EQ(Matrix(whole.middleCols(start, 5)), expected) << "side by side";
  }
  layer.backward(whole.middleCols(3, 5), x, saved, whole.middleCols(3, 5), tn::none);
  EXPECT_EQ(Matrix(whole.middleCols(3, 5)), expected) << "in place";
}

// A layer whose parameters are as large as x, so that dx fits on each of them.
TYPED_TEST(BackwardFaults, Row58ADxThatOverlapsAParameterOrItsGradient) {
  using S = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  Operands o(tn::LayerNorm<S, 2>({2, 3}), random_tensor<Rows>({2, 3}));
  auto& layer = o.layer;
  for (S* on : {layer.weight().data(), layer.bias().data(), o.gradients.weight.data(), o.gradients.bias.data()}) {
    Eigen::TensorMap<Rows> dx(on, 2, 3);
    expect_refused(layer, o.dy, o.x, o.saved, dx, o.gradients, {"dx overlaps a parameter or its gradient"}, kAll | kFromOutput);
  }
  for (S* on : {layer.weight().data(), layer.bias().data()}) {
    Eigen::TensorMap<Rows> dx(on, 2, 3);
    expect_refused(layer, o.dy, o.x, o.saved, dx, o.gradients, {"dx overlaps a parameter or its gradient"}, kDxOnly | kFromOutput);
  }
}

// Of a batch of two, dx is of half the running statistics' width: so it is as large as each of them. After either mode's forward call.
TYPED_TEST(BackwardFaults, Row58ADxThatOverlapsTheRunningStatistics) {
  using S = typename TypeParam::Scalar;
  using X = Eigen::Tensor<std::conditional_t<sizeof(S) == 8, float, Eigen::bfloat16>, 2, TypeParam::order>;
  const auto check = [](auto layer, const support::Shape& shape) {
    for (const bool training : {true, false}) {
      training ? layer.train() : layer.eval();
      Operands o(layer, random_tensor<X>(shape));
      for (const auto* statistics : {&o.layer.running_mean(), &o.layer.running_var()}) {
        void* const on = const_cast<S*>(statistics->data());
        Eigen::TensorMap<X> dx(static_cast<typename X::Scalar*>(on), o.x.dimensions());
        expect_refused(o.layer, o.dy, o.x, o.saved, dx, o.gradients, {"dx overlaps ", "running statistics"}, kAll | kDxOnly | kFromOutput);
      }
    }
  };
  check(tn::BatchNorm1d<S>(7), {2, 7});
  check(tn::InstanceNorm1d<S>(7, {.affine = true, .track_running_stats = true}), {7, 2});
}

// Nothing of x is kept: it may be freed and come back elsewhere.
TYPED_TEST(BackwardFaults, Row62XMayBeElsewhereBetweenForwardAndBackward) {
  for_each_operands<TypeParam>([](auto& o) {
    using X = std::remove_cvref_t<decltype(o.x)>;
    const auto expected = o.expected();
    const X copy = o.x;
    auto first = std::make_unique<X>(o.x);
    auto layer = o.layer;
    tn::SavedStats<typename X::Scalar> saved;
    layer.forward(*first, o.y, saved);
    first->setConstant(-12345);
    first.reset();
    const auto [dx, dweight, dbias] = layer.backward(o.dy, copy, saved);
    EXPECT_TRUE(same_bits(logical(dx), logical(expected.dx)));
    EXPECT_TRUE(same_bits(logical(dweight), logical(expected.dweight)));
    EXPECT_TRUE(same_bits(logical(dbias), logical(expected.dbias)));
  });
}

// At offsets that are no multiple of anything, of dy, x and dx; a sanitizer sees a load that assumes more.
TYPED_TEST(BackwardFaults, Row59UnalignedMaps) {
  for_each_operands<TypeParam>([](auto& o) {
    using X = std::remove_cvref_t<decltype(o.x)>;
    using S = typename X::Scalar;
    const auto expected = o.expected();
    const std::size_t bytes = static_cast<std::size_t>(o.x.size()) * sizeof(S);
    for (const std::size_t offset : {1U, 2U, 4U, 8U, 12U, 33U}) {
      std::vector<unsigned char> x(bytes + 64), dy(bytes + 64), dx(bytes + 64);
      const auto map = [&](std::vector<unsigned char>& memory, std::size_t at) {
        return Eigen::TensorMap<X>(reinterpret_cast<S*>(memory.data() + at), o.x.dimensions());
      };
      std::memcpy(x.data() + offset, o.x.data(), bytes);
      std::memcpy(dy.data() + (offset ^ 2U), o.dy.data(), bytes);
      auto gradients = o.layer.zero_gradients();
      o.layer.backward(map(dy, offset ^ 2U), map(x, offset), o.saved, map(dx, offset ^ 1U), gradients);
      X result = o.dx;
      std::memcpy(result.data(), dx.data() + (offset ^ 1U), bytes);
      EXPECT_TRUE(same_bits(logical(result), logical(expected.dx))) << offset;
      EXPECT_TRUE(same_bits(logical(gradients.weight), logical(expected.dweight))) << offset;
      EXPECT_TRUE(same_bits(logical(gradients.bias), logical(expected.dbias))) << offset;
    }
  });
}

#if defined(TENSORNORM_TEST_HAS_PAGES)

// dy, x, dx, weight and both gradients at the edges of pages, over the sizes of vectors and blocks.
TYPED_TEST(BackwardFaults, Row60NoAccessOutsideDyXDxOrTheGradients) {
  using S = typename TypeParam::Scalar;
  using support::Pages;
  const auto run = [](Index n, support::Edge edge) {
    const auto size = static_cast<std::size_t>(n);
    const Pages<S> x(support::random_values<S>(6 * n, 1), edge), dy(support::random_values<S>(6 * n, 2), edge);
    const Pages<S> dx(6 * size, edge), weight(std::vector<S>(size, S(2)), edge);
    const Pages<S> dweight(std::vector<S>(size), edge), dbias(std::vector<S>(size), edge);
    const Pages<S> two(std::vector<S>(2, S(2)), edge), dtwo(std::vector<S>(2), edge), dtwo_bias(std::vector<S>(2), edge);
    const auto map = []<std::size_t kRank>(const Pages<S>& pages, const std::array<Index, kRank>& extents) {
      return Eigen::TensorMap<typename TypeParam::template Tensor<int(kRank)>>(pages.data(), extents);
    };
    const auto vector = [](const Pages<S>& pages, Index length) {
      return Eigen::TensorMap<Eigen::Tensor<S, 1>>(pages.data(), length);
    };
    auto w = vector(weight, n), dw = vector(dweight, n), db = vector(dbias, n);
    auto w2 = vector(two, 2), dw2 = vector(dtwo, 2), db2 = vector(dtwo_bias, 2);
    const auto x2 = map.template operator()<2>(x, {6, n}), dy2 = map.template operator()<2>(dy, {6, n});
    const auto x3 = map.template operator()<3>(x, {3, 2, n}), dy3 = map.template operator()<3>(dy, {3, 2, n});
    auto dx2 = map.template operator()<2>(dx, {6, n});
    auto dx3 = map.template operator()<3>(dx, {3, 2, n});
    typename TypeParam::template Tensor<2> y2(6, n);
    typename TypeParam::template Tensor<3> y3(3, 2, n);
    tn::SavedStats<S> saved;
    tn::layer_norm(x2, y2, saved, w, tn::none);
    tn::layer_norm_backward(dy2, x2, saved, w, dx2, dw, db);
    tn::layer_norm_backward(dy2, x2, saved, tn::none, dx2, tn::none, tn::none);
    tn::rms_norm(x2, y2, saved, w);
    tn::rms_norm_backward(dy2, x2, saved, w, dx2, dw);
    tn::batch_norm_backward(dy2, x2, w, w, w, dx2, dw, db);
    tn::batch_norm_backward(dy3, x3, w2, w2, w2, dx3, dw2, db2);
    tn::group_norm(x3, y3, saved, 1, w2, tn::none);
    tn::group_norm_backward(dy3, x3, saved, 1, w2, dx3, dw2, db2);
    tn::group_norm(x2, y2, saved, n, w, tn::none);
    tn::group_norm_backward(dy2, x2, saved, n, w, dx2, dw, db);
    if (n > 1) {
      tn::instance_norm(x3, y3, saved, w2, tn::none);
      tn::instance_norm_backward(dy3, x3, saved, w2, dx3, dw2, db2);
    }
    tn::BatchNorm1d<S> columns(n), slices(2);
    columns.forward(x2, y2, saved);
    columns.backward(dy2, x2, saved, dx2, tn::none);
    slices.forward(x3, y3, saved);
    slices.backward(dy3, x3, saved, dx3, tn::none);
    EXPECT_TRUE(std::isfinite(dx.values().back()));
  };
  support::at_each_level([&](tn::kernels::Level) {
    for (const support::Edge edge : {support::Edge::start, support::Edge::end}) {
      for (Index n = 1; n <= 2 * 32 + 1; ++n) run(n, edge);
      for (const Index n : {63, 100, 511, 513, 1023, 1025, 4097}) run(n, edge);
    }
  });
}

/// The types and orders that the other tests here are not of.
template <class Kind>
class MoreKinds : public testing::Test {};
using Others = testing::Types<support::Kind<float, Eigen::ColMajor>, support::Kind<double, Eigen::RowMajor>,
                              support::Kind<Eigen::bfloat16, Eigen::RowMajor>>;
TYPED_TEST_SUITE(MoreKinds, Others, support::KindNames);

/// Forward and backward of a layer, with x, y, dy and dx at edges of pages.
template <class Tensor, class Layer>
void run_at_page_edges(Layer layer, const support::Shape& shape, support::Edge edge) {
  using S = typename Tensor::Scalar;
  using support::Pages;
  const Index size = support::size_of(shape);
  const Pages<S> x(support::random_values<S>(size, 1), edge), dy(support::random_values<S>(size, 2), edge);
  const Pages<S> y(static_cast<std::size_t>(size), edge), dx(static_cast<std::size_t>(size), edge);
  const auto dimensions = support::sized<Tensor>(shape).dimensions();
  const auto map = [&](const Pages<S>& pages) { return Eigen::TensorMap<Tensor>(pages.data(), dimensions); };
  auto y_map = map(y), dx_map = map(dx);
  tn::SavedStats<S> saved;
  auto gradients = layer.zero_gradients();
  layer.forward(map(x), y_map, saved);
  layer.backward(map(dy), map(x), saved, dx_map, gradients);
  for (const Pages<S>* const results : {&y, &dx})
    for (const S value : results->values()) ASSERT_TRUE(std::isfinite(static_cast<double>(value)));
}

// Rows, columns and short runs of every length up to twice a vector of 16 bits and one, in either storage order's favour.
TYPED_TEST(MoreKinds, Row60NoAccessOutsideXYDyOrDx) {
  using S = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  using Runs = typename TypeParam::template Tensor<3>;
  support::at_each_level([&](tn::kernels::Level) {
    for (const support::Edge edge : {support::Edge::start, support::Edge::end}) {
      const auto run = [&](Index n) {
        run_at_page_edges<Rows>(tn::LayerNorm<S>(n), {6, n}, edge);
        run_at_page_edges<Rows>(tn::LayerNorm<S>(6), {n, 6}, edge);
        run_at_page_edges<Rows>(tn::BatchNorm1d<S>(n), {6, n}, edge);
        if (n > 1) run_at_page_edges<Rows>(tn::BatchNorm1d<S>(6), {n, 6}, edge);
        run_at_page_edges<Runs>(tn::BatchNorm1d<S>(2), {3, 2, n}, edge);
        run_at_page_edges<Runs>(tn::BatchNorm1d<S>(2), {n, 2, 3}, edge);
      };
      for (Index n = 1; n <= 2 * 32 + 1; ++n) run(n);
      for (const Index n : {100, 511, 513, 1025}) run(n);
    }
  });
}

// Rows of many blocks, and columns in many tiles.
TYPED_TEST(MoreKinds, Row67AThreadWithASmallStack) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "sanitized frames are larger";
  using S = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  const auto check = [](auto layer, const support::Shape& shape) {
    Operands o(layer, random_tensor<Rows>(shape));
    const auto expected = o.expected();
    auto gradients = o.layer.zero_gradients();
    support::on_small_stack([&] {
      o.layer.forward(o.x, o.y, o.saved);
      o.layer.backward(o.dy, o.x, o.saved, o.dx, gradients);
    });
    EXPECT_TRUE(same_bits(logical(o.dx), logical(expected.dx)));
    EXPECT_TRUE(same_bits(logical(gradients.weight), logical(expected.dweight)));
    EXPECT_TRUE(same_bits(logical(gradients.bias), logical(expected.dbias)));
  };
  check(tn::LayerNorm<S>(10007), {3, 10007});
  check(tn::BatchNorm1d<S>(1021), {300, 1021});
}

TYPED_TEST(BackwardFaults, Row67AThreadWithASmallStack) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "sanitized frames are larger";
  for_each_operands<TypeParam>([](auto& o) {
    const auto expected = o.expected();
    auto gradients = o.layer.zero_gradients();
    support::on_small_stack([&] { o.layer.backward(o.dy, o.x, o.saved, o.dx, gradients); });
    EXPECT_TRUE(same_bits(logical(o.dx), logical(expected.dx)));
    EXPECT_TRUE(same_bits(logical(gradients.weight), logical(expected.dweight)));
    EXPECT_TRUE(same_bits(logical(gradients.bias), logical(expected.dbias)));
    support::on_small_stack([&] { o.layer.backward_from_output(o.dy, o.y, o.saved, o.dx, gradients); });
  });
}

TYPED_TEST(BackwardFaults, Row61DyAndXAreNeverWritten) {
  for_each_operands<TypeParam>([](auto& o) {
    using X = std::remove_cvref_t<decltype(o.x)>;
    using S = typename X::Scalar;
    const auto read_only = [](const X& from) {
      auto pages = std::make_unique<support::Pages<S>>(std::vector<S>(from.data(), from.data() + from.size()),
                                                       support::Edge::end);
      pages->forbid_writing();
      return pages;
    };
    const auto x = read_only(o.x), dy = read_only(o.dy), y = read_only(o.y);
    using Map = Eigen::TensorMap<const X>;
    const Map x_map(x->data(), o.x.dimensions()), dy_map(dy->data(), o.x.dimensions()), y_map(y->data(), o.x.dimensions());
    o.layer.backward(dy_map, x_map, o.saved, o.dx, o.gradients);
    o.layer.backward(dy_map, x_map, o.saved, tn::none, o.gradients);
    o.layer.backward_from_output(dy_map, y_map, o.saved, o.dx, o.gradients);
    o.layer.backward_from_output(dy_map, y_map, o.saved, tn::none, o.gradients);
  });
}

#endif

// As for forward: whichever allocation of a thread's first call fails, nothing has changed.
TYPED_TEST(BackwardFaults, Row65AnAllocationThatFails) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_operands<TypeParam>([](auto& operands) {
    using O = std::remove_cvref_t<decltype(operands)>;
    const auto check = [&](const char* way, const auto& call) {
      SCOPED_TRACE(way);
      const auto state = [](const O& o) {
        return state_of(o.layer) + saved_state(o.saved) + gradient_bytes(o.gradients) + bytes_of(o.dx) + bytes_of(o.dy) + bytes_of(o.x) +
               bytes_of(o.y);
      };
      const long all = support::fail_each_allocation([&] { return operands; }, call, state);
      EXPECT_LT(all, 10);
      return all;
    };
    check("backward", [](O& o) { o.layer.backward(o.dy, o.x, o.saved, o.dx, o.gradients); });
    check("backward in place", [](O& o) { o.layer.backward(o.dy, o.x, o.saved, o.dy, o.gradients); });
    check("backward_from_output", [](O& o) { o.layer.backward_from_output(o.dy, o.y, o.saved, o.dx, o.gradients); });
    check("backward_from_output in place", [](O& o) { o.layer.backward_from_output(o.dy, o.y, o.saved, o.dy, o.gradients); });
    const long all = check("backward into new tensors", [](O& o) { (void)o.layer.backward(o.dy, o.x, o.saved); });
    EXPECT_GE(all, 2) << "dx and a gradient at least take memory";
  });
}

TYPED_TEST(BackwardFaults, Row66NoAllocationInTheSteadyState) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_operands<TypeParam>([](auto& o) {
    const auto calls = [&] {
      o.layer.forward(o.x, o.y, o.saved);
      o.layer.backward(o.dy, o.x, o.saved, o.dx, o.gradients);
      o.layer.backward(o.dy, o.x, o.saved, o.dx, tn::none);
      o.layer.backward(o.dy, o.x, o.saved, tn::none, o.gradients);
      auto& in_place = o.dx;
      o.layer.backward(in_place, o.x, o.saved, in_place, tn::none);
      o.layer.backward_from_output(o.dy, o.y, o.saved, o.dx, o.gradients);
      o.layer.backward_from_output(o.dy, o.y, o.saved, tn::none, o.gradients);
      o.layer.backward_from_output(in_place, o.y, o.saved, in_place, tn::none);
    };
    calls();
    EXPECT_EQ(support::allocations_in(calls), 0);
  });
}

}  // namespace
