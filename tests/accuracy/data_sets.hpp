// SPDX-License-Identifier: MIT
// The data on which the statistics of normalization layers are known to go wrong.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "wide.hpp"

namespace accuracy {

struct DataSet {
  std::string name;
  double eps = 1e-5;
  /// The samples of one statistic, for random sets others for each.
  std::function<std::vector<double>(unsigned statistic)> samples;
  /// How many examples of a batch a statistic's samples are in, where the layout has more than one: a divisor of their
  /// number; 0: a small one.
  std::size_t examples = 0;
  /// Also for layers of more statistics than a vector holds, or a cache's lines.
  bool many_statistics = false;
  /// y and dx are judged at every step-th element.
  std::size_t step = 1;
  /// So much that there are two statistics at most.
  bool huge = false;
};

/// The sets that make sense in numbers of this format; full: at all of their sizes.
std::vector<DataSet> data_sets(const Format& format, bool full);

/// The first digits of pi, 3 among them.
std::vector<double> digits_of_pi(int count);

}  // namespace accuracy
