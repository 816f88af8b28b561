// SPDX-License-Identifier: MIT
// What translation units built with different flags share: plain data only.
#pragma once

#include <array>
#include <vector>

inline constexpr std::array<int, 4> kShape{3, 10, 7, 9};
inline constexpr int kGroups = 2;

/// What a unit computes from values: x, RowMajor, and in the same memory the ColMajor tensor of that shape.
struct Results {
  std::vector<float> batch, batch_col_major, running_mean, running_variance;  ///< after both, RowMajor first
  std::vector<float> infer, channels_last, layer, layer_dx;                   ///< dx for dy: values from the last to the first
  std::vector<float> two_rows;                                                ///< a ColMajor matrix of so many, each normalized
  std::vector<float> instance, instance_running_variance, group, mean, variance;
};

/// One translation unit that uses the library: its name, whether it keeps to IEEE arithmetic, and what it computes.
struct Unit {
  const char* name;
  bool ieee;
  Results (*run)(const std::vector<float>& values);
  bool (*throws)();
};

/// Called before main by each unit; returns true.
bool add_unit(const Unit& unit);
