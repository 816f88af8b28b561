// SPDX-License-Identifier: MIT
#include "print.hpp"
#include "tour.hpp"

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace tour {
namespace {

namespace tn = tensornorm;
using examples::Images;
using examples::Index;

constexpr Index batch_size = 64;
constexpr int epochs = 3;

std::span<const float> pixels(const Images& images) { return {images.data(), static_cast<std::size_t>(images.size())}; }

/// A mean and a variance. From numbers by two passes in double, which is the truth the layer is held against.
struct Moments {
  double mean = 0;
  double variance = 0;  // unbiased, / (n - 1), as running_var has it

  static Moments of(std::span<const float> values) {
    Moments result;
    const double n = static_cast<double>(values.size());
    for (const float value : values) result.mean += static_cast<double>(value);  // exact for pixels, which are integers
    result.mean /= n;
    for (const float value : values) {
      const double centred = static_cast<double>(value) - result.mean;
      result.variance += centred * centred / (n - 1);
    }
    return result;
  }

  static Moments of(const tn::BatchNorm2d<float>& layer) {
    return {static_cast<double>(layer.running_mean()(0)), static_cast<double>(layer.running_var()(0))};
  }

  /// What one more batch makes of running statistics.
  Moments moved(const Moments& batch, double momentum) const {
    return {mean + momentum * (batch.mean - mean), variance + momentum * (batch.variance - variance)};
  }
};

void print_row(long long batches, const Moments& momentum, const Moments& cumulative, const Moments& truth) {
  std::printf("  %7lld %10.4f %+9.4f %10.4f %+9.4f   %10.4f %+9.4f %10.4f %+9.4f\n", batches, momentum.mean,
              momentum.mean - truth.mean, momentum.variance, momentum.variance - truth.variance, cumulative.mean,
              cumulative.mean - truth.mean, cumulative.variance, cumulative.variance - truth.variance);
}

bool worth_a_row(long long batches) {
  constexpr long long rows[] = {1, 2, 4, 8, 16, 28, 42, 56, 70, 84};
  return std::find(std::begin(rows), std::end(rows), batches) != std::end(rows);
}

/// Feeds the digits in shuffled mini-batches and prints how the running statistics move.
void train(Judge& judge, const Images& images, tn::BatchNorm2d<float>& layer) {
  tn::BatchNorm2d<float> averaging(1, {.momentum = std::nullopt});
  const Moments truth = Moments::of(pixels(images));
  Moments expected{0, 1}, expected_average{0, 1};

  std::printf("  running mean and variance, and how far each is off the data set's\n\n");
  std::printf("          %-41s  %s\n", "momentum = 0.1", "momentum = std::nullopt: a plain average");
  std::printf("  %7s %10s %9s %10s %9s   %10s %9s %10s %9s\n", "batches", "mean", "off by", "variance", "off by",
              "mean", "off by", "variance", "off by");
  print_row(0, Moments::of(layer), Moments::of(averaging), truth);

  std::mt19937 random(1);
  long long batches = 0;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const std::vector<Index> order = examples::shuffled(images.dimension(0), random);
    for (Index first = 0; first + batch_size <= images.dimension(0); first += batch_size) {
      const Images batch = examples::gather(images, order, first, batch_size);
      const Images y = layer(batch);
      const Images same = averaging(batch);
      ++batches;

      const Moments of_batch = Moments::of(pixels(batch)), of_y = Moments::of(pixels(y));
      judge.close("mean of a normalized batch", of_y.mean, 0, 1e-6);
      judge.close("variance of a normalized batch", of_y.variance, 1, 1e-3);
      judge.close("y does not depend on momentum", y(0, 0, 4, 4), same(0, 0, 4, 4), 0);
      expected = expected.moved(of_batch, 0.1);
      expected_average = expected_average.moved(of_batch, 1 / static_cast<double>(batches));
      judge.close("running mean", Moments::of(layer).mean, expected.mean, 1e-5);
      judge.close("running variance", Moments::of(layer).variance, expected.variance, 1e-4);
      judge.close("average mean", Moments::of(averaging).mean, expected_average.mean, 1e-5);
      judge.close("average variance", Moments::of(averaging).variance, expected_average.variance, 1e-4);
      if (worth_a_row(batches)) print_row(batches, Moments::of(layer), Moments::of(averaging), truth);
    }
  }
  std::printf("  %7s %10.4f %9s %10.4f %9s   %10.4f %9s %10.4f\n", "truth", truth.mean, "", truth.variance, "",
              truth.mean, "", truth.variance);
  judge.close("running mean reaches the data set's", Moments::of(layer).mean / truth.mean, 1, 0.02);
  judge.close("running variance reaches the data set's", Moments::of(layer).variance / truth.variance, 1, 0.02);
  judge.close("average mean reaches the data set's", Moments::of(averaging).mean / truth.mean, 1, 0.002);
  judge.close("average variance reaches the data set's", Moments::of(averaging).variance / truth.variance, 1, 0.002);
}

/// One Welford per batch, merged: the exact statistics of all the data, whatever the batches.
void merge(Judge& judge, const Images& images) {
  tn::Welford<double> all;
  const std::span<const float> values = pixels(images);
  int parts = 0;
  for (std::size_t first = 0; first < values.size(); first += 4096, ++parts) {
    tn::Welford<double> batch;
    for (const float value : values.subspan(first, std::min<std::size_t>(4096, values.size() - first)))
      batch.push(static_cast<double>(value));
    all.merge(batch);
  }
  const Moments truth = Moments::of(values);
  std::printf("  %7s %10.4f %9s %10.4f             (all digits in %d parts, a tn::Welford each, merged: exact)\n", "merged",
              all.mean(), "", all.unbiased_variance(), parts);
  judge.close("merged mean", all.mean(), truth.mean, 1e-12);
  judge.close("merged variance", all.unbiased_variance(), truth.variance, 1e-11);
}

/// Eval mode: all digits, and one of them shown, by the running statistics.
void apply(Judge& judge, const examples::Digits& digits, const tn::BatchNorm2d<float>& layer, Index shown) {
  const Images y = layer.infer(digits.images);
  const Moments running = Moments::of(layer), of_y = Moments::of(pixels(y));
  const double deviation = std::sqrt(running.variance + layer.eps());
  for (Index i = 0; i < y.size(); ++i)
    judge.close("eval y", y.data()[i], (static_cast<double>(digits.images.data()[i]) - running.mean) / deviation, 1e-6);

  std::printf("\n  all 1797 digits by the running statistics: mean %.4f, variance %.4f\n", of_y.mean, of_y.variance);
  judge.close("mean of all normalized digits", of_y.mean, 0, 0.05);
  judge.close("variance of all normalized digits", of_y.variance, 1, 0.05);

  const auto picture = [&](const Images& images) {
    return pixels(images).subspan(static_cast<std::size_t>(shown * examples::digit_pixels), examples::digit_pixels);
  };
  std::printf("\n  a %d before\n\n", digits.labels[static_cast<std::size_t>(shown)]);
  print_picture(picture(digits.images), examples::digit_side, 0, 16, "%6.0f");
  std::printf("\n  and after (shades from -2 to 2)\n\n");
  print_picture(picture(y), examples::digit_side, -2, 2, "%6.2f");
}

}  // namespace

void digits(Judge& judge, const examples::Digits& data) {
  tn::BatchNorm2d<float> layer(1);
  heading("1797 handwritten digits, in batches of 64, 3 epochs, through a BatchNorm2d with one channel");
  if (data.count() != 1797) throw std::runtime_error("expected 1797 digits, got " + std::to_string(data.count()));
  train(judge, data.images, layer);
  merge(judge, data.images);
  layer.eval();
  apply(judge, data, layer, 12);
}

}  // namespace tour
