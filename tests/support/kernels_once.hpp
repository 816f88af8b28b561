// SPDX-License-Identifier: MIT
// The kernels are templates over element type and instruction set alone: kernels_once*.cpp compile them for all tests
// that include this, which is most of what such a test would take to compile, with sanitizers above all.
#pragma once

#include <tensornorm/tensornorm.hpp>

#define TENSORNORM_TEST_KERNELS(how, T)                                      \
  how void dispatch(const RowForward<ForwardArguments<T>>&) noexcept;        \
  how void dispatch(const ShortRowForward<ForwardArguments<T>>&) noexcept;   \
  how void dispatch(const ColumnForward<ForwardArguments<T>>&) noexcept;     \
  how void dispatch(const RowBackward<BackwardArguments<T>>&) noexcept;      \
  how void dispatch(const ShortRowBackward<BackwardArguments<T>>&) noexcept; \
  how void dispatch(const ColumnBackward<BackwardArguments<T>>&) noexcept

namespace tensornorm::kernels {

TENSORNORM_TEST_KERNELS(extern template, float);
TENSORNORM_TEST_KERNELS(extern template, double);
TENSORNORM_TEST_KERNELS(extern template, Eigen::half);
TENSORNORM_TEST_KERNELS(extern template, Eigen::bfloat16);

}  // namespace tensornorm::kernels
