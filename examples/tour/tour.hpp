// SPDX-License-Identifier: MIT
// The two halves of the tour.
#pragma once

#include "../digits.hpp"
#include "judge.hpp"

namespace tour {

/// Every layer on a case small enough to follow by eye.
void worked_cases(Judge& judge);

/// BatchNorm2d learns the mean and variance of the handwritten digits, batch by batch.
void digits(Judge& judge, const examples::Digits& data);

}  // namespace tour
