// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/kernels/dispatch.hpp>

namespace support {

/// Forces an instruction set for the life of the object; `forced` is the one that came of it, never above the
/// processor's.
struct AtLevel {
  explicit AtLevel(tensornorm::kernels::Level level) : forced(tensornorm::kernels::set_level(level)) {}
  ~AtLevel() { tensornorm::kernels::set_level(before); }
  AtLevel(const AtLevel&) = delete;
  AtLevel& operator=(const AtLevel&) = delete;

  tensornorm::kernels::Level before = tensornorm::kernels::level();
  tensornorm::kernels::Level forced;
};

}  // namespace support
