// SPDX-License-Identifier: MIT
// Training a DigitNetwork on four fifths of the digits and judging it on the last fifth.
#pragma once

#include "../digits.hpp"
#include "norm_kind.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace examples {

struct LabelledImages {
  Images images;  // (N, 8, 8, 1), values 0..1
  std::vector<int> labels;

  Index count() const { return images.dimension(0); }
};

struct Split {
  LabelledImages training, held_out;
};

inline constexpr Index all_images = 1438;

/// One fifth of the digits, the same for every run, is held out; up to `most` of the others are for training.
Split split(const Digits& digits, Index most);

struct Run {
  NormKind norm = NormKind::none;
  double rate = 0.1;
  Index batch = 64;
  int epochs = 10;
  Index width = 16;
  std::uint32_t seed = 1;
};

struct Outcome {
  std::vector<double> loss, held_out_error;   // one of each per epoch
  double training_accuracy = 0;               // eval mode
  double held_out_accuracy = 0;               // eval mode
  double held_out_by_its_own_statistics = 0;  // training mode, all held-out digits as one batch
  bool finite = true;
};

/// The outcome of every run, two runs at a time, behind a progress bar.
/// Errors   std::runtime_error where there are fewer images than in one batch.
std::vector<Outcome> train_all(const std::string& title, const std::vector<Run>& runs, const Split& data);

}  // namespace examples
