// SPDX-License-Identifier: MIT
// Runs a test's own code inside each instruction set the processor has, as kernels run.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/dispatch_level.hpp"

namespace support {

inline const char* name_of(tensornorm::kernels::Level level) {
  return level == tensornorm::kernels::Level::avx512 ? "avx512"
         : level == tensornorm::kernels::Level::avx2 ? "avx2"
                                                     : "baseline";
}

/// The levels that this processor can be set to.
inline std::vector<tensornorm::kernels::Level> levels() {
  std::vector<tensornorm::kernels::Level> result;
  for (int i = 0; i <= static_cast<int>(tensornorm::kernels::detected_level()); ++i)
    result.push_back(static_cast<tensornorm::kernels::Level>(i));
  return result;
}

/// Multiply-adds are rounded once: all levels but a baseline without them.
inline bool has_fma([[maybe_unused]] tensornorm::kernels::Level level) {
#if (defined(__FMA__) && defined(__x86_64__)) || defined(__aarch64__) || (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
  return true;
#else
  return level != tensornorm::kernels::Level::baseline;
#endif
}

/// f.operator()<Isa>() in the instruction set in force; f is a lambda with TENSORNORM_INLINE_LAMBDA.
template <class F>
void run_in_instruction_set(const F& f) {
  tensornorm::kernels::dispatch_as<float>(f);
}

/// f(level) with each level in force.
template <class F>
void at_each_level(F f) {
  for (const tensornorm::kernels::Level level : levels()) {
    SCOPED_TRACE(name_of(level));
    const AtLevel forced(level);
    f(level);
  }
}

}  // namespace support
