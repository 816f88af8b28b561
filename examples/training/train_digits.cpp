// SPDX-License-Identifier: MIT
// What normalization does for training: a small convolutional network on the UCI digits with no normalization,
// BatchNorm, LayerNorm and GroupNorm, at a low and at a high learning rate.
//
// Asserted by the exit code: at the high rate BatchNorm beats no normalization on held-out digits (Ioffe & Szegedy
// 2015), and at either rate its loss stays finite and its accuracy by the running statistics (eval mode) agrees with
// its accuracy by the batch's own (train mode).
#include "csv.hpp"
#include "digit_training.hpp"
#include "options.hpp"

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <string>
#include <vector>

namespace {

using examples::NormKind;
using examples::Outcome;
using examples::Run;

struct Settings {
  std::string digits = TENSORNORM_EXAMPLES_DATA "/digits.csv";
  std::string csv = "train_digits.csv";
  double low_rate = 0.05;
  double high_rate = 1.0;
  examples::Index images = examples::all_images;
  Run run;
};

constexpr NormKind kinds[] = {NormKind::none, NormKind::batch, NormKind::layer, NormKind::group};

std::vector<Run> planned(const Settings& settings) {
  std::vector<Run> runs;
  for (const double rate : {settings.low_rate, settings.high_rate})
    for (const NormKind kind : kinds) {
      runs.push_back(settings.run);
      runs.back().norm = kind;
      runs.back().rate = rate;
    }
  return runs;
}

void print_table(const std::vector<Run>& runs, const std::vector<Outcome>& outcomes) {
  std::printf("digits that are told right:\n");
  std::printf("%-10s %6s %10s %15s %15s %15s\n%-10s %6s %10s %15s %15s %15s\n", "", "", "last", "training", "held-out",
              "held-out", "norm", "rate", "loss", "eval mode", "eval mode", "train mode");
  for (std::size_t i = 0; i < runs.size(); ++i)
    std::printf("%-10s %6g %10.4f %14.1f%% %14.1f%% %14.1f%%\n", name_of(runs[i].norm).c_str(), runs[i].rate,
                outcomes[i].loss.back(), 100 * outcomes[i].training_accuracy, 100 * outcomes[i].held_out_accuracy,
                100 * outcomes[i].held_out_by_its_own_statistics);
}

void write_curves(const std::string& path, const std::vector<Run>& runs, const std::vector<Outcome>& outcomes) {
  std::vector<examples::Column> columns = {{"epoch", {}}};
  for (int epoch = 1; epoch <= runs.front().epochs; ++epoch) columns.front().values.push_back(epoch);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::string rate = i < std::size(kinds) ? " low" : " high";
    columns.push_back({name_of(runs[i].norm) + rate + " loss", outcomes[i].loss});
    columns.push_back({name_of(runs[i].norm) + rate + " error", outcomes[i].held_out_error});
  }
  examples::write_csv(path, columns);
}

bool holds(const char* rate, const char* claim, bool result) {
  std::printf("at the %s rate %s: %s\n", rate, claim, result ? "yes" : "NO");
  return result;
}

bool claims_hold(const std::vector<Outcome>& outcomes) {
  constexpr std::size_t batch = 1, low = 0, high = std::size(kinds);  // places in the order of planned()
  bool ok = holds("high", "BatchNorm beats none", outcomes[high + batch].held_out_accuracy > outcomes[high].held_out_accuracy);
  for (const std::size_t at : {low, high}) {
    const char* const rate = at == low ? "low" : "high";
    const Outcome& outcome = outcomes[at + batch];
    ok = holds(rate, "BatchNorm's loss stays finite", outcome.finite) && ok;
    const double gap = std::abs(outcome.held_out_accuracy - outcome.held_out_by_its_own_statistics);
    ok = holds(rate, "its train and eval mode agree on held-out digits within 3 points", gap <= 0.03) && ok;
  }
  return ok;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  bool quick = false;
  settings.run.epochs = 12;
  CLI::App app(
      "Trains a small convolutional network on handwritten digits with four normalizations at two learning rates.");
  app.add_option("--digits", settings.digits, "the data")->check(CLI::ExistingFile)->capture_default_str();
  app.add_option("--csv", settings.csv, "where the curves go")->capture_default_str();
  app.add_option("--low-rate", settings.low_rate)->check(examples::positive())->capture_default_str();
  app.add_option("--high-rate", settings.high_rate)->check(examples::positive())->capture_default_str();
  app.add_option("--images", settings.images, "train with at most so many")
      ->check(examples::positive())
      ->capture_default_str();
  app.add_option("--epochs", settings.run.epochs)->check(examples::positive())->capture_default_str();
  app.add_option("--batch", settings.run.batch)->check(examples::positive())->capture_default_str();
  app.add_option("--width", settings.run.width, "channels of the first block")
      ->check(examples::multiple_of(4))
      ->capture_default_str();
  app.add_option("--seed", settings.run.seed)->capture_default_str();
  app.add_flag("--quick", quick, "a second: 3 epochs, width 4, batches of 16, 800 images")
      ->excludes("--epochs")
      ->excludes("--width")
      ->excludes("--batch")
      ->excludes("--images");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    settings.run.epochs = 3;
    settings.run.width = 4;
    settings.run.batch = 16;
    settings.images = 800;
  }

  try {
    std::printf("seed %u, batches of %lld, %d epochs\n\n", settings.run.seed,
                static_cast<long long>(settings.run.batch), settings.run.epochs);
    const examples::Split data = examples::split(examples::read_digits(settings.digits), settings.images);
    const std::vector<Run> runs = planned(settings);
    const std::vector<Outcome> outcomes = train_all("train_digits", runs, data);
    print_table(runs, outcomes);
    std::printf("\n");
    const bool ok = claims_hold(outcomes);
    write_curves(settings.csv, runs, outcomes);
    std::printf("\ncurves: %s   picture: gnuplot -c examples/training/train_digits.gp %s train_digits.svg\n",
                settings.csv.c_str(), settings.csv.c_str());
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_digits: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
