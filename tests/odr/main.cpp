// SPDX-License-Identifier: MIT
// Runs every unit linked in and fails if two disagree; the last line names the bits of the IEEE ones, for
// check_odr.cmake.
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

/// Mean / deviation is about 3 per channel: within what is promised for -ffast-math too.
std::vector<float> input() {
  std::vector<float> values;
  std::uint32_t state = 1;
  for (int i = 0; i < kShape[0] * kShape[1] * kShape[2] * kShape[3]; ++i) {
    state = state * 1664525u + 1013904223u;
    values.push_back(1 + static_cast<float>(state >> 8) / static_cast<float>(1 << 24));
  }
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// |y| is at most about 2 here: 16 ulps of it.
bool close(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= 16 * 2 * 1.2e-7f)) return false;
  return true;
}

}  // namespace

bool add_unit(const Unit& unit) {
  units().push_back(unit);
  return true;
}

int main() {
  const std::vector<float> x = input();
  // Without fma the compiler's flags may decide a last bit.
  const bool bits_are_promised = tensornorm::kernels::level() != tensornorm::kernels::Level::baseline;
  std::vector<float> ieee;
  bool right = !units().empty();
  for (const Unit& unit : units()) {
    if (!unit.throws()) {
      std::printf("%s: no exception for a layer of size 0, or for an eps, momentum or variance that is no number\n", unit.name);
      right = false;
    }
    if (unit.ieee && ieee.empty()) ieee = unit.run(x);
  }
  for (const Unit& unit : units()) {
    const std::vector<float> y = unit.run(x);
    const bool agrees = unit.ieee && bits_are_promised ? same_bits(y, ieee) : close(y, ieee);
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
  return right ? 0 : 1;
}
