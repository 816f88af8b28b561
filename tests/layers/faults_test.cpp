// SPDX-License-Identifier: MIT
// What must happen on bad input and in bad places: a test per row of the table of faults, by its number. Whatever
// throws has changed nothing: the layer, the saved statistics and the output are compared byte by byte. Here are construction and
// shapes, 1 to 29 and 32 to 34.
//
// Rows without a test: 17, and of 14 a LayerNorm of no axes, do not compile (tests/compile_fail); 19 cannot be told apart, and the
// policies' documentation says so; 31 and 62 are documented preconditions beyond what 30 checks; 85 needs a 32-bit build.
// Elsewhere: values, 38 to 43, 47, 48, 52 and 54, in value_faults_test, and 44 to 46 in scales_test; memory, 55 to 67, in memory_faults_test;
// 30 to 37, 43, 53 and 56 in backward_faults_test, which has 59 to 61 and 65 to 67 for backward and for more types too; 49 to 52 in
// narrow_types_test; 63, 65 beside a pool and 68 to 76 in threads_test, 73 also in compile_fail; 82 to 84 in environment_test; 95 in
// misuse_test; 96 in running_stats_test, 97 there and in batch_norm_test; 98 in backward_test.
// 59 with other values of EIGEN_MAX_ALIGN_BYTES, 64, 81, 86, 87 and 88 are builds, tests/odr; what takes another Eigen (89, whose
// versions tests/package/eigen_versions tells apart), other machines or compilers (90 to 92) is the full matrix. 79, 80, 93 and 94 wait
// for what they are about.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::same_bits;

using namespace faults;

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
  Eigen::Tensor<float, 3> images(2, 3, 4), out(2, 3, 4);
  images.setRandom();
  const Eigen::Tensor<float, 1> mean(3), variance(3);
  tn::SavedStats<float> of_rows, of_second_moments, of_instances, of_groups;
  tn::layer_norm(x, y, of_rows);
  tn::rms_norm(x, y, of_second_moments);
  tn::instance_norm(images, out, of_instances);
  tn::group_norm(x, y, of_groups, 1);
  y.setConstant(7);
  out.setConstant(7);
  const auto bytes = [&] { return bytes_of(y) + bytes_of(out); };
  const std::string before = bytes();
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
    refused("instance_norm: ", [&] { tn::instance_norm(images, out, tn::none, tn::none, {.eps = eps}); });
    refused("normalize: ", [&] { tn::normalize(x, y, mean, variance, tn::over<0>, {.eps = eps}); });
    constexpr auto none = tn::none;
    refused("layer_norm_backward: ", [&] { tn::layer_norm_backward(x, x, of_rows, none, y, none, none, {.eps = eps}); });
    refused("rms_norm_backward: ", [&] { tn::rms_norm_backward(x, x, of_second_moments, none, y, none, {.eps = eps}); });
    refused("instance_norm_backward: ",
            [&] { tn::instance_norm_backward(images, images, of_instances, none, out, none, none, {.eps = eps}); });
    refused("group_norm_backward: ", [&] { tn::group_norm_backward(x, x, of_groups, 1, none, y, none, none, {.eps = eps}); });
    refused("batch_norm_backward: ", [&] { tn::batch_norm_backward(x, x, mean, variance, none, y, none, none, {.eps = eps}); });
    EXPECT_EQ(bytes(), before);
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
  EXPECT_NEAR(support::logical(layer(x))[1], expected, tolerance);
  EXPECT_NEAR(support::logical(layer(x))[0], -expected, tolerance);
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

// The last two products are 0 and 2^50 (of 32 bits 2^18) where they wrap around: what is asked for is the message's memory, neither theirs nor
// the shape's.
TEST(FaultsOfConstruction, Row15ANormalizedShapeThatOverflows) {
  constexpr Index most = std::numeric_limits<Index>::max(), big = Index{1} << std::numeric_limits<Index>::digits / 2, more = 2 * big + big / 0x2000;
  for (const tn::Extents<3> shape : {tn::Extents<3>{{1, 1, most / 8 + 1}}, tn::Extents<3>{{big, big, big}}, tn::Extents<3>{{2, big, more}}}) {
    std::ostringstream text;
    text << tn::ShapeText{shape.data(), 3};
    const auto refused = [&](const char* layer, const char* argument, const auto& make) {
      const std::size_t largest = support::largest_allocation_in(
          [&] { expect_error<std::length_error>(make, {std::string(layer) + "::constructor: ", argument, text.str()}); });
      EXPECT_LT(largest, 4096) << layer << text.str();
    };
    refused("LayerNorm", "normalized_shape", [&] { tn::LayerNorm<float, 3> layer(shape); });
    refused("RMSNorm", "normalized_shape", [&] { tn::RMSNorm<float, 3> layer(shape); });
    refused("Normalization", "affine_shape", [&] { tn::Normalization<float, PositionAxes> layer({shape[0], shape[1], shape[2]}); });
  }
  if (support::kCountsAllocations) {
    EXPECT_GE(support::largest_allocation_in([] { tn::LayerNorm<float> layer(5000); }), 5000 * sizeof(float)) << "the hook sees sizes";
  }
}

TEST(FaultsOfConstruction, Row16MoreChannelsThanMemory) {
  constexpr Index many = std::numeric_limits<Index>::max() / 4 + 1;
  expect_error<std::length_error>([] { tn::BatchNorm2d<float> layer(many); }, {"BatchNorm2d::constructor: ", "num_features", std::to_string(many)});
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
  if (sizeof(Index) < 8) GTEST_SKIP() << "there may be memory for all that an index counts";
  runs_out_of_memory([] { tn::BatchNorm2d<float> layer(many >> 11); });
  runs_out_of_memory([] { tn::LayerNorm<float> layer(many >> 11); });
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
        parts = {last_axis ? "expected normalized_shape [" + std::to_string(extent(x, axis)) + "], got [" + std::to_string(got) + "]"
                           : "expected C=" + std::to_string(extent(x, axis)) + " at dimension " + std::to_string(axis) +
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
  expect_refused(two, x, y, {"expected normalized_shape [5,4], got [5,5] (x: [2,4,5,5])"});
  Eigen::VectorXf column = Eigen::VectorXf::Zero(4), out = column;
  tn::LayerNorm<float> rows(4);
  expect_refused(rows, column, out,
                 {"expected normalized_shape [4], got [1] (x: [4,1]); one sample is a row, not a column"});
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
  const auto last = random_tensor<typename TypeParam::template Tensor<4>>({1, 1, 1, 3});
  tn::BatchNorm2d<S, tn::BatchAxes<-1>> channels_last(3);
  expect_refused(channels_last, last, like(last), {"more than 1 value per channel", "[1,1,1,3]"}, Calls::forward_only);
  const auto volumes = random_tensor<typename TypeParam::template Tensor<5>>({1, 3, 1, 1, 1});
  tn::BatchNorm3d<S> of_volumes(3, {.affine = false});
  expect_refused(of_volumes, volumes, like(volumes), {"more than 1 value per channel", "[1,3,1,1,1]"}, Calls::forward_only);
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

  const auto image = support::tensor_of<typename TypeParam::template Tensor<4>>({1, 2, 1, 1}, std::vector<S>{5, -6});
  const auto accepts = [&](auto of_images) {
    of_images.running_stats().load(std::vector<S>{1, 2}, std::vector<S>{4, 16}, 1);
    EXPECT_EQ(support::logical(std::as_const(of_images).infer(image)), expected);
    of_images.eval();
    EXPECT_EQ(support::logical(of_images(image)), expected);
  };
  accepts(tn::BatchNorm2d<S>(2, {.eps = 0}));
  accepts(tn::InstanceNorm2d<S>(2, {.eps = 0, .track_running_stats = true}));
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
        EXPECT_EQ(support::shape_of(layer(empty)), support::shape_of(empty));
        EXPECT_EQ(support::shape_of(std::as_const(layer).infer(empty)), support::shape_of(empty));
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
        expect_refused(layer, x, y, {"y: expected " + text_of_shape(shape) + ", got " + text_of_shape(support::shape_of(y))}, Calls::of_y);
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
        expect_refused(layer, data, Map(memory.data() + 2 * size, extents), {"y: expected [", "], got ["}, Calls::of_y);
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
  for (const Index size : {2, 4}) {
    tn::BatchNorm2d<S> changed = layer;
    changed.running_stats() = tn::RunningStats<S>(size);
    expect_refused<std::logic_error>(changed, x, like(x), {"expected running statistics of 3 features, got " + std::to_string(size)});
  }
}

TYPED_TEST(Faults, Row32ParametersOfTheWrongShape) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const auto refuses = [&](const char* name, const auto& parameter_of) {
      const support::Shape right = support::shape_of(parameter_of(layer));
      for (int axis = 0; axis < static_cast<int>(right.size()); ++axis)
        for (const Index more : {1, -1}) {
          auto changed = layer;
          parameter_of(changed) = like(parameter_of(layer), axis, more);
          expect_refused(changed, x, like(x),
                         {std::string(name) + ": expected " + text_of_shape(right) + ", got " + text_of_shape(support::shape_of(parameter_of(changed)))});
        }
    };
    refuses("weight", [](auto& of) -> auto& { return of.weight(); });
    if (name_of(layer) != "RMSNorm") refuses("bias", [](auto& of) -> auto& { return of.bias(); });
  });
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

}  // namespace
