// SPDX-License-Identifier: MIT
// What the training programs ask of the numbers on their command lines.
#pragma once

#include <CLI/CLI.hpp>

#include <sstream>
#include <string>

namespace examples {

/// A number above 0; CLI11's own says by which number it is bounded above.
inline CLI::Validator positive() {
  return CLI::Validator(
      [](std::string& text) {
        double value = 0;
        const bool number = static_cast<bool>(std::istringstream(text) >> value);
        return number && value > 0 ? std::string() : "expected a number above 0, got " + text;
      },
      "above 0");
}

/// A whole number of times `factor`, at least once.
inline CLI::Validator multiple_of(long long factor) {
  const std::string what = "multiple of " + std::to_string(factor);
  return CLI::Validator(
      [factor, what](std::string& text) {
        long long value = 0;
        const bool whole = static_cast<bool>(std::istringstream(text) >> value);
        return whole && value > 0 && value % factor == 0 ? std::string() : "expected a " + what + ", got " + text;
      },
      what);
}

}  // namespace examples
