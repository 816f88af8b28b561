// SPDX-License-Identifier: MIT
#pragma once

#include "report.hpp"

namespace accuracy {

/// Adds the cases of elements T in layers of parameters P to the report: every layer, in every form its data can lie
/// in, on every data set; full: at all sizes. Defined for float, double, half and bfloat16 with parameters of their own
/// type, and for half and bfloat16 with those of float.
template <class T, class P>
void measure(Report& report, bool full);

}  // namespace accuracy
