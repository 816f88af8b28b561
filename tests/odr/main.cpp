// SPDX-License-Identifier: MIT
// Runs every unit linked in and fails if two disagree; the last line names the bits of the IEEE ones, for
// check_odr.cmake.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <tensornorm/kernels/dispatch.hpp>

#include "unit.hpp"

namespace {

std::vector<Unit>& units() {
  static std::vector<Unit> all;
  return all;
}

/// Uniform, of deviation 1 about this mean.
std::vector<float> input(double mean) {
  std::vector<float> values;
  std::uint32_t state = 1;
  for (int i = 0; i < kShape[0] * kShape[1] * kShape[2] * kShape[3]; ++i) {
    state = state * 1664525u + 1013904223u;
    values.push_back(static_cast<float>(mean + (static_cast<double>(state >> 8) / (1 << 24) - 0.5) * std::sqrt(12.0)));
  }
  return values;
}

std::vector<float> all_of(const Results& r) {
  std::vector<float> all;
  for (const auto* part :
       {&r.batch, &r.batch_col_major, &r.running_mean, &r.running_variance, &r.infer, &r.channels_last, &r.two_rows, &r.layer,
        &r.layer_dx, &r.instance, &r.instance_running_variance, &r.group, &r.mean, &r.variance})
    all.insert(all.end(), part->begin(), part->end());
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Whether results are right, by sums in double about x's first element: README's bounds, which hold for -ffast-math up to
/// a mean of 100 deviations.
class Judge {
 public:
  Judge(const char* unit, const std::vector<float>& x, const Results& results) : unit_(unit), x_(x), r_(results) {
    constexpr int n = kShape[0], c = kShape[1], h = kShape[2], w = kShape[3];
    const auto row_major = [=](int i) { return i / (h * w) % c; };
    const auto mean = of("batch", r_.batch, c, row_major).mean, variance = statistics_.variance;
    double far = 0;  // from 0: what is made of a rounded mean is as far off as numbers of that size are
    for (const float value : x) far = std::max(far, std::abs(double(value)));
    near("mean", r_.mean, mean, 4, far);
    near("variance", r_.variance, variance, 4, 2);
    of("batch_col_major", r_.batch_col_major, c, [=](int i) { return i / n % c; });
    const double unbiased = 0.1 * n * h * w / (n * h * w - 1);
    std::vector<double> running_mean, running_variance;
    for (std::size_t k = 0; k < std::size_t(c); ++k) {
      running_mean.push_back(0.9 * 0.1 * mean[k] + 0.1 * statistics_.mean[k]);
      running_variance.push_back(0.9 * (0.9 + unbiased * variance[k]) + unbiased * statistics_.variance[k]);
    }
    near("running_mean", r_.running_mean, running_mean, 4, far);
    near("running_variance", r_.running_variance, running_variance, 4, 2);
    std::vector<double> infer;
    for (int i = 0; i < size(); ++i) {
      const auto k = std::size_t(row_major(i));
      infer.push_back((x_[std::size_t(i)] - running_mean[k]) / std::sqrt(running_variance[k] + 1e-5));
    }
    near("infer", r_.infer, infer, 4, far);
    of("channels_last", r_.channels_last, w, [=](int i) { return i % w; });
    of("instance", r_.instance, n * c, [=](int i) { return i / (h * w); });
    const double share = 0.1 * h * w / (h * w - 1) / n;
    std::vector<double> of_images(std::size_t(c), 0.9);
    for (int k = 0; k < n * c; ++k) of_images[std::size_t(k % c)] += share * statistics_.variance[std::size_t(k)];
    near("instance_running_variance", r_.instance_running_variance, of_images, 4, 2);
    of("group", r_.group, n * kGroups, [=](int i) { return i / (h * w * c / kGroups); });
    of("two_rows", r_.two_rows, 2, [=](int i) { return i % 2; });
    of("layer", r_.layer, n * c * h, [=](int i) { return i / w; });
    expect_dx(w);
  }
  bool right() const { return right_; }

 private:
  struct Statistics {
    std::vector<double> mean, variance;
  };
  int size() const { return static_cast<int>(x_.size()); }

  /// y is the norm of x by the statistic that `statistic` says; leaves them in statistics_.
  template <class F>
  const Statistics& of(const char* what, const std::vector<float>& y, int count, F statistic) {
    std::vector<double> n(std::size_t(count), 0), sum(n), squares(n);
    for (int i = 0; i < size(); ++i) {
      const auto k = std::size_t(statistic(i));
      const double distance = double(x_[std::size_t(i)]) - double(x_[0]);
      n[k] += 1;
      sum[k] += distance;
      squares[k] += distance * distance;
    }
    statistics_ = {n, n};
    for (std::size_t k = 0; k < n.size(); ++k) {
      statistics_.mean[k] = x_[0] + sum[k] / n[k];
      statistics_.variance[k] = squares[k] / n[k] - sum[k] / n[k] * (sum[k] / n[k]);
    }
    norm_.clear();
    double largest = 0;
    for (int i = 0; i < size(); ++i) {
      const auto k = std::size_t(statistic(i));
      norm_.push_back((x_[std::size_t(i)] - statistics_.mean[k]) / std::sqrt(statistics_.variance[k] + 1e-5));
      largest = std::max(largest, std::abs(norm_.back()));
    }
    near(what, y, norm_, 4, largest);
    return statistics_;
  }
  /// Of the layer whose norm_ and statistics_ are the last ones.
  void expect_dx(int w) {
    std::vector<double> dx;
    double largest = 0;
    for (int first = 0; first < size(); first += w) {
      double mean = 0, mean_of_product = 0, largest_dy = 0, largest_norm = 0;
      for (int i = first; i < first + w; ++i) {
        mean += dy(i) / w;
        mean_of_product += dy(i) * norm_[std::size_t(i)] / w;
        largest_dy = std::max(largest_dy, std::abs(dy(i)));
        largest_norm = std::max(largest_norm, std::abs(norm_[std::size_t(i)]));
      }
      const double rstd = 1 / std::sqrt(statistics_.variance[std::size_t(first / w)] + 1e-5);
      for (int i = first; i < first + w; ++i) dx.push_back(rstd * (dy(i) - mean - norm_[std::size_t(i)] * mean_of_product));
      largest = std::max(largest, rstd * largest_dy * (2 + largest_norm));
    }
    near("layer_dx", r_.layer_dx, dx, 8, largest);
  }
  double dy(int i) const { return x_[std::size_t(size() - 1 - i)]; }

  /// Within k ulp of a number as large as scale.
  void near(const char* what, const std::vector<float>& actual, const std::vector<double>& expected, double k, double scale) {
    const double tolerance = k * 0x1p-23 * scale;
    double worst = actual.size() == expected.size() ? 0 : HUGE_VAL;
    for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
      const double distance = std::abs(double(actual[i]) - expected[i]);
      worst = std::isnan(distance) ? HUGE_VAL : std::max(worst, distance);
    }
    if (worst <= tolerance) return;
    std::printf("%s: %s is off by %g, %g allowed\n", unit_, what, worst, tolerance);
    right_ = false;
  }

  const char* unit_;
  const std::vector<float>& x_;
  const Results& r_;
  Statistics statistics_;
  std::vector<double> norm_;
  bool right_ = true;
};

}  // namespace

bool add_unit(const Unit& unit) {
  units().push_back(unit);
  return true;
}

int main() {
  const std::vector<float> x = input(3), far = input(100);
  // Without fma the compiler's flags may decide a last bit.
  const bool bits_are_promised = tensornorm::kernels::level() != tensornorm::kernels::Level::baseline;
  std::vector<float> ieee;
  bool right = !units().empty();
  for (const Unit& unit : units()) {
    if (!unit.throws()) {
      std::printf("%s: no exception for a layer of size 0, or for an eps, momentum or variance that is no number\n", unit.name);
      right = false;
    }
    if (unit.ieee && ieee.empty()) ieee = all_of(unit.run(x));
  }
  for (const Unit& unit : units()) {
    const Results near_zero = unit.run(x), far_away = unit.run(far);
    const Judge of_near(unit.name, x, near_zero), of_far(unit.name, far, far_away);
    const bool same = !unit.ieee || !bits_are_promised || same_bits(all_of(near_zero), ieee);
    const bool agrees = of_near.right() && of_far.right() && same;
    std::printf("%s: %s\n", unit.name, agrees ? "agrees" : "disagrees");
    right = right && agrees;
  }
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const float value : ieee) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    hash = (hash ^ word) * 1099511628211u;
  }
  if (bits_are_promised) std::printf("bits %016llx\n", static_cast<unsigned long long>(hash));
  else std::printf("no bits are promised\n");
  return right ? 0 : 1;
}
