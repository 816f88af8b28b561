// SPDX-License-Identifier: MIT
// Counts the numbers that were checked and says which are off.
#pragma once

#include "pytorch_numbers.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace tour {

class Judge {
 public:
  /// Is |got - want| <= tolerance? NaN is off.
  void close(const std::string& what, double got, double want, double tolerance) {
    ++checked_;
    if (std::abs(got - want) <= tolerance) return;
    if (++off_ <= 20) std::printf("OFF  %s: got %.9g, expected %.9g +- %.2g\n", what.c_str(), got, want, tolerance);
  }

  /// Every element, the tolerance relative to the largest expected magnitude, at least 1.
  void close(const std::string& what, std::span<const double> got, std::span<const double> want, double tolerance) {
    is_true(what + ": " + std::to_string(want.size()) + " values", got.size() == want.size());
    double scale = 1;
    for (const double value : want) scale = std::max(scale, std::abs(value));
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i)
      close(what + "[" + std::to_string(i) + "]", got[i], want[i], tolerance * scale);
  }

  /// The elements that PyTorch's numbers name.
  void close(const std::string& what, std::span<const double> got, std::span<const pytorch::Sample> want,
             double tolerance) {
    for (const pytorch::Sample& sample : want) {
      const std::string name = what + " against PyTorch [" + std::to_string(sample.position) + "]";
      const double value = got[static_cast<std::size_t>(sample.position)];
      close(name, value, sample.value, tolerance * std::max(1.0, std::abs(sample.value)));
    }
  }

  void is_true(const std::string& what, bool holds) {
    ++checked_;
    if (holds) return;
    if (++off_ <= 20) std::printf("OFF  %s\n", what.c_str());
  }

  int checked() const { return checked_; }
  int off() const { return off_; }

 private:
  int checked_ = 0;
  int off_ = 0;
};

}  // namespace tour
