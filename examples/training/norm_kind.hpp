// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace examples {

enum class NormKind { none, batch, layer, group };

inline std::string name_of(NormKind kind) {
  switch (kind) {
    case NormKind::none:
      return "none";
    case NormKind::batch:
      return "BatchNorm";
    case NormKind::layer:
      return "LayerNorm";
    case NormKind::group:
      return "GroupNorm";
  }
  return "";
}

}  // namespace examples
