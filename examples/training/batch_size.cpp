// SPDX-License-Identifier: MIT
// Figure 1 of Wu & He 2018 in small: the error of BatchNorm and of GroupNorm over the batch size, 5 seeds each. The
// learning rate is in proportion to the batch size, as there.
//
// The table says what came out. The exit code only says that every loss stayed finite.
#include "csv.hpp"
#include "digit_training.hpp"
#include "options.hpp"

#include <tensornorm/kernels/welford.hpp>

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
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
  std::string csv = "batch_size.csv";
  double rate_of_32 = 0.1;
  int seeds = 5;
  examples::Index images = examples::all_images;
  Run run;
};

constexpr NormKind kinds[] = {NormKind::batch, NormKind::group};
constexpr examples::Index sizes[] = {32, 16, 8, 4, 2};

/// By norm, then batch size, then seed.
std::vector<Run> planned(const Settings& settings) {
  std::vector<Run> runs;
  for (const NormKind kind : kinds)
    for (const examples::Index size : sizes)
      for (int seed = 0; seed < settings.seeds; ++seed) {
        runs.push_back(settings.run);
        runs.back().norm = kind;
        runs.back().batch = size;
        runs.back().rate = settings.rate_of_32 * static_cast<double>(size) / 32;
        runs.back().seed += static_cast<std::uint32_t>(seed);
      }
  return runs;
}

struct Spread {
  double mean = 0, deviation = 0;
};

/// Mean and deviation of the held-out error in percent, over `count` outcomes from `first` on.
Spread error_of(const std::vector<Outcome>& outcomes, std::size_t first, std::size_t count) {
  tensornorm::Welford<double> errors;
  for (std::size_t i = first; i < first + count; ++i) errors.push(100 * (1 - outcomes[i].held_out_accuracy));
  return {errors.mean(), count > 1 ? std::sqrt(errors.unbiased_variance()) : 0};
}

void report(const Settings& settings, const std::vector<Outcome>& outcomes) {
  const auto seeds = static_cast<std::size_t>(settings.seeds);
  std::vector<examples::Column> columns = {{"batch size", {}}};
  for (const NormKind kind : kinds) {
    columns.push_back({name_of(kind) + " error", {}});
    columns.push_back({name_of(kind) + " deviation", {}});
  }
  std::printf("held-out error in %%, mean +- deviation of %zu seeds\n\n%10s %20s %20s\n", seeds, "batch size",
              "BatchNorm", "GroupNorm");
  for (std::size_t size = 0; size < std::size(sizes); ++size) {
    columns[0].values.push_back(static_cast<double>(sizes[size]));
    std::printf("%10lld", static_cast<long long>(sizes[size]));
    for (std::size_t kind = 0; kind < std::size(kinds); ++kind) {
      const Spread error = error_of(outcomes, (kind * std::size(sizes) + size) * seeds, seeds);
      columns[1 + 2 * kind].values.push_back(error.mean);
      columns[2 + 2 * kind].values.push_back(error.deviation);
      std::printf("       %6.2f +- %4.2f", error.mean, error.deviation);
    }
    std::printf("\n");
  }
  examples::write_csv(settings.csv, columns);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  bool quick = false;
  settings.run.epochs = 8;
  settings.run.width = 8;
  CLI::App app("The error of BatchNorm and GroupNorm over the batch size (Wu & He 2018, Figure 1, in small).");
  app.add_option("--digits", settings.digits, "the data")->check(CLI::ExistingFile)->capture_default_str();
  app.add_option("--csv", settings.csv, "where the numbers go")->capture_default_str();
  app.add_option("--rate", settings.rate_of_32, "learning rate at batch size 32")
      ->check(examples::positive())
      ->capture_default_str();
  app.add_option("--images", settings.images, "train with at most so many")
      ->check(examples::positive())
      ->capture_default_str();
  app.add_option("--epochs", settings.run.epochs)->check(examples::positive())->capture_default_str();
  app.add_option("--width", settings.run.width, "channels of the first block")
      ->check(examples::multiple_of(4))
      ->capture_default_str();
  app.add_option("--seeds", settings.seeds, "how many")->check(examples::positive())->capture_default_str();
  app.add_option("--seed", settings.run.seed, "the first")->capture_default_str();
  app.add_flag("--quick", quick, "a second: 1 epoch, 2 seeds, width 4, 320 images")
      ->excludes("--epochs")
      ->excludes("--seeds")
      ->excludes("--width")
      ->excludes("--images");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    settings.run.epochs = 1;
    settings.run.width = 4;
    settings.seeds = 2;
    settings.images = 320;
  }

  try {
    std::printf("seeds %u to %u, %d epochs, learning rate %g * batch size / 32\n\n", settings.run.seed,
                settings.run.seed + static_cast<std::uint32_t>(settings.seeds) - 1, settings.run.epochs,
                settings.rate_of_32);
    const examples::Split data = examples::split(examples::read_digits(settings.digits), settings.images);
    const std::vector<Outcome> outcomes = train_all("batch_size", planned(settings), data);
    report(settings, outcomes);
    bool finite = true;
    for (const Outcome& outcome : outcomes) finite = finite && outcome.finite;
    std::printf("\nall losses finite: %s\n", finite ? "yes" : "NO");
    std::printf("numbers: %s   picture: gnuplot -c examples/training/batch_size.gp %s batch_size.svg\n",
                settings.csv.c_str(), settings.csv.c_str());
    return finite ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "batch_size: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
