// SPDX-License-Identifier: MIT
// The two halves of the tour.
#pragma once

#include "judge.hpp"

#include <string>

namespace tour {

/// Every layer on a case small enough to follow by eye.
void worked_cases(Judge& judge);

/// BatchNorm2d learns the mean and variance of 1797 handwritten digits, batch by batch.
void digits(Judge& judge, const std::string& path);

}  // namespace tour
