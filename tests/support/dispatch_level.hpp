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

/// Takes the processor for one of Intel's, or not, for the life of the object.
struct OnIntel {
  explicit OnIntel(bool intel) { tensornorm::kernels::on_intel = intel; }
  ~OnIntel() { tensornorm::kernels::on_intel = before; }
  OnIntel(const OnIntel&) = delete;
  OnIntel& operator=(const OnIntel&) = delete;

  bool before = tensornorm::kernels::is_intel();
};

}  // namespace support
