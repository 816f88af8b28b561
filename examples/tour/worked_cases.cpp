// SPDX-License-Identifier: MIT
#include "print.hpp"
#include "textbook.hpp"
#include "tour.hpp"

#include <tensornorm/tensornorm.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace tour {
namespace {

namespace tn = tensornorm;

template <int Rank>
using Tensor = Eigen::Tensor<float, Rank, Eigen::RowMajor>;

// 4 units in the last place of a float.
constexpr double rounding = 4 * 0x1p-23;
// PyTorch's numbers are written with 9 digits, and 1e-5 is not the same number as a float and as a double.
constexpr double against_pytorch = 1e-6;

/// The inputs: integers -9..9, row by row, from the C standard's example generator (as in pytorch_numbers.py).
class SmallIntegers {
 public:
  template <int Rank>
  Tensor<Rank> next(const std::array<Eigen::Index, std::size_t{Rank}>& shape) {
    Tensor<Rank> x(shape);
    for (float& value : std::span(x.data(), static_cast<std::size_t>(x.size()))) {
      state_ = (state_ * 1103515245 + 12345) % (std::uint64_t{1} << 31);
      value = static_cast<float>(static_cast<int>((state_ >> 16) % 19) - 9);
    }
    return x;
  }

 private:
  std::uint64_t state_ = 1;
};

template <int Rank>
Tensor<Rank> small_integers(const std::array<Eigen::Index, std::size_t{Rank}>& shape) {
  return SmallIntegers().next<Rank>(shape);
}

/// Any dense result in double, in memory order.
template <class Dense>
std::vector<double> doubles(const Dense& values) {
  std::vector<double> result(static_cast<std::size_t>(values.size()));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = static_cast<double>(values.data()[i]);
  return result;
}

template <int Rank>
Shape shape_of(const Tensor<Rank>& x) {
  Shape shape;
  for (const Eigen::Index extent : x.dimensions()) shape.push_back(static_cast<std::size_t>(extent));
  return shape;
}

/// The layer's own statistics, as it saved them for its backward pass.
Statistics saved_statistics(const tn::SavedStats<float>& saved, const Formula& formula) {
  Statistics result{doubles(saved.mean()), doubles(saved.rstd())};
  for (double& value : result.variance) value = formula.variance_from(1 / value);
  return result;
}

/// How much of a case is printed, and what PyTorch says about it.
struct Case {
  Grouping grouping;
  std::span<const pytorch::Sample> pytorch;
  std::size_t slices = 2;
  Formula formula = {};
  std::string note = "";  // for the heading
};

/// Runs the layer on x, prints what it did and checks every number of it. Returns y.
template <class Layer, int Rank>
Tensor<Rank> show(Judge& judge, Layer& layer, const Tensor<Rank>& x, const Case& about) {
  const std::string name = text_of(layer);
  const Shape shape = shape_of(x);
  heading(name + " on " + text_of_shape(shape) + about.note);

  Tensor<Rank> y(x.dimensions());
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);

  const std::vector<double> before = doubles(x), after = doubles(y);
  const Statistics of_x = saved_statistics(saved, about.formula);
  const Statistics of_y = statistics(after, shape, about.grouping, about.formula);
  print_side_by_side(shape, before, after, about.slices);
  std::printf("\n");
  print_statistics(about.grouping, shape, of_x, of_y);

  const Statistics expected = statistics(before, shape, about.grouping, about.formula);
  judge.close(name + " mean", of_x.mean, expected.mean, rounding);
  judge.close(name + " variance", of_x.variance, expected.variance, rounding);
  judge.close(name + " y", after, normalized(before, shape, about.grouping, about.formula), rounding);
  judge.close(name + " y", after, about.pytorch, against_pytorch);
  for (std::size_t s = 0; s < of_y.mean.size(); ++s) {
    const double divisor = about.formula.divisor(expected.variance[s]);
    judge.close(name + " mean of y", of_y.mean[s], 0, rounding);
    judge.close(name + " variance of y", of_y.variance[s], expected.variance[s] / (divisor * divisor), rounding);
  }
  return y;
}

void batch_norm_1d(Judge& judge) {
  Tensor<2> x(2, 3);
  x.setValues({{2, 2, 2}, {0, 0, 0}});
  tn::BatchNorm1d<float> layer(3);
  show(judge, layer, x, {{{{"c", 1}}}, pytorch::batch_norm_1d});
}

void layer_norm_of_rows(Judge& judge) {
  const Tensor<3> x = small_integers<3>({2, 2, 3});
  tn::LayerNorm<float> rows(3);
  show(judge, rows, x, {{{{"n", 0}, {"row", 1}}}, pytorch::layer_norm_row});
  tn::LayerNorm<float, 2> samples({2, 3});
  show(judge, samples, x, {{{{"n", 0}}}, pytorch::layer_norm_sample});
}

void one_batch_of_images(Judge& judge) {
  const Tensor<4> x = small_integers<4>({2, 3, 3, 3});
  tn::BatchNorm2d<float> batch(3);
  show(judge, batch, x, {{{{"c", 1}}}, pytorch::batch_norm_2d});
  tn::LayerNorm<float, 3> image({3, 3, 3});
  show(judge, image, x, {{{{"n", 0}}}, pytorch::layer_norm_image});
  tn::InstanceNorm2d<float> instance(3);
  show(judge, instance, x, {{{{"n", 0}, {"c", 1}}}, pytorch::instance_norm_2d});
}

void group_norm(Judge& judge) {
  tn::GroupNorm<float> layer(2, 6);
  show(judge, layer, small_integers<4>({2, 6, 3, 3}), {{{{"n", 0}, {"g", 1, 3}}}, pytorch::group_norm_2_of_6, 4});
}

/// GroupNorm between its extremes: a group per channel is InstanceNorm, one group has LayerNorm's statistics.
void group_norm_family(Judge& judge) {
  const Tensor<4> x = small_integers<4>({20, 6, 10, 10});
  tn::GroupNorm<float> pairs(3, 6, {.affine = false}), channels(6, 6, {.affine = false}), all(1, 6, {.affine = false});
  show(judge, pairs, x, {{{{"n", 0}, {"g", 1, 2}}}, pytorch::group_norm_3, 1});
  const Tensor<4> per_channel = show(judge, channels, x, {{{{"n", 0}, {"c", 1}}}, pytorch::group_norm_6, 1});
  const Tensor<4> whole = show(judge, all, x, {{{{"n", 0}}}, pytorch::group_norm_1, 1});

  tn::InstanceNorm2d<float> instance(6);
  tn::LayerNorm<float, 3> layer({6, 10, 10}, {.elementwise_affine = false});
  const std::vector<double> instance_y = doubles(instance(x)), layer_y = doubles(layer(x));
  judge.close("GroupNorm(6, 6) = InstanceNorm2d(6)", doubles(per_channel), instance_y, 0);
  judge.close("GroupNorm(1, 6) = LayerNorm([6,10,10])", doubles(whole), layer_y, 0);
  std::printf("\n  GroupNorm(6, 6) = InstanceNorm2d(6) and GroupNorm(1, 6) = LayerNorm([6,10,10]), bit for bit.\n");
}

struct RunningExpected {
  std::span<const pytorch::Sample> mean, variance;
};

void show_running(Judge& judge, const tn::BatchNorm3d<float>& layer, const RunningExpected& expected) {
  const std::vector<double> mean = doubles(layer.running_mean()), variance = doubles(layer.running_var());
  std::printf("\n  running statistics after batch %lld (of an unbiased variance):", static_cast<long long>(layer.running_stats().num_batches()));
  for (std::size_t c = 0; c < mean.size(); ++c)
    std::printf("   c=%zu mean %.6f, variance %.6f", c, mean[c], variance[c]);
  std::printf("\n");
  judge.close("running_mean", mean, expected.mean, against_pytorch);
  judge.close("running_var", variance, expected.variance, against_pytorch);
}

void batch_norm_3d(Judge& judge) {
  SmallIntegers source;
  const Tensor<5> first = source.next<5>({3, 2, 2, 2, 3}), second = source.next<5>({3, 2, 2, 2, 3});
  tn::BatchNorm3d<float> layer(2, {.momentum = 0.3});
  show(judge, layer, first, {{{{"c", 1}}}, pytorch::batch_norm_3d_step1, 2, {}, ", batch 1"});
  show_running(judge, layer, {pytorch::batch_norm_3d_running_mean1, pytorch::batch_norm_3d_running_var1});
  show(judge, layer, second, {{{{"c", 1}}}, pytorch::batch_norm_3d_step2, 2, {}, ", batch 2"});
  show_running(judge, layer, {pytorch::batch_norm_3d_running_mean2, pytorch::batch_norm_3d_running_var2});

  heading("The same layer after eval(), on batch 1: the running statistics take the batch's place");
  layer.eval();
  const Tensor<5> y = layer(first);
  print_side_by_side(shape_of(first), doubles(first), doubles(y), 2);
  std::vector<double> expected = doubles(first);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Eigen::Index c = static_cast<Eigen::Index>(i) / (2 * 2 * 3) % 2;
    expected[i] = (expected[i] - layer.running_mean()(c)) / std::sqrt(layer.running_var()(c) + layer.eps());
  }
  judge.close("BatchNorm3d eval", doubles(y), expected, rounding);
  judge.close("BatchNorm3d eval", doubles(y), pytorch::batch_norm_3d_eval, against_pytorch);
}

void layer_norm_ranks(Judge& judge) {
  const Tensor<4> x = small_integers<4>({8, 2, 3, 4});
  tn::LayerNorm<float, 3> three({2, 3, 4});
  tn::LayerNorm<float, 2> two({3, 4});
  tn::LayerNorm<float> one(4);
  show(judge, three, x, {{{{"n", 0}}}, pytorch::layer_norm_2_3_4});
  show(judge, two, x, {{{{"n", 0}, {"c", 1}}}, pytorch::layer_norm_3_4});
  show(judge, one, x, {{{{"n", 0}, {"c", 1}, {"h", 2}}}, pytorch::layer_norm_4});
}

/// The LayerNorm of "The Annotated Transformer": unbiased deviation, eps added to the deviation.
void textbook_layer_norm(Judge& judge) {
  tn::LayerNorm<float> layer(
      8, {.eps = 1e-6, .variance = tn::VarianceEstimator::unbiased, .eps_added_to = tn::EpsAddedTo::deviation});
  const Formula formula = {.eps = 1e-6, .unbiased = true, .eps_beside_deviation = true};
  show(judge, layer, small_integers<3>({2, 4, 8}),
       {{{{"batch", 0}, {"token", 1}}},
        pytorch::annotated_layer_norm,
        2,
        formula,
        ": unbiased, eps beside the deviation"});
}

void rms_norm(Judge& judge) {
  tn::RMSNorm<float> layer(4);
  const Formula formula = {.eps = 0x1p-23, .centred = false};
  const Tensor<3> x = small_integers<3>({2, 3, 4});
  heading(text_of(layer) + " on (2,3,4): the mean is not taken away, \"variance\" is the mean square");

  Tensor<3> y(x.dimensions());
  layer.forward(x, y);
  const Grouping rows{{{"n", 0}, {"row", 1}}};
  const std::vector<double> before = doubles(x), after = doubles(y);
  print_side_by_side(shape_of(x), before, after, 2);
  std::printf("\n");
  Statistics of_x = statistics(before, shape_of(x), rows, formula), of_y = statistics(after, shape_of(y), rows, formula);
  of_x.mean = statistics(before, shape_of(x), rows, {}).mean;  // there is one, though the layer does not ask
  of_y.mean = statistics(after, shape_of(y), rows, {}).mean;
  print_statistics(rows, shape_of(x), of_x, of_y);
  judge.close("RMSNorm y", after, normalized(before, shape_of(x), rows, formula), rounding);
  judge.close("RMSNorm y", after, pytorch::rms_norm, against_pytorch);
}

/// Positional normalization: over the channels, at every pixel of every image.
struct PositionAxes {
  static constexpr tn::AxisRole role(int axis, int /*rank*/) {
    return axis == 1 ? tn::AxisRole::reduced_affine : tn::AxisRole::kept;
  }
};

void own_policy(Judge& judge) {
  tn::Normalization<float, PositionAxes> layer({6});
  show(judge, layer, small_integers<4>({2, 6, 3, 3}),
       {{{{"n", 0}, {"h", 2}, {"w", 3}}}, {}, 2, {}, ": PositionAxes, over c"});
}

/// weight = sqrt(variance + eps) and bias = mean undo the normalization: a network can learn to leave x alone.
void undone_by_its_parameters(Judge& judge) {
  const Tensor<4> x = small_integers<4>({2, 3, 3, 3});
  tn::BatchNorm2d<float> layer(3);
  const Statistics of_x = statistics(doubles(x), shape_of(x), {{{"c", 1}}}, {});
  for (std::size_t c = 0; c < 3; ++c) {
    layer.weight()(static_cast<Eigen::Index>(c)) = static_cast<float>(std::sqrt(of_x.variance[c] + layer.eps()));
    layer.bias()(static_cast<Eigen::Index>(c)) = static_cast<float>(of_x.mean[c]);
  }
  heading("The same BatchNorm2d(3) with weight = sqrt(variance + eps), bias = mean: x comes back");
  const Tensor<4> y = layer(x);
  print_side_by_side(shape_of(x), doubles(x), doubles(y), 1);
  judge.close("x restored", doubles(y), doubles(x), rounding);
}

}  // namespace

void worked_cases(Judge& judge) {
  batch_norm_1d(judge);
  layer_norm_of_rows(judge);
  one_batch_of_images(judge);
  undone_by_its_parameters(judge);
  group_norm(judge);
  group_norm_family(judge);
  batch_norm_3d(judge);
  layer_norm_ranks(judge);
  textbook_layer_norm(judge);
  rms_norm(judge);
  own_policy(judge);
}

}  // namespace tour
