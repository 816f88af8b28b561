// SPDX-License-Identifier: MIT
#include "interleaved.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace bench {
namespace {

constexpr double kStretch = 200e3;  // ns: four orders above the clock's resolution and cost
constexpr double kWarmUp = 20e6;    // ns: caches, branch predictors, the clock's ramp and the wide units' power-up
// A rough contender that takes longer than this per call gets as many rounds as fit into kSlowTotal, no untimed calls.
constexpr double kSlowCall = 150e6, kSlowTotal = 1e9;

double time_of(const Call& call, long times) {
  const auto start = std::chrono::steady_clock::now();
  call(times);
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

}  // namespace

Interleaved::Interleaved(std::vector<Contender> contenders) {
  for (Contender& contender : contenders) {
    Series s;
    s.contender = std::move(contender);
    s.most_rounds = std::numeric_limits<long>::max();
    double per_call = time_of(s.contender.call, 1);
    if (s.contender.cold) {
      s.prepared = false;
    } else if (s.contender.rough && per_call > kSlowCall) {
      s.most_rounds = std::max(1L, std::lround(kSlowTotal / per_call));
      s.prepared = false;
    } else {
      double spent = per_call;
      for (long times = 1; spent < kWarmUp; times = std::max(1L, static_cast<long>(kStretch / per_call))) {
        const double stretch = time_of(s.contender.call, times);
        per_call = stretch / static_cast<double>(times);
        spent += stretch;
      }
      s.calls = std::max(1L, std::lround(std::ceil(kStretch / per_call)));
    }
    series_.push_back(std::move(s));
  }
}

double Interleaved::round(const std::string& name) {
  for (Series& s : series_) {
    if (static_cast<long>(s.nanoseconds.size()) >= s.most_rounds) continue;
    // The untimed call leaves the caches as this contender's own last call leaves them, not as its neighbour does.
    if (s.prepared) s.contender.call(1);
    s.nanoseconds.push_back(time_of(s.contender.call, s.calls) / static_cast<double>(s.calls) - s.contender.overhead);
  }
  return series(name).nanoseconds.back() * 1e-9;
}

const Interleaved::Series& Interleaved::series(const std::string& name) const {
  for (const Series& s : series_) {
    if (s.contender.name == name) return s;
  }
  throw std::out_of_range("no contender is called " + name);
}

bool Interleaved::has(const std::string& name) const {
  return std::any_of(series_.begin(), series_.end(), [&](const Series& s) { return s.contender.name == name; });
}

std::vector<std::string> Interleaved::names() const {
  std::vector<std::string> all;
  for (const Series& s : series_) all.push_back(s.contender.name);
  return all;
}

std::vector<double> Interleaved::sum_of(const std::vector<std::string>& parts) const {
  std::vector<double> sums = series(parts.front()).nanoseconds;
  for (std::size_t part = 1; part < parts.size(); ++part) {
    const std::vector<double>& more = series(parts[part]).nanoseconds;
    sums.resize(std::min(sums.size(), more.size()));
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += more[i];
  }
  return sums;
}

Spread Interleaved::microseconds(const std::vector<std::string>& parts) const {
  std::vector<double> values = sum_of(parts);
  for (double& value : values) value *= 1e-3;
  return spread_of(std::move(values));
}

Spread Interleaved::ratio(const std::vector<std::string>& parts, const std::string& yardstick) const {
  std::vector<double> ratios = sum_of(parts);
  const std::vector<double>& yardsticks = series(yardstick).nanoseconds;
  ratios.resize(std::min(ratios.size(), yardsticks.size()));
  for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] /= yardsticks[i];
  return spread_of(std::move(ratios));
}

std::string Interleaved::fastest(const std::vector<std::string>& yardsticks) const {
  std::string best;
  for (const std::string& name : yardsticks) {
    if (has(name) && (best.empty() || microseconds(name).median < microseconds(best).median)) best = name;
  }
  return best;
}

}  // namespace bench
