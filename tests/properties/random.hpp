// SPDX-License-Identifier: MIT
// Random cases that can be had again: each case has a seed of its own, which a failure prints.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <random>
#include <string>

#include "support/logical.hpp"

namespace properties {

using support::Index;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// One of [first, last], all alike. By a remainder, so that every standard library gives the same.
  Index between(Index first, Index last) {
    return first + static_cast<Index>(engine_() % static_cast<std::uint64_t>(last - first + 1));
  }
  bool coin() { return between(0, 1) == 1; }
  unsigned seed() { return static_cast<unsigned>(engine_()); }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<Index>(values.size()) - 1)];
  }
  /// At most `most`: small ones, ones around the widths of vectors, and long ones.
  Index extent(Index most) {
    Index result = 1;
    switch (between(0, 4)) {
      case 0: result = between(1, 4); break;
      case 1: result = between(1, 20); break;
      case 2: result = one_of<Index>({8, 16, 32, 48, 64, 128, 256, 1024}) + between(-1, 1); break;
      case 3: result = between(1, 200); break;
      default: result = between(1, most);
    }
    return result < most ? result : most;
  }

 private:
  std::mt19937_64 engine_;
};

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != 0 ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// The seed of the first case; the following ones have the following numbers.
inline std::uint64_t first_seed() {
  static const std::uint64_t seed = [] {
    const std::uint64_t result = from_environment("TENSORNORM_PROPERTY_SEED", std::random_device()());
    std::cout << "TENSORNORM_PROPERTY_SEED=" << result << std::endl;
    return result;
  }();
  return seed;
}

/// f(random) for one in `share` of TENSORNORM_PROPERTY_CASES (1000) cases, up to the first that fails.
template <class F>
void for_random_cases(std::uint64_t share, F f) {
  const std::uint64_t cases = from_environment("TENSORNORM_PROPERTY_CASES", 1000);
  for (std::uint64_t i = 0; i < (cases + share - 1) / share && !testing::Test::HasFailure(); ++i) {
    const std::uint64_t seed = first_seed() + i;
    SCOPED_TRACE("TENSORNORM_PROPERTY_SEED=" + std::to_string(seed) + " TENSORNORM_PROPERTY_CASES=1");
    Random random(seed);
    f(random);
  }
}

}  // namespace properties
