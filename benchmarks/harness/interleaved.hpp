// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

/// Quartiles over the rounds.
struct Spread {
  double first_quartile = 0, median = 0, third_quartile = 0;
};

/// Times contenders in turn: memcpy, ours, hand loop, ..., memcpy, ours, hand loop, ... so that what drifts (clock,
/// neighbours, temperature) falls on all of them alike and cancels in ratios taken round by round.
class Interleaved {
 public:
  /// Warms every contender up and finds how many calls make a stretch long enough for the clock.
  explicit Interleaved(std::vector<Contender> contenders);

  /// Times every contender once; returns the seconds a call of `name` took in this round.
  double round(const std::string& name);

  bool has(const std::string& name) const;
  std::vector<std::string> names() const;
  /// Of the time of `parts` together, in microseconds.
  Spread microseconds(const std::vector<std::string>& parts) const;
  Spread microseconds(const std::string& name) const { return microseconds(std::vector{name}); }
  /// Of the ratio of the two times in the same round.
  Spread ratio(const std::vector<std::string>& parts, const std::string& yardstick) const;
  Spread ratio(const std::string& name, const std::string& yardstick) const {
    return ratio(std::vector{name}, yardstick);
  }
  /// That of the yardsticks whose median is smallest; empty when none is there.
  std::string fastest(const std::vector<std::string>& yardsticks) const;

 private:
  struct Series {
    Contender contender;
    long calls = 1;        ///< in one timed stretch
    long most_rounds = 0;  ///< fewer for a rough contender that would take minutes
    bool prepared = true;  ///< one untimed call before each stretch
    std::vector<double> nanoseconds;
  };
  const Series& series(const std::string& name) const;
  std::vector<double> sum_of(const std::vector<std::string>& parts) const;
  std::vector<Series> series_;
};

}  // namespace bench
