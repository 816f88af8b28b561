// SPDX-License-Identifier: MIT
// The bounds, and errors beside them.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "exact.hpp"

namespace accuracy {

/// norm: y of a layer without weight and bias.
enum Quantity { norm, y, variance, running_mean, running_var, dx, dweight, dweight_term, dbias, quantities };

/// Running statistics of each channel, which were 0 and 1 before.
struct Running {
  double momentum;
  std::vector<double> mean, variance;
};

/// What a layer computed, in the logical order of the problem; empty where it has no such thing.
struct Outcome {
  std::array<std::vector<double>, quantities> values;
  std::vector<Running> running;  // of layers of the same axes
};

/// The number types of a case: of x, y and dx, of weight and bias, of the variance, of the running statistics.
struct Types {
  std::string name;
  Format element, parameter, statistic, running;
};

/// Errors in ulp of one layer on one data set; NaN where there is nothing to judge.
struct Measured {
  Types types;
  std::string layer, data;
  std::array<double, quantities> errors;
  /// Of dweight where 1 / deviation is beyond the largest double: statistics are kept for backward as doubles.
  double dweight_without_rstd;
};

/// Compares an outcome with what is exact, in ulp of a scale: the distance between numbers of that size.
///
/// norm             the largest norm of the statistic; a constant's is 0 exactly, and its y the bias.
/// y                the largest |norm * weight| + |bias| of the statistic.
/// variance         itself, and so the running one.
/// running_mean     momentum * (|mean| + deviation).
/// dx               the largest of the three terms of all dx of the statistic.
/// dweight          the root of the sum of its terms' squares, the size of a sum of terms of any sign; a norm counts as
///                  the largest one of its statistic. Or itself, if that is larger.
/// dweight_term     the largest of its terms, a norm likewise; or itself.
/// dbias            the largest of its terms, dy; or itself.
Measured judge(const Types& types, std::string layer, std::string data, const Problem& problem, const Exact& exact,
               const Outcome& outcome);

class Report {
 public:
  void add(Measured measured);
  bool empty() const { return all_.empty(); }
  /// Tables of the worst errors by layer and by data set; with every_case also each on a line of its own.
  void print(bool every_case) const;
  /// The worst of each type and quantity, where it was, and its bound.
  void print_summary() const;
  /// Errors beyond what is allowed.
  int broken() const;

 private:
  std::vector<Measured> all_;
};

}  // namespace accuracy
