// SPDX-License-Identifier: MIT
// Tensors side by side, tables of statistics and pictures for a terminal of 100 columns.
#pragma once

#include "textbook.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace tour {

inline void heading(const std::string& text) {
  std::printf("\n%s\n%s\n", text.c_str(), std::string(text.size(), '=').c_str());
}

template <class Printable>
std::string text_of(const Printable& value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

/// "(2,3,3,3)"
inline std::string text_of_shape(const Shape& shape) {
  std::string text;
  for (const std::size_t extent : shape) text.append(text.empty() ? "(" : ",").append(std::to_string(extent));
  return text.append(")");
}

/// The first `slices` matrices of the last two axes, x on the left and y on the right, at most 6 rows and columns of
/// each.
inline void print_side_by_side(const Shape& shape, std::span<const double> x, std::span<const double> y,
                               std::size_t slices) {
  constexpr std::size_t most = 6;
  const std::size_t rows = shape[shape.size() - 2], columns = shape.back();
  const std::size_t shown_rows = std::min(rows, most), shown_columns = std::min(columns, most);
  const std::size_t all = x.size() / (rows * columns);
  const char* more = columns > most ? " ..." : "";

  const int width = static_cast<int>(4 * shown_columns + (columns > most ? 4 : 0));
  std::printf("  %*s      %*s\n", width, "before: x", static_cast<int>(9 * shown_columns), "after: y");
  for (std::size_t slice = 0; slice < std::min(slices, all); ++slice) {
    for (std::size_t row = 0; row < shown_rows; ++row) {
      const std::size_t first = (slice * rows + row) * columns;
      std::printf("  ");
      for (std::size_t c = 0; c < shown_columns; ++c) std::printf("%4.0f", x[first + c]);
      std::printf("%s  ->  ", more);
      for (std::size_t c = 0; c < shown_columns; ++c) std::printf("%9.4f", y[first + c]);
      std::printf("%s\n", more);
    }
    if (rows > most) std::printf("   ... %zu more rows\n", rows - most);
    if (slice + 1 < std::min(slices, all)) std::printf("\n");
  }
  if (all > slices) std::printf("   ... %zu more matrices like %s\n", all - slices, slices == 1 ? "this one" : "these");
}

/// One line per statistic, at most 6: its mean and variance in x and in y.
inline void print_statistics(const Grouping& grouping, const Shape& shape, const Statistics& before,
                             const Statistics& after) {
  constexpr std::size_t most = 6;
  const std::size_t count = grouping.count(shape);
  std::printf("  %-16s %12s %12s   ->  %12s %12s\n", "statistic", "mean of x", "variance", "mean of y", "variance");
  const auto plus_zero = [](double value) { return std::abs(value) < 5e-5 ? 0.0 : value; };
  for (std::size_t s = 0; s < std::min(count, most); ++s)
    std::printf("  %-16s %12.4f %12.4f   ->  %12.4f %12.4f\n", grouping.label(s, shape).c_str(), before.mean[s],
                before.variance[s], plus_zero(after.mean[s]), after.variance[s]);
  if (count > most) std::printf("   ... %zu more statistics\n", count - most);
}

/// A matrix as characters from blank (lowest) to full (highest), two to a cell, with its numbers beside it.
inline void print_picture(std::span<const float> pixels, std::size_t columns, double lowest, double highest,
                          const char* number_format) {
  static constexpr std::array<const char*, 5> shades = {"  ", "░░", "▒▒", "▓▓", "██"};
  for (std::size_t first = 0; first < pixels.size(); first += columns) {
    std::printf("  |");
    for (std::size_t c = 0; c < columns; ++c) {
      const double level = (static_cast<double>(pixels[first + c]) - lowest) / (highest - lowest);
      std::printf("%s", shades[static_cast<std::size_t>(std::clamp(level * 5, 0.0, 4.0))]);
    }
    std::printf("|  ");
    for (std::size_t c = 0; c < columns; ++c) std::printf(number_format, static_cast<double>(pixels[first + c]));
    std::printf("\n");
  }
}

}  // namespace tour
