// SPDX-License-Identifier: MIT
// What translation units built with different flags share: plain data only.
#pragma once

#include <array>
#include <vector>

inline constexpr std::array<int, 4> kShape{3, 10, 7, 9};

/// One translation unit that uses the library: its name, whether it keeps to IEEE arithmetic, and what it computes.
struct Unit {
  const char* name;
  bool ieee;
  std::vector<float> (*run)(const std::vector<float>& values);
  bool (*throws)();
};

/// Called before main by each unit; returns true.
bool add_unit(const Unit& unit);
