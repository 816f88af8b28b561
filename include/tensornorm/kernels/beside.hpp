// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <initializer_list>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/kernels/load.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Elements in a page of memory.
template <class A>
inline constexpr Index kPageElements = Index(kPage / sizeof(A)) > 0 ? Index(kPage / sizeof(A)) : 1;

/// Moves arrays to where they are read beside rows of y: 8 lines of the cache and more on from y, counted within pages, and aligned where
/// the rows are. They begin at a line and have kPageElements to spare, or begin anywhere, with a line more.
///
/// Loads of them then do not wait for the rows' stores (see ScratchPlan::place_apart), which come to that place later: so it is for rows
/// that are whole pages apart, as wide ones of 1024 floats are, and of other rows for some. The last 10 lines before y took up to 1.4
/// times as long.
template <class A, class T>
TENSORNORM_CALLED void place_beside(const T* y, std::initializer_list<A**> arrays) {
  constexpr std::size_t line = Scratch::kAlignment;
  const auto row = reinterpret_cast<std::uintptr_t>(y) / line * line;
  std::size_t lines = 0;
  for (A** array : arrays) {
    lines += 8;
    *array += Index(bytes_to_place(*array, row + lines * line) / sizeof(A)) + elements_past_line(y) % kLine<A>;
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
