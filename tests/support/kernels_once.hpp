// SPDX-License-Identifier: MIT
// The kernels are templates over element type and instruction set alone: kernels_once.cpp compiles them for all tests
// that include this, which is most of what such a test would take to compile, with sanitizers above all.
#pragma once

#include <tensornorm/tensornorm.hpp>

#if !defined(TENSORNORM_TEST_TEMPLATE)
#define TENSORNORM_TEST_TEMPLATE extern template
#endif

namespace tensornorm::kernels {

TENSORNORM_TEST_TEMPLATE void dispatch(const RowForward<ForwardArguments<float>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const RowForward<ForwardArguments<double>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const ColumnForward<ForwardArguments<float>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const ColumnForward<ForwardArguments<double>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const RowBackward<BackwardArguments<float>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const RowBackward<BackwardArguments<double>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const ColumnBackward<BackwardArguments<float>>&) noexcept;
TENSORNORM_TEST_TEMPLATE void dispatch(const ColumnBackward<BackwardArguments<double>>&) noexcept;

}  // namespace tensornorm::kernels
