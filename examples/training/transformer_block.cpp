// SPDX-License-Identifier: MIT
// What do I gain by changing three lines? A small transformer learns to predict the next character of Newton's Opticks
// twice, from the same start and on the same batches: once with norms written by hand in Eigen, once with tensornorm's.
// The two take turns step by step, so that both see the same machine.
//
// Asserted by the exit code: the two loss curves agree to rounding, and the text is being learned.
#include "csv.hpp"
#include "norms.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "text.hpp"
#include "transformer.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

using examples::Timing;

struct Settings {
  std::string text = TENSORNORM_EXAMPLES_DATA "/opticks.txt";
  std::string csv = "transformer_block.csv";
  std::string norm = "layer";
  int steps = 100;
  std::size_t tokens = 1024;
  double rate = 1e-3;
  std::uint32_t seed = 1;
  examples::TransformerShape shape;
};

/// The median of one kind of work over the steps, in milliseconds.
double milliseconds(const std::vector<Timing>& steps, double Timing::*kind) {
  std::vector<double> values;
  for (const Timing& step : steps) values.push_back(1e3 * (step.*kind));
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// One network with its optimizer and its records.
template <template <class> class Norm>
class Trained {
 public:
  explicit Trained(const Settings& settings)
      : network_(settings.shape, settings.seed), parameters_(network_.parameters()) {}

  void step(const std::vector<const std::vector<int>*>& batch, double rate) {
    Timing timing;
    examples::set_gradients_to_zero(parameters_);
    losses_.push_back(static_cast<double>(network_.loss_and_gradients(batch, timing)));
    optimizer_.step(parameters_, rate);
    timings_.push_back(timing);
  }

  const std::vector<double>& losses() const { return losses_; }
  const std::vector<Timing>& timings() const { return timings_; }

 private:
  examples::Transformer<float, Norm> network_;
  std::vector<examples::ParameterView<float>> parameters_;
  examples::Adam<float> optimizer_;
  std::vector<double> losses_;
  std::vector<Timing> timings_;
};

struct Comparison {
  std::vector<double> losses_by_hand, losses_by_library;
  std::vector<Timing> by_hand, by_library;
};

/// Sentences chosen at random until the batch has enough tokens.
std::vector<const std::vector<int>*> random_batch(const examples::Text& text, std::size_t tokens,
                                                  std::mt19937& random) {
  std::vector<const std::vector<int>*> batch;
  for (std::size_t taken = 0; taken < tokens; taken += batch.back()->size() - 1)
    batch.push_back(&text.sentences[random() % text.sentences.size()]);
  return batch;
}

template <template <class> class ByHand, template <class> class ByLibrary>
Comparison compare(const Settings& settings, const examples::Text& text) {
  Trained<ByHand> by_hand(settings);
  Trained<ByLibrary> by_library(settings);
  std::mt19937 random(settings.seed);
  examples::Progress progress("transformer_block", settings.steps);
  for (int step = 0; step < settings.steps; ++step) {
    const auto batch = random_batch(text, settings.tokens, random);
    const double rate = settings.rate * std::min(1.0, (step + 1) / 10.0);
    by_hand.step(batch, rate);
    by_library.step(batch, rate);
    progress.advance();
  }
  return {by_hand.losses(), by_library.losses(), by_hand.timings(), by_library.timings()};
}

double largest_difference(const Comparison& both) {
  double largest = 0;
  for (std::size_t i = 0; i < both.losses_by_hand.size(); ++i) {
    const double difference = std::abs(both.losses_by_library[i] / both.losses_by_hand[i] - 1);
    if (std::isnan(difference)) return HUGE_VAL;
    largest = std::max(largest, difference);
  }
  return largest;
}

void print_row(const char* name, const std::vector<Timing>& steps, double last_loss) {
  const double all = milliseconds(steps, &Timing::all), products = milliseconds(steps, &Timing::products),
               norms = milliseconds(steps, &Timing::norms);
  std::printf("%-14s %10.4f %12.2f %12.2f %12.2f %12.2f %11.1f%%\n", name, last_loss, all, products, norms,
              all - products - norms, 100 * norms / all);
}

void report(const Settings& settings, const Comparison& both) {
  std::printf("%-14s %10s %12s %12s %12s %12s %12s\n", "norms", "last loss", "step, ms", "products", "norms", "rest",
              "norms' share");
  print_row("by hand", both.by_hand, both.losses_by_hand.back());
  print_row("tensornorm", both.by_library, both.losses_by_library.back());
  std::printf("\n(CPU time, medians over the steps; a step is forward and backward, without the optimizer)\n");
  std::printf("norms %.2f times as fast, step %.3f times as fast\n\n",
              milliseconds(both.by_hand, &Timing::norms) / milliseconds(both.by_library, &Timing::norms),
              milliseconds(both.by_hand, &Timing::all) / milliseconds(both.by_library, &Timing::all));

  std::vector<examples::Column> columns = {
      {"step", {}}, {"by hand", both.losses_by_hand}, {"tensornorm", both.losses_by_library}};
  for (int step = 1; step <= settings.steps; ++step) columns.front().values.push_back(step);
  examples::write_csv(settings.csv, columns);
}

bool holds(const std::string& claim, bool result) {
  std::printf("%s: %s\n", claim.c_str(), result ? "yes" : "NO");
  return result;
}

bool claims_hold(const Settings& settings, const Comparison& both) {
  // Two correct float networks drift apart by rounding that training amplifies; an error in a norm shows at the first
  // step.
  const double first = std::abs(both.losses_by_library.front() / both.losses_by_hand.front() - 1);
  const double largest = largest_difference(both);
  std::printf("relative difference of the losses: first step %.1e, largest %.1e\n", first, largest);
  const bool start = holds("the first losses agree within 1e-5", first <= 1e-5);
  const bool agree = holds("all losses agree within 1e-3", largest <= 1e-3);
  const double guessing = std::log(static_cast<double>(settings.shape.characters));
  const bool learned =
      holds("the last loss is below guessing, " + std::to_string(guessing), both.losses_by_library.back() < guessing);
  return start && agree && learned;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  bool quick = false;
  CLI::App app("A small transformer on Newton's Opticks, with norms by hand and by tensornorm.");
  app.add_option("--text", settings.text, "the data")->check(CLI::ExistingFile)->capture_default_str();
  app.add_option("--csv", settings.csv, "where the loss curves go")->capture_default_str();
  app.add_option("--norm", settings.norm)->check(CLI::IsMember({"layer", "rms"}))->capture_default_str();
  app.add_option("--steps", settings.steps)->check(examples::positive())->capture_default_str();
  app.add_option("--tokens", settings.tokens, "at least so many per batch")
      ->check(examples::positive())
      ->capture_default_str();
  app.add_option("--width", settings.shape.width)
      ->check(examples::multiple_of(settings.shape.heads))
      ->capture_default_str();
  app.add_option("--blocks", settings.shape.blocks)->check(examples::positive())->capture_default_str();
  app.add_option("--rate", settings.rate, "Adam's")->check(examples::positive())->capture_default_str();
  app.add_option("--seed", settings.seed)->capture_default_str();
  app.add_flag("--quick", quick, "a few seconds: 15 steps, width 32, 256 tokens")
      ->excludes("--steps")
      ->excludes("--width")
      ->excludes("--tokens");
  CLI11_PARSE(app, argc, argv);
  if (quick) {
    settings.steps = 15;
    settings.shape.width = 32;
    settings.tokens = 256;
  }

  try {
    const examples::Text text = examples::read_text(settings.text, static_cast<std::size_t>(settings.shape.longest));
    settings.shape.characters = static_cast<Eigen::Index>(text.characters.size());
    std::printf("seed %u, %zu sentences of %zu characters, width %lld, %lld heads, %lld blocks, %s norm\n\n",
                settings.seed, text.sentences.size(), text.characters.size(),
                static_cast<long long>(settings.shape.width), static_cast<long long>(settings.shape.heads),
                static_cast<long long>(settings.shape.blocks), settings.norm.c_str());
    const Comparison both = settings.norm == "layer"
                                ? compare<examples::HandWrittenLayerNorm, examples::LibraryLayerNorm>(settings, text)
                                : compare<examples::HandWrittenRMSNorm, examples::LibraryRMSNorm>(settings, text);
    report(settings, both);
    const bool ok = claims_hold(settings, both);
    std::printf("\ncurves: %s   picture: gnuplot -c examples/training/transformer_block.gp %s transformer_block.svg\n",
                settings.csv.c_str(), settings.csv.c_str());
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "transformer_block: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
