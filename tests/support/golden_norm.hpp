// SPDX-License-Identifier: MIT
// What a golden case asks for, as the reference understands it: the only link between the two.
#pragma once

#include "golden.hpp"
#include "reference.hpp"

namespace support {

inline reference::Norm norm_of(const golden::Case& c) {
  using reference::Role;
  reference::Norm norm;
  norm.shape = c.shape();
  norm.roles.assign(norm.shape.size(), Role::reduced);
  norm.eps = c.option("eps").value_or(0);  // RMSNorm without one: the caller sets the epsilon of its type
  norm.unbiased = c.flag("unbiased");
  norm.eps_added_to_deviation = c.flag("eps_added_to_deviation");
  if (c.layer == "LayerNorm" || c.layer == "RMSNorm") {
    const auto reduced = static_cast<std::size_t>(*c.option("normalized_rank"));
    for (std::size_t axis = 0; axis < norm.roles.size(); ++axis)
      norm.roles[axis] = axis + reduced < norm.roles.size() ? Role::kept : Role::reduced_affine;
    norm.mean_pinned_to_zero = c.layer == "RMSNorm";
  } else if (c.layer == "GroupNorm") {
    const auto groups = static_cast<Index>(*c.option("num_groups"));
    norm.shape[1] /= groups;
    norm.shape.insert(norm.shape.begin() + 1, groups);
    norm.roles.insert(norm.roles.begin(), Role::kept);
    norm.roles[1] = Role::kept_affine;
    norm.roles[2] = Role::reduced_affine;
  } else {
    const bool unbatched = c.name.starts_with("unbatched");
    if (!unbatched) norm.roles[0] = c.layer.starts_with("Batch") ? Role::reduced : Role::kept;
    norm.roles[unbatched ? 0 : 1] = Role::kept_affine;
  }
  return norm;
}

}  // namespace support
