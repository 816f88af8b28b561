// SPDX-License-Identifier: MIT
#include "numbers.hpp"

#include <cmath>
#include <iomanip>
#include <random>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace support {

#ifdef __GLIBC__
/// What is freed stays with the process, of every program that has these functions: to take pages anew costs a virtual machine a third of the
/// time of tests of many numbers.
[[maybe_unused]] static const bool keeps_memory = mallopt(M_MMAP_MAX, 0) != 0 && mallopt(M_TRIM_THRESHOLD, -1) != 0;
#endif

template struct Numbers<float>;
template struct Numbers<double>;
template struct Numbers<long double>;
template struct Numbers<Eigen::half>;
template struct Numbers<Eigen::bfloat16>;

std::vector<double> normal_values(std::size_t size, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(size);
  for (double& value : values) value = normal(engine);
  return values;
}

long double largest_of(const Reals& values) {
  long double result = 0;
  for (const long double value : values) {
    const long double size = std::abs(value);
    if (!(size <= result)) result = size;
    if (std::isnan(size)) break;
  }
  return result;
}

Reals scaled(Reals values, long double factor) {
  for (long double& value : values) value *= factor;
  return values;
}

testing::AssertionResult all_within(const Reals& actual, const Reals& expected, const Reals& tolerances) {
  if (actual.size() != expected.size() || tolerances.size() != expected.size())
    return testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  std::size_t worst = 0;
  long double worst_excess = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const long double distance = std::abs(actual[i] - expected[i]);
    const long double excess = distance == 0 ? 0 : std::isnan(distance) || !std::isfinite(tolerances[i]) ? HUGE_VALL : distance / tolerances[i];
    if (excess > worst_excess) {
      worst = i;
      worst_excess = excess;
    }
  }
  if (worst_excess <= 1) return testing::AssertionSuccess();
  return testing::AssertionFailure() << std::setprecision(17) << "element " << worst << " of " << actual.size() << ": "
                                     << static_cast<double>(actual[worst]) << ", expected "
                                     << static_cast<double>(expected[worst]) << std::setprecision(3) << ", off by "
                                     << static_cast<double>(worst_excess) << " times the tolerance of "
                                     << static_cast<double>(tolerances[worst]);
}

}  // namespace support
