// SPDX-License-Identifier: MIT
#include "digit_training.hpp"

#include "digit_network.hpp"
#include "progress.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <future>
#include <random>
#include <stdexcept>

namespace examples {

namespace {

/// The digits at the given places. One channel: (N, 1, 8, 8) and (N, 8, 8, 1) are the same memory.
LabelledImages select(const Digits& digits, const std::vector<Index>& order, Index first, Index count) {
  LabelledImages result;
  const Images chosen = gather(digits.images, order, first, count);
  const Eigen::array<Index, 4> shape = {count, digit_side, digit_side, 1};
  result.images = chosen.reshape(shape) / 16.0f;
  for (Index i = first; i < first + count; ++i)
    result.labels.push_back(digits.labels[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]);
  return result;
}

/// The share of images whose largest logit is the label's.
double accuracy(DigitNetwork<float>& network, const LabelledImages& data) {
  const Matrix<float> logits = network.forward(data.images);
  int right = 0;
  for (Index row = 0; row < logits.rows(); ++row) {
    Index best = 0;
    logits.row(row).maxCoeff(&best);
    right += best == data.labels[static_cast<std::size_t>(row)];
  }
  return right / static_cast<double>(logits.rows());
}

/// Trains by SGD with momentum 0.9, the rate falling to 0 along a cosine. Calls `epoch_done` after each epoch.
/// A run whose loss stops being finite ends there; its network counts as guessing.
Outcome train(const Run& run, const Split& data, const std::function<void()>& epoch_done) {
  DigitNetwork<float> network(run.norm, run.width, run.seed);
  const std::vector<ParameterView<float>> parameters = network.parameters();
  Sgd<float> optimizer;
  std::mt19937 random(run.seed);
  Matrix<float> dlogits;
  Outcome outcome;
  const Index batches = data.training.count() / run.batch;

  for (int epoch = 0; epoch < run.epochs; ++epoch) {
    const std::vector<Index> order = shuffled(data.training.count(), random);
    double loss = 0;
    network.train();
    for (Index step = 0; step < batches && outcome.finite; ++step) {
      const Images batch = gather(data.training.images, order, step * run.batch, run.batch);
      std::vector<int> labels;
      for (Index i = 0; i < run.batch; ++i)
        labels.push_back(
            data.training.labels[static_cast<std::size_t>(order[static_cast<std::size_t>(step * run.batch + i)])]);
      const double of_step = static_cast<double>(cross_entropy(network.forward(batch), labels, dlogits));
      outcome.finite = std::isfinite(of_step);
      loss += of_step / static_cast<double>(batches);
      set_gradients_to_zero(parameters);
      network.backward(dlogits);
      const double progress = (epoch + static_cast<double>(step) / static_cast<double>(batches)) / run.epochs;
      optimizer.step(parameters, run.rate * (1 + std::cos(3.141592653589793 * progress)) / 2);
    }
    network.eval();
    outcome.loss.push_back(outcome.finite ? loss : std::nan(""));
    outcome.held_out_error.push_back(outcome.finite ? 1 - accuracy(network, data.held_out) : 0.9);
    epoch_done();
  }
  if (!outcome.finite) {
    outcome.training_accuracy = outcome.held_out_accuracy = outcome.held_out_by_its_own_statistics = 0.1;
    return outcome;
  }
  outcome.training_accuracy = accuracy(network, data.training);
  outcome.held_out_accuracy = accuracy(network, data.held_out);
  DigitNetwork<float> copy = network;  // its running statistics are its own
  copy.train();
  outcome.held_out_by_its_own_statistics = accuracy(copy, data.held_out);
  return outcome;
}

}  // namespace

Split split(const Digits& digits, Index most) {
  std::mt19937 random(12345);
  const std::vector<Index> order = shuffled(digits.count(), random);
  const Index held_out = digits.count() / 5;
  return {select(digits, order, held_out, std::min(most, digits.count() - held_out)),
          select(digits, order, 0, held_out)};
}

std::vector<Outcome> train_all(const std::string& title, const std::vector<Run>& runs, const Split& data) {
  long long epochs = 0;
  for (const Run& run : runs) {
    epochs += run.epochs;
    if (run.batch > data.training.count())
      throw std::runtime_error("expected batches of at most as many images as there are to train with, " +
                               std::to_string(data.training.count()) + ", got " + std::to_string(run.batch));
  }
  Progress progress(title, epochs);
  std::vector<Outcome> outcomes(runs.size());
  const auto every_second = [&](std::size_t first) {
    for (std::size_t i = first; i < runs.size(); i += 2)
      outcomes[i] = train(runs[i], data, [&] { progress.advance(); });
  };
  std::future<void> other = std::async(std::launch::async, every_second, 1);
  every_second(0);
  other.get();
  return outcomes;
}

}  // namespace examples
