// SPDX-License-Identifier: MIT
#include "data_sets.hpp"

#include <cstddef>
#include <cstdio>
#include <random>

namespace accuracy {

namespace {

std::string text_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

/// Normal numbers no further than `limit` deviations from their mean.
DataSet normal(std::string name, std::size_t n, double mean, double deviation, double eps = 1e-5, double limit = 100) {
  const auto samples = [=](unsigned statistic) {
    std::mt19937 engine(100 + statistic);
    std::normal_distribution<double> distribution;
    std::vector<double> values(n);
    for (double& value : values) {
      do value = distribution(engine);
      while (std::abs(value) > limit);
      value = mean + deviation * value;
    }
    return values;
  };
  return {std::move(name), eps, samples};
}

DataSet normal(std::size_t n, double mean) {
  const std::string size = n == std::size_t{1} << 24 ? "2^24" : std::to_string(n);
  return normal("N(" + text_of(mean) + ", 1), n = " + size, n, mean, 1);
}

/// Statistics whose neighbours' means are no pivots for them.
DataSet distant_means(std::size_t n) {
  DataSet set = normal("N(m, 1), m of each statistic another", n, 0, 1);
  set.samples = [of_mean_0 = set.samples](unsigned statistic) {
    constexpr double means[] = {0, 1e6, -1e4, 100};
    auto values = of_mean_0(statistic);
    for (double& value : values) value += means[statistic % 4];
    return values;
  };
  return set;
}

/// first, then the others in turn.
std::vector<double> in_turn(std::size_t n, double first, const std::vector<double>& others) {
  std::vector<double> values(n, first);
  for (std::size_t i = 1; i < n; ++i) values[i] = others[(i - 1) % others.size()];
  return values;
}

DataSet fixed(std::string name, std::vector<double> values, double eps = 1e-5) {
  return {std::move(name), eps, [values = std::move(values)](unsigned) { return values; }};
}

DataSet with_outlier(std::size_t n, double outlier, bool first) {
  DataSet set = normal("outlier of " + text_of(outlier) + (first ? " first" : " last"), n, 0, 1);
  set.samples = [of_others = set.samples, outlier, first](unsigned statistic) {
    auto values = of_others(statistic);
    (first ? values.front() : values.back()) = outlier;
    return values;
  };
  return set;
}

/// The univariate sets of the NIST StRD that are defined by a rule.
void add_strd(std::vector<DataSet>& sets) {
  sets.push_back(fixed("StRD NumAcc1", {10000001, 10000003, 10000002}));
  sets.push_back(fixed("StRD NumAcc2", in_turn(1001, 1.2, {1.1, 1.3})));
  sets.push_back(fixed("StRD NumAcc3", in_turn(1001, 1000000.2, {1000000.1, 1000000.3})));
  sets.push_back(fixed("StRD NumAcc4", in_turn(1001, 10000000.2, {10000000.1, 10000000.3})));
  static const std::vector<double> digits = digits_of_pi(5000);
  sets.push_back(fixed("StRD PiDigits", digits));
}

}  // namespace

// The spigot of Rabinowitz & Wagon (1995): pi = 2 + 1/3 (2 + 2/5 (2 + 3/7 (2 + ...))), whose digits are carried to the
// left. A 9 waits until it is known whether it becomes a 0.
std::vector<double> digits_of_pi(int count) {
  const auto length = static_cast<std::size_t>(count) * 10 / 3 + 20;
  std::vector<unsigned> terms(length, 2);
  std::vector<double> digits;
  unsigned waiting = 0, nines = 0;
  const auto put = [&](unsigned digit) { digits.push_back(digit); };
  for (bool first = true; digits.size() < static_cast<std::size_t>(count); first = false) {
    unsigned carry = 0;
    for (std::size_t i = length; i-- > 0;) {
      const auto place = static_cast<unsigned>(i);
      const unsigned value = terms[i] * 10 + carry * (place + 1), base = place == 0 ? 10 : 2 * place + 1;
      terms[i] = value % base;
      carry = value / base;
    }
    if (carry == 9) {
      ++nines;
      continue;
    }
    const bool over = carry == 10;
    if (!first) put(waiting + (over ? 1 : 0));
    for (; nines > 0; --nines) put(over ? 0 : 9);
    waiting = over ? 0 : carry;
  }
  digits.resize(static_cast<std::size_t>(count));
  return digits;
}

std::vector<DataSet> data_sets(const Format& format, bool full) {
  const std::size_t some = full ? 4096 : 256, few = full ? 768 : 96;
  std::vector<DataSet> sets;
  for (const double mean : {0.0, 1e2, 1e4, 1e6, 1e8}) {
    sets.push_back(normal(256, mean));
    sets.back().many_statistics = mean == 1e4 || mean == 1e6;
    if (full) sets.push_back(normal(some, mean));
  }
  if (format.largest > 1e7) {
    sets.push_back(distant_means(256));
    sets.back().many_statistics = full;
  }
  for (const double mean : {1e2, 1e4})
    for (const std::size_t n : {std::size_t{768}, std::size_t{4096}})
      if (n != some) {
        sets.push_back(normal(n, mean));
        if (n > 768) sets.back().step = 7;
      }
  for (const double mean : {1e4, 1e6}) {
    constexpr std::size_t images = 32, pixels = 49;
    sets.push_back(normal(images * pixels, mean));
    sets.back().examples = images;
    sets.back().step = 5;
  }
  for (const double mean : {0.0, 1e2, 1e4}) {
    sets.push_back(normal(std::size_t{1} << (full ? 24 : 14), mean));
    sets.back().examples = 32;
    sets.back().step = 61;
    sets.back().huge = true;
  }
  const double next = 1 + std::ldexp(1.0, 1 - format.digits);
  sets.push_back(fixed("1 and the next number", {1, next}, 0));
  sets.push_back(fixed("constant 1e6 / 3", std::vector<double>(some, 1e6 / 3)));
  sets.push_back(fixed("constant -0.1, eps 0", std::vector<double>(some, -0.1), 0));
  const double outlier = format.largest > 1e6 ? 1e6 : 1e4;
  sets.push_back(with_outlier(some, outlier, true));
  sets.push_back(with_outlier(some, outlier, false));
  sets.push_back(fixed("+-1e6 alternating", in_turn(some, 1e6, {-1e6, 1e6})));
  // Three of four times the scale is the largest number drawn: 1e38 is still a float.
  for (const double scale : {1e-310, 1e-300, 1e-200, 1e-160, 1e-100, 1e-41, 1e-38, 1e-30, 1e-20, 1e-10,
                             1e-7,   1e4,    1e10,   1e18,   1e20,   1e30,  1e38,  1e100, 1e154, 1e160})
    if (scale > 4 * std::ldexp(1.0, format.least) && 3 * scale < format.largest)
      sets.push_back(normal("N(0, 1) * " + text_of(scale) + ", eps 0", few, 0, scale, 0, 3));
  add_strd(sets);
  return sets;
}

}  // namespace accuracy
