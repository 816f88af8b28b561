// SPDX-License-Identifier: MIT
// The 1797 UCI handwritten digits of data/digits.csv as a tensor of images.
#pragma once

#include <unsupported/Eigen/CXX11/Tensor>

#include <charconv>
#include <cstddef>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace examples {

using Index = Eigen::Index;
using Images = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // (N, C, H, W)

inline constexpr Index digit_side = 8;
inline constexpr Index digit_pixels = digit_side * digit_side;

/// images(n, 0, row, column) is a pixel, 0 (paper) to 16 (ink); labels[n] is the digit that was meant.
struct Digits {
  Images images;
  std::vector<int> labels;

  Index count() const { return images.dimension(0); }
};

/// Reads lines of 64 pixels and a label, separated by commas.
/// Errors   std::runtime_error naming the file and the line.
inline Digits read_digits(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);

  std::vector<float> pixels;
  Digits digits;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    std::istringstream fields(line);
    std::string field;
    std::vector<int> numbers;
    const std::string where = path + ", line " + std::to_string(digits.labels.size() + 1);
    while (std::getline(fields, field, ',')) {
      int number = 0;
      const char* const end = field.data() + field.size();
      const auto [last, error] = std::from_chars(field.data(), end, number);
      if (error != std::errc() || last != end)
        throw std::runtime_error(where + ": expected numbers, got " + field);
      numbers.push_back(number);
    }
    if (numbers.size() != std::size_t{digit_pixels} + 1)
      throw std::runtime_error(where + ": expected 65 numbers, got " + std::to_string(numbers.size()));
    if (numbers.back() < 0 || numbers.back() > 9)
      throw std::runtime_error(where + ": expected a digit at its end, got " + std::to_string(numbers.back()));
    digits.labels.push_back(numbers.back());
    numbers.pop_back();
    for (const int pixel : numbers) pixels.push_back(static_cast<float>(pixel));
  }
  if (pixels.empty()) throw std::runtime_error(path + ": expected lines of 65 numbers, got none");
  digits.images =
      Eigen::TensorMap<Images>(pixels.data(), static_cast<Index>(digits.labels.size()), 1, digit_side, digit_side);
  return digits;
}

/// The images order[first], ..., order[first + count - 1], in that order.
inline Images gather(const Images& images, const std::vector<Index>& order, Index first, Index count) {
  Images batch(count, images.dimension(1), images.dimension(2), images.dimension(3));
  for (Index i = 0; i < count; ++i) batch.chip(i, 0) = images.chip(order[static_cast<std::size_t>(first + i)], 0);
  return batch;
}

/// 0, 1, ..., count - 1 in random order (Fisher-Yates): the same on every machine for the same generator,
/// which std::shuffle does not promise.
inline std::vector<Index> shuffled(Index count, std::mt19937& random) {
  std::vector<Index> order(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<Index>(i);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

}  // namespace examples
