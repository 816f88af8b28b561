// SPDX-License-Identifier: MIT
// Curves as CSV, for a plotting tool to read.
#pragma once

#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

/// A named column of numbers.
struct Column {
  std::string name;
  std::vector<double> values;
};

/// Writes columns of equal length, the names in the first line. Numbers that are not finite become empty fields.
inline void write_csv(const std::string& path, const std::vector<Column>& columns) {
  std::ofstream file(path);
  file.precision(9);
  for (std::size_t c = 0; c < columns.size(); ++c) file << (c == 0 ? "" : ",") << columns[c].name;
  file << '\n';
  for (std::size_t row = 0; row < columns.front().values.size(); ++row) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      file << (c == 0 ? "" : ",");
      const double value = columns[c].values[row];
      if (value - value == 0) file << value;
    }
    file << '\n';
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace examples
