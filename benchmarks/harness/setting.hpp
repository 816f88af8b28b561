// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Processor, compiler, flags and versions: without them a table of times says nothing.
std::vector<std::pair<std::string, std::string>> setting();

}  // namespace bench
