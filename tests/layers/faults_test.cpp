// SPDX-License-Identifier: MIT
// What must happen on bad input and in bad places: a test per row of the table of faults, by its number. Whatever
// throws has changed nothing: the layer, the saved statistics and the output are compared byte by byte.
//
// Rows without a test: 17, and of 14 a LayerNorm of no axes, do not compile (tests/compile_fail); 19 cannot be told apart, and the
// policies' documentation says so; 31 and 62 are documented preconditions beyond what 30 checks; 85 needs a 32-bit build.
// Elsewhere: 30 to 37, 53 and 56 in backward_faults_test, which has 59 to 61 and 65 to 67 for backward and for more types too; 44
// to 46 in scales_test; 49 to 52 in narrow_types_test; 63, 65 beside a pool and 68 to 76 in threads_test, 73 also in compile_fail;
// 82 to 84 in environment_test; 95 in misuse_test; 96 in running_stats_test, 97 there and in batch_norm_test; 98 in backward_test.
// 59 with other values of EIGEN_MAX_ALIGN_BYTES, 64, 81, 86, 87 and 88 are builds, tests/odr; 89 is tests/package/eigen_versions, and
// what takes other machines or compilers (90 to 92) is the full matrix. 79, 80, 93 and 94 wait for what they are about.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>
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

namespace tn = tensornorm;
using support::Index;
using support::same_bits;

using namespace faults;

enum class Calls { all, forward_only };

/// Every way to call the layer with x and y is refused, and has changed nothing.
template <class Error = std::invalid_argument, class Layer, class X, class Y>
void expect_refused(Layer& layer, const X& x, Y&& y, const Parts& parts, Calls calls = Calls::all) {
  using Scalar = std::remove_cvref_t<decltype(layer.weight().data()[0])>;
  SCOPED_TRACE(text_of(layer));
  auto saved = saved_before<Scalar>();
  const std::string state = state_of(layer), saved_bytes = saved_state(saved), x_bytes = bytes_of(x);
  const std::string y_bytes = bytes_of(y);
  const auto refused = [&](const char* function, auto call) {
    Parts all = parts;
    all.push_back(name_of(layer) + "::" + function + ": ");
    expect_error<Error>(call, all);
    EXPECT_EQ(state_of(layer), state) << function;
    EXPECT_EQ(saved_state(saved), saved_bytes) << function;
    EXPECT_EQ(bytes_of(x), x_bytes) << function;
    EXPECT_EQ(bytes_of(y), y_bytes) << function;
  };
  refused("forward", [&] { layer.forward(x, y); });
  refused("forward", [&] { layer.forward(x, y, saved); });
  if (calls == Calls::all) refused("infer", [&] { std::as_const(layer).infer(x, y); });
}

template <class Kind>
class Faults : public testing::Test {};
TYPED_TEST_SUITE(Faults, FaultKinds, support::KindNames);

// ---- A. construction ----

TEST(FaultsOfConstruction, Rows1And2NumFeaturesBelowOne) {
  for (const Index bad : {Index{0}, Index{-1}, std::numeric_limits<Index>::min()}) {
    const std::string text = "num_features must be >= 1, got " + std::to_string(bad);
    expect_error([&] { tn::BatchNorm1d<float> layer(bad); }, {"BatchNorm1d::constructor: ", text});
    expect_error([&] { tn::BatchNorm2d<double> layer(bad); }, {"BatchNorm2d::constructor: ", text});
    expect_error([&] { tn::BatchNorm3d<float> layer(bad); }, {"BatchNorm3d::constructor: ", text});
    expect_error([&] { tn::InstanceNorm1d<float> layer(bad); }, {"InstanceNorm1d::constructor: ", text});
    expect_error([&] { tn::InstanceNorm2d<float> layer(bad); }, {"InstanceNorm2d::constructor: ", text});
    expect_error([&] { tn::InstanceNorm3d<float> layer(bad); }, {"InstanceNorm3d::constructor: ", text});
    expect_error([&] { tn::RunningStats<float> stats(bad); }, {"RunningStats::constructor: ", text});
    expect_error([&] { tn::GroupNorm<float> layer(1, bad); },
                 {"GroupNorm::constructor: ", "num_channels must be >= 1, got " + std::to_string(bad)});
  }
}

TEST(FaultsOfConstruction, Rows3And5EpsNegativeOrNotFinite) {
  Eigen::Tensor<float, 2> x(2, 3), y(2, 3);
  x.setRandom();
  y.setConstant(7);
  const Eigen::Tensor<float, 1> mean(3), variance(3);
  const std::string before = bytes_of(y);
  for (const double eps : {-1.0, -1e-300, kNaN, kInf, -kInf}) {
    std::ostringstream text;
    text << "eps to be finite and >= 0, got " << eps;
    const auto refused = [&](const char* layer, const auto& make) { expect_error(make, {layer, text.str()}); };
    refused("BatchNorm1d::constructor: ", [&] { tn::BatchNorm1d<float> layer(3, {.eps = eps}); });
    refused("BatchNorm2d::constructor: ", [&] { tn::BatchNorm2d<float> layer(3, {.eps = eps}); });
    refused("InstanceNorm3d::constructor: ", [&] { tn::InstanceNorm3d<float> layer(3, {.eps = eps}); });
    refused("GroupNorm::constructor: ", [&] { tn::GroupNorm<float> layer(1, 3, {.eps = eps}); });
    refused("LayerNorm::constructor: ", [&] { tn::LayerNorm<float> layer(3, {.eps = eps}); });
    refused("RMSNorm::constructor: ", [&] { tn::RMSNorm<float> layer(3, {.eps = eps}); });
    refused("Normalization::constructor: ", [&] { tn::Normalization<float, PositionAxes> layer({3}, {.eps = eps}); });
    refused("layer_norm: ", [&] { tn::layer_norm(x, y, tn::none, tn::none, {.eps = eps}); });
    refused("rms_norm: ", [&] { tn::rms_norm(x, y, tn::none, {.eps = eps}); });
    refused("group_norm: ", [&] { tn::group_norm(x, y, 1, tn::none, tn::none, {.eps = eps}); });
    refused("batch_norm: ", [&] { tn::batch_norm(x, y, mean, variance, tn::none, tn::none, {.eps = eps}); });
    refused("normalize: ", [&] { tn::normalize(x, y, mean, variance, tn::over<0>, {.eps = eps}); });
    EXPECT_EQ(bytes_of(y), before);
  }
}

// norm is 0 where the variance and eps are 0.
TYPED_TEST(Faults, Row4EpsZeroIsAccepted) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  const auto x = support::tensor_of<Tensor>({4, 2}, std::vector<S>{3, 1, 3, 3, 3, 1, 3, 3});
  tn::BatchNorm1d<S> layer(2, {.eps = 0});
  layer.bias().setConstant(S(0.25));
  // The second column is 1, 3, 1, 3: mean 2, variance 1.
  EXPECT_EQ(support::logical(layer(x)),
            (std::vector<S>{S(0.25), S(-0.75), S(0.25), S(1.25), S(0.25), S(-0.75), S(0.25), S(1.25)}));
  const Tensor zeros = support::tensor_of<Tensor>({1, 3}, std::vector<S>(3, S(0)));
  EXPECT_EQ(support::logical(tn::RMSNorm<S>(3, {.eps = 0})(zeros)), std::vector<S>(3, S(0)));
  EXPECT_EQ(support::logical(tn::LayerNorm<S>(3, {.eps = 0})(zeros)), std::vector<S>(3, S(0)));
}

TYPED_TEST(Faults, Row6AnEpsTooSmallForTheScalarIsKept) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  tn::LayerNorm<S> layer(2, {.eps = 1e-60});
  EXPECT_EQ(layer.eps(), 1e-60);
  // Deviations of 1e-30 from the mean: variance 1e-60 = eps, so the norm is 1 / sqrt(2).
  const auto x = support::tensor_of<Tensor>({1, 2}, std::vector<S>{S(-1e-30), S(1e-30)});
  const S expected = static_cast<S>(std::sqrt(0.5));
  const S tolerance = 8 * std::numeric_limits<S>::epsilon();  // the inputs, their squares, the norm: an ulp or so each
  if constexpr (std::is_same_v<S, double>) {
    EXPECT_NEAR(support::logical(layer(x))[1], expected, tolerance);
    EXPECT_NEAR(support::logical(layer(x))[0], -expected, tolerance);
  }
  const auto constant = support::tensor_of<Tensor>({1, 2}, std::vector<S>{S(5), S(5)});
  EXPECT_EQ(support::logical(layer(constant)), (std::vector<S>{0, 0}));
}

TEST(FaultsOfConstruction, Rows7And8MomentumOutsideZeroToOne) {
  for (const double momentum : {-0.1, 1.1, kNaN, kInf, -kInf}) {
    std::ostringstream text;
    text << "momentum in [0, 1] or nullopt, got " << momentum;
    expect_error([&] { tn::BatchNorm2d<float> layer(3, {.momentum = momentum}); },
                 {"BatchNorm2d::constructor: ", text.str()});
    expect_error([&] { tn::InstanceNorm1d<float> layer(3, {.momentum = momentum}); },
                 {"InstanceNorm1d::constructor: ", text.str()});
    expect_error([&] { tn::RunningStats<float> stats(3, momentum); }, {"RunningStats::constructor: ", text.str()});
  }
}

// Columns (1, 3) and (5, 5): means 2 and 5, unbiased variances 2 and 0; then (3, 7): 5 and 8.
TYPED_TEST(Faults, Row9MomentumZeroOneAndNoneAreExact) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  const auto first = support::tensor_of<Tensor>({2, 2}, std::vector<S>{1, 5, 3, 5});
  const auto second = support::tensor_of<Tensor>({2, 2}, std::vector<S>{3, 5, 7, 5});
  const auto after_both = [&](std::optional<double> momentum) {
    tn::BatchNorm1d<S> layer(2, {.momentum = momentum});
    layer(first);
    layer(second);
    EXPECT_EQ(layer.running_stats().num_batches(), 2);
    auto values = support::logical(layer.running_mean());
    for (const S value : support::logical(layer.running_var())) values.push_back(value);
    return values;
  };
  EXPECT_EQ(after_both(0.0), (std::vector<S>{0, 0, 1, 1}));
  EXPECT_EQ(after_both(1.0), (std::vector<S>{5, 5, 8, 0}));
  EXPECT_EQ(after_both(std::nullopt), (std::vector<S>{S(3.5), 5, 5, 0}));
  EXPECT_EQ(after_both(0.5), (std::vector<S>{3, S(3.75), S(4.75), S(0.25)}));
}

TEST(FaultsOfConstruction, Rows10To13GroupsThatDoNotDivideTheChannels) {
  for (const Index groups : {0, -1, -4})
    expect_error([&] { tn::GroupNorm<float> layer(groups, 4); },
                 {"GroupNorm::constructor: num_groups must be >= 1, got " + std::to_string(groups)});
  for (const Index groups : {3, 5, 8})
    expect_error(
        [&] { tn::GroupNorm<float> layer(groups, 4); },
        {"GroupNorm::constructor: num_channels (4) must be divisible by num_groups (" + std::to_string(groups) + ")"});
  Eigen::Tensor<float, 3> x(2, 4, 5), y(2, 4, 5);
  x.setRandom();
  y.setConstant(7);
  const std::string before = bytes_of(y);
  for (const Index groups : {0, -1, 3, 5})
    expect_error(
        [&] { tn::group_norm(x, y, groups, tn::none, tn::none); },
        {"group_norm: ", groups < 1 ? "got " + std::to_string(groups) : "num_groups = " + std::to_string(groups)});
  EXPECT_EQ(bytes_of(y), before);
}

TEST(FaultsOfConstruction, Row14NormalizedShapeBelowOne) {
  const auto text = [](const char* layer, int i, const char* got) {
    return Parts{std::string(layer) + "::constructor: ",
                 "normalized_shape[" + std::to_string(i) + "] >= 1, got " + got};
  };
  expect_error([] { tn::LayerNorm<float> layer(0); }, text("LayerNorm", 0, "0"));
  expect_error([] { tn::RMSNorm<double> layer(-3); }, text("RMSNorm", 0, "-3"));
  expect_error([] { tn::LayerNorm<float, 2> layer(tn::Extents<2>{{3, 0}}); }, text("LayerNorm", 1, "0 in [3,0]"));
  expect_error(
      [] {
        tn::LayerNorm<float, 3> layer(tn::Extents<3>{{3, -2, 4}});
      },
      text("LayerNorm", 1, "-2 in [3,-2,4]"));
  expect_error([] { tn::Normalization<float, PositionAxes> layer({0}); }, {"Normalization::constructor: ", "got 0"});
  expect_error([] { tn::Normalization<float, PositionAxes> layer({}); }, {"Normalization::constructor: ", "at least one extent"});
}

TEST(FaultsOfConstruction, Row15ANormalizedShapeThatOverflows) {
  const Index big = Index{1} << 31;
  const long count = support::allocations_in([&] {
    EXPECT_THROW((tn::LayerNorm<float, 3>(tn::Extents<3>{{big, big, big}})), std::length_error);
  });
  EXPECT_LT(count, 30) << "text only";
  expect_error<std::length_error>(
      [&] {
        tn::LayerNorm<float, 3> layer(tn::Extents<3>{{big, big, big}});
      },
      {"LayerNorm::constructor: ", "normalized_shape", "[2147483648,2147483648,2147483648]"});
}

TEST(FaultsOfConstruction, Row16MoreChannelsThanMemory) {
  expect_error<std::length_error>([] { tn::BatchNorm2d<float> layer(Index{1} << 61); },
                                  {"BatchNorm2d::constructor: ", "num_features", "2305843009213693952"});
  if (!support::kCountsAllocations) GTEST_SKIP() << "a sanitizer's allocator aborts";
  const auto runs_out_of_memory = [](const auto& make) {
    bool threw = false;
    const long left = support::blocks_left_by([&] {
      try {
        make();
      } catch (const std::bad_alloc&) {
        threw = true;
      }
    });
    EXPECT_TRUE(threw);
    EXPECT_EQ(left, 0) << "blocks of a layer that was never made";
  };
  runs_out_of_memory([] { tn::BatchNorm2d<float> layer(Index{1} << 50); });
  runs_out_of_memory([] { tn::LayerNorm<float> layer(Index{1} << 50); });
}

// ---- B. shapes ----

TYPED_TEST(Faults, Row18ADifferentNumberOfChannels) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const std::string name = name_of(layer);
    const bool last_axis = name == "LayerNorm" || name == "RMSNorm";
    const auto shape = support::shape_of(x);
    const int rank = static_cast<int>(shape.size());
    const int axis = last_axis ? rank - 1 : name == "InstanceNorm3d" ? 0 : 1;
    for (const Index more : {1, -1}) {
      const auto wrong = like(x, axis, more);
      const Index got = extent(wrong, axis);
      Parts parts{"got ", std::to_string(got)};
      if (text_of(layer).find("[3,4,5]") == std::string::npos)
        parts = {"expected C=" + std::to_string(extent(x, axis)) + " at dimension " + std::to_string(axis) +
                 ", got " + std::to_string(got)};
      expect_refused(layer, wrong, like(wrong), parts);
    }
  });
}

TEST(FaultsOfShapes, Row18NamesBothShapes) {
  tn::BatchNorm2d<float> layer(3);
  Eigen::Tensor<float, 4> x(2, 4, 5, 5), y(2, 4, 5, 5);
  x.setZero();
  y.setZero();
  expect_refused(layer, x, y, {"expected C=3 at dimension 1, got 4 (x: [2,4,5,5])"});
  tn::LayerNorm<float, 2> two(tn::Extents<2>{{5, 4}});
  expect_refused(two, x, y, {"[5,4]", "[5,5]", "[2,4,5,5]"});
}

TYPED_TEST(Faults, Row20TrainingOnOneValuePerChannel) {
  using S = typename TypeParam::Scalar;
  tn::BatchNorm1d<S> layer(3);
  const auto x = random_tensor<typename TypeParam::template Tensor<2>>({1, 3});
  expect_refused(layer, x, like(x), {"Expected more than 1 value per channel when training, got input size [1,3]"},
                 Calls::forward_only);
  const auto images = random_tensor<typename TypeParam::template Tensor<4>>({1, 3, 1, 1});
  tn::BatchNorm2d<S> of_images(3);
  expect_refused(of_images, images, like(images), {"more than 1 value per channel", "[1,3,1,1]"}, Calls::forward_only);
}

TYPED_TEST(Faults, Row21EvalOnOneValuePerChannelIsAccepted) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  tn::BatchNorm1d<S> layer(2, {.eps = 0});
  layer.running_stats().load(std::vector<S>{1, 2}, std::vector<S>{4, 16}, 1);
  const auto x = support::tensor_of<Tensor>({1, 2}, std::vector<S>{5, -6});
  const std::vector<S> expected{2, -2};
  EXPECT_EQ(support::logical(std::as_const(layer).infer(x)), expected);
  layer.eval();
  EXPECT_EQ(support::logical(layer(x)), expected);
}

TYPED_TEST(Faults, Row22EvalWithoutTrackingOnOneValuePerChannel) {
  tn::BatchNorm1d<typename TypeParam::Scalar> layer(3, {.track_running_stats = false});
  layer.eval();
  const auto x = random_tensor<typename TypeParam::template Tensor<2>>({1, 3});
  expect_refused(layer, x, like(x), {"more than 1 value per channel", "[1,3]"});
}

TYPED_TEST(Faults, Row23InstanceNormOfOneSpatialElement) {
  using S = typename TypeParam::Scalar;
  const auto x = random_tensor<typename TypeParam::template Tensor<4>>({2, 3, 1, 1});
  tn::InstanceNorm2d<S> tracking(3, {.affine = true, .track_running_stats = true});
  expect_refused(tracking, x, like(x), {"more than 1 spatial element", "[2,3,1,1]"}, Calls::forward_only);
  tn::InstanceNorm2d<S> plain(3, {.affine = true});
  plain.eval();
  expect_refused(plain, x, like(x), {"more than 1 spatial element", "[2,3,1,1]"});
}

TYPED_TEST(Faults, Row24GroupNormOfOneValuePerGroupIsTheBias) {
  using S = typename TypeParam::Scalar;
  tn::GroupNorm<S> layer(3, 3);
  layer.bias().setValues({S(1), S(-2), S(0.5)});
  const auto x = random_tensor<typename TypeParam::template Tensor<2>>({2, 3});
  EXPECT_EQ(support::logical(layer(x)), (std::vector<S>{1, -2, S(0.5), 1, -2, S(0.5)}));
}

// In every mode, by every call: an empty y, and neither statistics nor counter have moved.
TYPED_TEST(Faults, Rows25To28NothingToNormalize) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const std::string name = name_of(layer);
    const int last = static_cast<int>(support::shape_of(x).size()) - 1;
    const bool batched = name != "InstanceNorm3d";
    const bool channel_last = (name == "LayerNorm" || name == "RMSNorm" || last == 1);
    std::vector<int> empty_axes;
    if (batched) empty_axes.push_back(0);
    if (!channel_last) empty_axes.push_back(last);
    for (const int axis : empty_axes)
      for (const bool training : {true, false}) {
        training ? layer.train() : layer.eval();
        const std::string state = state_of(layer);
        auto empty = like(x, axis, -extent(x, axis)), y = like(empty);
        auto saved = saved_before<typename TypeParam::Scalar>();
        layer.forward(empty, y);
        layer.forward(empty, y, saved);
        std::as_const(layer).infer(empty, y);
        EXPECT_EQ(layer(empty).size(), 0);
        EXPECT_EQ(state_of(layer), state);
        EXPECT_FALSE(saved.empty());
      }
  });
}

TEST(FaultsOfShapes, Rows25To28FunctionalFormsOfNothing) {
  Eigen::Tensor<float, 3> x(0, 4, 5), y(0, 4, 5), no_channels(2, 0, 5), no_y(2, 0, 5);
  Eigen::Tensor<float, 1> four(4), zero(0);
  four.setConstant(1);
  tn::batch_norm(x, y, four, four, four, four);
  tn::batch_norm(no_channels, no_y, zero, zero, tn::none, tn::none);
  tn::group_norm(x, y, 2, four, four);
  tn::instance_norm(x, y, four, four);
  tn::layer_norm(x, y, tn::none, tn::none);
  tn::rms_norm(no_channels, no_y, tn::none);
  const auto [mean, variance] = tn::moments(x, tn::over<0, 2>);
  ASSERT_EQ(mean.size(), 4);
  for (Index c = 0; c < 4; ++c) EXPECT_TRUE(std::isnan(mean(c)) && std::isnan(variance(c)));
  EXPECT_EQ(tn::normalize(x, four, four, tn::over<0, 2>).size(), 0);
  const Eigen::Tensor<float, 2> nothing_kept(0, 5);
  EXPECT_EQ(tn::normalize(x, nothing_kept, nothing_kept, tn::over<1>).size(), 0);
}

TYPED_TEST(Faults, Row29AnOutputOfAnotherShape) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const auto shape = support::shape_of(x);
    for (int axis = 0; axis < static_cast<int>(shape.size()); ++axis)
      for (const Index more : {1, -1}) {
        auto y = like(x, axis, more);
        const auto text = [](const support::Shape& s) {
          std::ostringstream out;
          out << tn::ShapeText{s.data(), static_cast<int>(s.size())};
          return out.str();
        };
        expect_refused(layer, x, y, {"y: expected " + text(shape) + ", got " + text(support::shape_of(y))});
        EXPECT_EQ(support::shape_of(y), support::shape_of(like(x, axis, more))) << "resized";
      }
  });
}

// A map has no size of its own to defend it: the call's refusal is all that keeps what lies behind it.
TYPED_TEST(Faults, Row29AMappedOutputOfAnotherShape) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    using Map = Eigen::TensorMap<X>;
    const auto size = static_cast<std::size_t>(x.size());
    std::vector<S> memory(6 * size, S(-12345)), source(x.data(), x.data() + size);
    const std::vector<S> canary = memory;
    const Map data(source.data(), x.dimensions());
    for (int axis = 0; axis < X::NumDimensions; ++axis)
      for (const Index more : {1, -1}) {
        auto extents = x.dimensions();
        extents[static_cast<std::size_t>(axis)] += more;
        expect_refused(layer, data, Map(memory.data() + 2 * size, extents), {"y: expected [", "], got ["});
        EXPECT_TRUE(same_bits(memory, canary)) << "axis " << axis << ", " << more;
      }
  });
}

TYPED_TEST(Faults, Row32ParametersAndRunningStatisticsOfTheWrongSize) {
  using S = typename TypeParam::Scalar;
  const auto x = random_tensor<typename TypeParam::template Tensor<4>>({2, 3, 4, 5});
  tn::BatchNorm2d<S> layer(3);
  layer(x);
  const std::string state = state_of(layer);
  for (const std::size_t size : {0U, 2U, 4U}) {
    const std::vector<S> wrong(size, S(1)), right(3, S(1));
    const std::string text = ": expected 3 elements, got " + std::to_string(size);
    expect_error([&] { layer.running_stats().load(wrong, right, 1); }, {"BatchNorm2d::load: running_mean" + text});
    expect_error([&] { layer.running_stats().load(right, wrong, 1); }, {"BatchNorm2d::load: running_var" + text});
    EXPECT_EQ(state_of(layer), state);
  }
  for (const char* name : {"weight", "bias"}) {
    tn::BatchNorm2d<S> changed = layer;
    auto& parameter = *name == 'w' ? changed.weight() : changed.bias();
    parameter = Eigen::Tensor<S, 1, Eigen::RowMajor>(4);
    parameter.setConstant(S(1));
    expect_refused(changed, x, like(x), {std::string(name) + ": expected [3], got [4]"});
  }
}

TYPED_TEST(Faults, Rows33And34AStateThatCannotBe) {
  using S = typename TypeParam::Scalar;
  tn::BatchNorm2d<S> layer(3);
  layer.running_stats().load(std::vector<S>{1, 2, 3}, std::vector<S>{4, 5, 6}, 7);
  const std::string state = state_of(layer);
  const std::vector<S> mean{7, 8, 9};
  const auto refused = [&](const std::vector<S>& variance, std::int64_t batches, const Parts& parts) {
    expect_error([&] { layer.running_stats().load(mean, variance, batches); }, parts);
    EXPECT_EQ(state_of(layer), state);
  };
  refused({1, S(-0.5), 1}, 1, {"BatchNorm2d::load: ", "running_var >= 0, got -0.5 at index 1"});
  refused({1, 1, S(kNaN)}, 1, {"BatchNorm2d::load: ", "running_var >= 0, got nan at index 2"});
  refused({1, 1, 1}, -1, {"BatchNorm2d::load: ", "num_batches >= 0, got -1"});
}

// ---- C. values: a few of the rows; accuracy is the kernels' tests ----

// Rows 38 and 39; and the redo of a bad pivot, too, is its channel's own affair.
TYPED_TEST(Faults, Rows38And39OneChannelSpoiledLeavesTheOthersAlone) {
  using S = typename TypeParam::Scalar;
  const auto check = [](auto layer_of, const auto& clean) {
    auto layer = layer_of(Index(clean.dimension(1)));
    const auto y = layer(clean);
    for (const S bad : {S(kNaN), S(kInf), S(-kInf), S(1e6)}) {
      auto spoiled = clean;
      const Index channel = clean.dimension(1) / 2;
      support::Shape at(support::shape_of(clean).size(), 0);
      at[0] = clean.dimension(0) - 1;
      at[1] = channel;
      support::coefficient(spoiled, at) = bad;
      auto other = layer_of(Index(clean.dimension(1)));
      const auto got = other(spoiled);
      for (Index flat = 0; flat < clean.size(); ++flat) {
        const auto place = support::coordinates(flat, support::shape_of(clean));
        const S value = support::coefficient(got, place), before = support::coefficient(y, place);
        if (place[1] != channel) {
          ASSERT_EQ(std::memcmp(&value, &before, sizeof value), 0) << bad << " at " << flat;
        } else if (!std::isfinite(bad)) {
          ASSERT_TRUE(std::isnan(value)) << bad;
        }
      }
      for (Index c = 0; c < clean.dimension(1); ++c) {
        const auto mean = other.running_mean()(c), variance = other.running_var()(c);
        if (c != channel) {
          ASSERT_TRUE(mean == layer.running_mean()(c) && variance == layer.running_var()(c));
        } else if (!std::isfinite(bad)) {
          EXPECT_TRUE(!std::isfinite(mean) && std::isnan(variance)) << bad << " " << mean;
        }
      }
    }
  };
  const auto of_vectors = [](Index c) { return tn::BatchNorm1d<S>(c); };
  const auto of_images = [](Index c) { return tn::BatchNorm2d<S>(c); };
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index c : {1, 3, 17, 40, 600}) {
      check(of_vectors, random_tensor<typename TypeParam::template Tensor<2>>({50, c}));
      check(of_images, random_tensor<typename TypeParam::template Tensor<4>>({5, c, 7, 7}));
    }
    check(of_images, random_tensor<typename TypeParam::template Tensor<4>>({2, 3, 40, 40}));
  });
}

// Columns between two spoiled ones are added up again with them, tile by tile, and come out as they were.
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
    Tensor x = clean;
    x(1, 3) = S(-kInf);
    const Tensor y = layer(x);
    for (Index i = 0; i < n; ++i) {
      EXPECT_EQ(y(0, i), expected(0, i));
      EXPECT_EQ(y(2, i), expected(2, i));
      if (i == 3) EXPECT_TRUE(std::isnan(y(1, i)));
      else EXPECT_EQ(y(1, i), S(0));
    }
  }
}

TYPED_TEST(Faults, Row40InEvalModeOnlyTheElementItselfIsSpoiled) {
  using S = typename TypeParam::Scalar;
  const auto check = [](auto layer, const auto& clean) {
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
    const auto images = random_tensor<typename TypeParam::template Tensor<4>>({4, 9, 11, 37});
    check(tn::BatchNorm2d<S>(9), images, "");
    check(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(37), images, "rrrK");
    check(tn::BatchNorm1d<S>(37), random_tensor<typename TypeParam::template Tensor<2>>({4001, 37}), "");
    check(tn::LayerNorm<S>(4001), random_tensor<typename TypeParam::template Tensor<3>>({2, 2, 4001}), "");
  });
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
    layer.eval();
    std::vector<S> expected = x;
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
  check(tn::LayerNorm<S>(7, {.bias = false}), false);
  check(tn::RMSNorm<S>({7}), false);
  tn::BatchNorm2d<S> plain(6, {.affine = false});
  plain.eval();
  EXPECT_TRUE(same_bits(support::logical(plain(zeros)), x));
  EXPECT_TRUE(same_bits(support::logical(tn::InstanceNorm2d<S>(6)(zeros)), x)) << "without parameters";
}

// ---- D. memory ----

TYPED_TEST(Faults, Row55InPlaceIsOutOfPlace) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    auto copy = layer;
    auto data = x;
    copy.forward(data, data);
    EXPECT_TRUE(same_bits(support::logical(data), support::logical(layer(x))));
    EXPECT_EQ(state_of(copy), state_of(layer));
  });
}

TYPED_TEST(Faults, Row57AnOutputThatOverlapsAPartOfX) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    using Map = Eigen::TensorMap<X>;
    const auto size = static_cast<std::size_t>(x.size());
    std::vector<S> memory(3 * size, S(1));
    S* middle = memory.data() + size;
    const Map data(middle, x.dimensions());
    const auto distance = static_cast<std::ptrdiff_t>(size);
    for (const std::ptrdiff_t shift : {std::ptrdiff_t{1}, std::ptrdiff_t{-1}, distance - 1, 1 - distance})
      expect_refused(layer, data, Map(middle + shift, x.dimensions()), {"y partially overlaps x"});
    for (const std::ptrdiff_t shift : {distance, -distance}) layer.forward(data, Map(middle + shift, x.dimensions()));
  });
}

TEST(FaultsOfMemory, Row57BlocksOfOneMatrix) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Matrix whole = Matrix::Random(6, 20);
  tn::LayerNorm<float> layer(5);
  const Matrix x = whole.middleCols(3, 5);
  Matrix expected(6, 5);
  layer.forward(x, expected);
  for (const Index start : {0, 4, 7}) {
    expect_error([&] { layer.forward(whole.middleCols(3, 5), whole.middleCols(start, 5)); },
                 {"LayerNorm::forward: ", "y partially overlaps x"});
    EXPECT_EQ(Matrix(whole.middleCols(3, 5)), x) << "nothing was written";
  }
  for (const Index start : {8, 15}) {
    layer.forward(whole.middleCols(3, 5), whole.middleCols(start, 5));
    EXPECT_EQ(Matrix(whole.middleCols(start, 5)), expected) << "side by side";
  }
  layer.forward(whole.middleCols(3, 5), whole.middleCols(3, 5));
  EXPECT_EQ(Matrix(whole.middleCols(3, 5)), expected) << "in place";
}

TYPED_TEST(Faults, Row58AnOutputThatOverlapsTheLayersState) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  using Map = Eigen::TensorMap<Tensor>;
  tn::BatchNorm1d<S> layer(3);
  static S far_from_the_heap[6] = {1, 2, 3, 4, 5, 7};  // or y, beside the state, may meet x first
  const Map x(far_from_the_heap, 2, 3);
  const auto refuse = [&](S* inside, const char* name) {
    const std::string state = state_of(layer);
    for (const std::ptrdiff_t shift : {0, 2, -5}) {
      Map y(inside + shift, 2, 3);
      expect_error([&] { layer.forward(x, y); }, {"BatchNorm1d::forward: y overlaps ", name});
      expect_error([&] { std::as_const(layer).infer(x, y); }, {"BatchNorm1d::infer: y overlaps ", name});
      EXPECT_EQ(state_of(layer), state);
    }
  };
  refuse(layer.weight().data(), "");
  refuse(layer.bias().data(), "");
  refuse(const_cast<S*>(layer.running_mean().data()), "");
  refuse(const_cast<S*>(layer.running_var().data()), "");
}

// At offsets that are no multiple of anything, of x, y and both; a sanitizer sees a load that assumes more.
TYPED_TEST(Faults, Row59UnalignedMaps) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    const auto expected = support::logical(std::as_const(layer).infer(x));
    auto trained = layer;
    const auto expected_in_training = support::logical(trained(x));
    const std::size_t bytes = static_cast<std::size_t>(x.size()) * sizeof(S);
    for (const std::size_t offset : {1U, 2U, 4U, 8U, 12U, 33U}) {
      std::vector<unsigned char> from(bytes + 64), to(bytes + 64);
      auto* source = from.data() + offset;
      auto* target = to.data() + (offset ^ 1U);
      std::memcpy(source, x.data(), bytes);
      const Eigen::TensorMap<const X> in(reinterpret_cast<const S*>(source), x.dimensions());
      Eigen::TensorMap<X> out(reinterpret_cast<S*>(target), x.dimensions());
      auto y = x;
      std::as_const(layer).infer(in, out);
      std::memcpy(y.data(), target, bytes);
      EXPECT_TRUE(same_bits(support::logical(y), expected)) << offset;
      auto copy = layer;
      copy.forward(in, out);
      std::memcpy(y.data(), target, bytes);
      EXPECT_TRUE(same_bits(support::logical(y), expected_in_training)) << offset;
    }
  });
}

TEST(FaultsOfMemory, Row59OddStrides) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Strided = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
  const Matrix x = Matrix::Random(9, 13);
  std::vector<float> from(9 * 17 + 1, -1), to(9 * 19 + 3, -1);
  Strided in(from.data() + 1, 9, 13, Eigen::OuterStride<>(17));
  Strided out(to.data() + 3, 9, 13, Eigen::OuterStride<>(19));
  in = x;
  const auto check = [&](auto layer) {
    Matrix expected(9, 13);
    std::as_const(layer).infer(x, expected);
    std::as_const(layer).infer(in, out);
    EXPECT_TRUE(Matrix(out).isApprox(expected, 1e-6F)) << text_of(layer);
    for (std::size_t i = 0; i < to.size(); ++i)
      if (i < 3 || (i - 3) % 19 >= 13) {
        EXPECT_EQ(to[i], -1) << "a gap was written";
      }
  };
  check(tn::LayerNorm<float>(13));
  check(tn::RMSNorm<float>(13));
  check(tn::BatchNorm1d<float>(13));
  check(tn::BatchNorm1d<float>(13, {.track_running_stats = false}));
}

#if defined(TENSORNORM_TEST_HAS_PAGES)

/// layer_norm and rms_norm of rows of n, batch_norm over columns and over slices of n, with everything at the edge of a
/// page.
template <class Kind>
void run_at_page_edges(Index n, support::Edge edge) {
  using S = typename Kind::Scalar;
  using support::Pages;
  const auto size = static_cast<std::size_t>(n);
  const Pages<S> x(support::random_values<S>(6 * n, 1), edge), y(6 * size, edge);
  const Pages<S> weight(std::vector<S>(size, S(2)), edge), bias(std::vector<S>(size, S(1)), edge);
  const Pages<S> pair(std::vector<S>(2, S(2)), edge);
  const auto map = []<int kRank>(const Pages<S>& pages, const std::array<Index, kRank>& extents) {
    return Eigen::TensorMap<typename Kind::template Tensor<kRank>>(pages.data(), extents);
  };
  const auto vector = [](const Pages<S>& pages, Index length) {
    return Eigen::TensorMap<const Eigen::Tensor<S, 1>>(pages.data(), length);
  };
  const auto w = vector(weight, n), b = vector(bias, n), two = vector(pair, 2);
  const auto x2 = map.template operator()<2>(x, {6, n});
  auto y2 = map.template operator()<2>(y, {6, n});
  const auto x3 = map.template operator()<3>(x, {3, 2, n});
  auto y3 = map.template operator()<3>(y, {3, 2, n});
  tn::layer_norm(x2, y2, w, b);
  tn::layer_norm(x2, y2, tn::none, tn::none);
  tn::rms_norm(x2, y2, w);
  tn::batch_norm(x2, y2, b, w, w, b);
  tn::batch_norm(x3, y3, two, two, two, two);
  tn::group_norm(x3, y3, 1, two, two);
  tn::group_norm(x2, y2, n, w, b);
  if (n > 1) tn::instance_norm(x3, y3, two, two);
  tn::normalize(x2, y2, w, w, tn::over<0>);
  (void)tn::moments(x3, tn::over<0, 2>);
  tn::BatchNorm1d<S> columns(n), slices(2);
  columns.forward(x2, y2);
  slices.forward(x3, y3);
  EXPECT_TRUE(std::isfinite(y.values().back()));
}

// Sizes up to twice a vector of the narrowest type and one, and those about a block of the reduction.
TYPED_TEST(Faults, Row60NoAccessOutsideXYWeightOrBias) {
  support::at_each_level([](tn::kernels::Level) {
    for (const support::Edge edge : {support::Edge::start, support::Edge::end}) {
      for (Index n = 1; n <= 2 * 32 + 1; ++n) run_at_page_edges<TypeParam>(n, edge);
      for (const Index n : {63, 100, 511, 513, 1023, 1025, 4097}) run_at_page_edges<TypeParam>(n, edge);
    }
  });
}

TYPED_TEST(Faults, Row61XIsNeverWritten) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    support::Pages<S> pages(std::vector<S>(x.data(), x.data() + x.size()), support::Edge::end);
    pages.forbid_writing();
    const Eigen::TensorMap<const X> read_only(pages.data(), x.dimensions());
    auto y = like(x);
    tn::SavedStats<S> saved;
    layer.forward(read_only, y, saved);
    layer.forward(read_only, y);
    std::as_const(layer).infer(read_only, y);
  });
}

TYPED_TEST(Faults, Row67AThreadWithASmallStack) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "sanitized frames are larger";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    auto y = like(x), expected = like(x);
    tn::SavedStats<typename TypeParam::Scalar> saved;
    auto copy = layer;
    copy.forward(x, expected);
    support::on_small_stack([&] {
      layer.forward(x, y, saved);
      std::as_const(layer).infer(x, y);
      layer.forward(x, y);
    });
    EXPECT_TRUE(same_bits(support::logical(y), support::logical(expected)));
  });
}

#endif

// The first call of its size on a thread takes memory; whichever of its allocations fails, nothing has changed.
TYPED_TEST(Faults, Row65AnAllocationThatFails) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const std::string text = text_of(layer);
    long failures = 0;
    for (long n = 1; n < 100; ++n) {
      auto y = like(x);
      const std::string state = state_of(layer), y_before = bytes_of(y);
      tn::SavedStats<typename TypeParam::Scalar> saved;
      if (!support::throws_at_allocation(n, [&] { layer.forward(x, y, saved); })) break;
      ++failures;
      EXPECT_EQ(state_of(layer), state);
      EXPECT_EQ(bytes_of(y), y_before);
      EXPECT_TRUE(saved.empty());
    }
    EXPECT_GE(failures, 1) << text << ": saved at least takes memory";
    EXPECT_LT(failures, 10) << text;
  });
}

/// f, on threads of its own, with each of its allocations failing in turn, until none does: `unchanged()` is then what it
/// was before. Returns how many there were.
template <class F, class State>
long fail_each_allocation(const F& f, const State& unchanged) {
  const std::string before = unchanged();
  long failures = 0;
  while (failures < 100 && support::throws_at_allocation(failures + 1, f)) {
    ++failures;
    EXPECT_TRUE(unchanged() == before) << "by a call whose allocation " << failures << " failed";
  }
  return failures;
}

TYPED_TEST(Faults, Row65AConstructorWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  const auto check = [](const char* layer, long least, const auto& make) {
    const long failures = fail_each_allocation(make, [] { return std::string(); });
    EXPECT_GE(failures, least) << layer << ": its parameters and statistics at least";
    EXPECT_LT(failures, 20) << layer;
  };
  check("BatchNorm2d", 4, [] { tn::BatchNorm2d<S> layer(3); });
  check("InstanceNorm1d", 4, [] { tn::InstanceNorm1d<S> layer(3, {.affine = true, .track_running_stats = true}); });
  check("GroupNorm", 2, [] { tn::GroupNorm<S> layer(3, 3); });
  check("LayerNorm", 2, [] { tn::LayerNorm<S> layer(5); });
  check("LayerNorm of three axes", 2, [] { tn::LayerNorm<S, 3> layer({3, 4, 5}); });
  check("RMSNorm", 1, [] { tn::RMSNorm<S> layer(5); });
  check("Normalization", 2, [] { tn::Normalization<S, PositionAxes> layer({3}); });
}

TYPED_TEST(Faults, Row65ACopyWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto&) {
    const long failures = fail_each_allocation([&] { auto copy = layer; }, [&] { return state_of(layer); });
    EXPECT_GE(failures, 1) << text_of(layer);
  });
}

// From a larger layer and from a smaller one, in other modes and with other values.
TYPED_TEST(Faults, Row65AnAssignmentWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  const auto assign = [](auto to, auto from) {
    SCOPED_TRACE(text_of(to) + " = " + text_of(from));
    to.weight().setConstant(S(2));
    from.weight().setConstant(S(3));
    from.eval();
    const auto both = [&] { return state_of(to) + state_of(from); };
    EXPECT_GE(fail_each_allocation([&] { to = from; }, both), 1);
    EXPECT_EQ(state_of(to), state_of(from)) << "once there is memory";
  };
  const auto each_to_the_other = [&](const auto& a, const auto& b) {
    assign(a, b);
    assign(b, a);
  };
  each_to_the_other(tn::BatchNorm2d<S>(3), tn::BatchNorm2d<S>(8, {.eps = 1e-3, .momentum = 0.5}));
  const tn::InstanceNormOptions tracking{.affine = true, .track_running_stats = true};
  each_to_the_other(tn::InstanceNorm1d<S>(3, tracking), tn::InstanceNorm1d<S>(8, tracking));
  each_to_the_other(tn::GroupNorm<S>(3, 3), tn::GroupNorm<S>(2, 8));
  each_to_the_other(tn::LayerNorm<S>(5), tn::LayerNorm<S>(100));
  each_to_the_other(tn::LayerNorm<S, 3>({3, 4, 5}), tn::LayerNorm<S, 3>({6, 5, 4}));
  each_to_the_other(tn::RMSNorm<S>(5), tn::RMSNorm<S>(100));
  each_to_the_other(tn::Normalization<S, PositionAxes>({3}), tn::Normalization<S, PositionAxes>({8}));
}

TYPED_TEST(Faults, Row65ANewResultWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const auto all = [&] { return state_of(layer) + bytes_of(x); };
    const std::string before = all();
    long failures = 0;
    for (bool threw = true; threw && failures < 100; failures += threw) {
      auto copy = layer;
      threw = support::throws_at_allocation(failures + 1, [&] { copy(x); });
      if (threw) {  // the call that goes well moves the statistics
        EXPECT_EQ(state_of(copy) + bytes_of(x), before);
      }
    }
    EXPECT_GE(failures, 1) << text_of(layer) << ": y at least takes memory";
    EXPECT_LT(failures, 100) << text_of(layer);
    EXPECT_GE(fail_each_allocation([&] { std::as_const(layer).infer(x); }, all), 1) << text_of(layer);
  });
}

TYPED_TEST(Faults, Row65AFunctionWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  using Rows = Eigen::TensorMap<typename TypeParam::template Tensor<2>>;
  using Images = Eigen::TensorMap<typename TypeParam::template Tensor<3>>;
  using Vector = Eigen::TensorMap<const Eigen::Tensor<S, 1>>;
  std::vector<S> x(6 * 500, S(1)), y(x.size() + 2 * 500, S(-12345)), parameters(500, S(2));  // beside y, parameters' gradients
  x[7] = S(3);
  const Rows x2(x.data(), 6, 500);
  const Images x3(x.data(), 3, 2, 500);
  Rows y2(y.data(), 6, 500);
  Images y3(y.data(), 3, 2, 500);
  const Vector w(parameters.data(), 500), two(parameters.data(), 2);
  const auto check = [&](const char* name, const auto& f) {
    long failures = 0;
    const std::vector<S> before = y;
    while (failures < 100 && support::throws_at_allocation(failures + 1, f)) {
      ++failures;
      EXPECT_TRUE(same_bits(y, before)) << name << ", allocation " << failures;
    }
    EXPECT_GE(failures, 1) << name;
    EXPECT_LT(failures, 10) << name;
  };
  check("moments", [&] { (void)tn::moments(x3, tn::over<0, 2>); });
  check("layer_norm", [&] { tn::layer_norm(x2, y2, w, w); });
  check("rms_norm", [&] { tn::rms_norm(x2, y2, w); });
  check("batch_norm", [&] { tn::batch_norm(x3, y3, two, two, two, two); });
  check("group_norm", [&] { tn::group_norm(x3, y3, 1, two, two); });
  check("instance_norm", [&] { tn::instance_norm(x3, y3, two, two); });
  check("normalize", [&] { tn::normalize(x2, y2, w, w, tn::over<0>); });
  tn::SavedStats<S> saved;
  tn::layer_norm(x2, y2, saved, w, w);
  const auto sums = [&](Index first, Index size) { return Eigen::TensorMap<Eigen::Tensor<S, 1>>(y.data() + x.size() + first, size); };
  check("layer_norm_backward", [&] { tn::layer_norm_backward(x2, x2, saved, w, y2, sums(0, 500), sums(500, 500)); });
  check("batch_norm_backward", [&] { tn::batch_norm_backward(x3, x3, two, two, two, y3, sums(0, 2), sums(2, 2)); });
}

TYPED_TEST(Faults, Row66NoAllocationInTheSteadyState) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    auto y = like(x);
    auto data = x;
    tn::SavedStats<typename TypeParam::Scalar> saved;
    const auto calls = [&] {
      layer.forward(x, y, saved);
      layer.forward(x, y);
      std::as_const(layer).infer(x, y);
      layer.forward(data, data);
      layer.eval();
      layer.forward(x, y, saved);
      layer.train();
    };
    calls();
    EXPECT_EQ(support::allocations_in(calls), 0);
  });
}

TEST(FaultsOfMemory, Row66TheHookCounts) {
  if (!support::kCountsAllocations) GTEST_SKIP();
  EXPECT_GE(support::allocations_in([] { Eigen::Tensor<float, 1> tensor(100); }), 1);
  // By name: a compiler may leave out a new-expression together with its delete.
  void* kept = nullptr;
  EXPECT_EQ(support::blocks_left_by([&] { kept = ::operator new(64); }), 1);
  EXPECT_EQ(support::blocks_left_by([&] { ::operator delete(kept); }), -1);
  EXPECT_GE(support::allocations_in([] { ::operator delete(::operator new(64)); }), 1);
  EXPECT_GE(support::allocations_in(
                [] { ::operator delete(::operator new(64, std::align_val_t(64)), std::align_val_t(64)); }),
            1);
}

}  // namespace
