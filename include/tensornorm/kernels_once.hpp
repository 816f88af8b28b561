// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>
#include <tensornorm/ops/backward_op.hpp>
#include <tensornorm/ops/forward_op.hpp>
#include <tensornorm/ops/transposed_rows.hpp>

/// Kernels, and what chooses among them where the layer's scalar is T too, that a program compiles once, instead of in every unit that calls a
/// layer: they are nearly all of what such a unit takes to compile. T is the type of the elements of x and y; which layer it is, shapes and
/// storage orders do not matter, nor to the kernels the layer's scalar.
///
///   TENSORNORM_DECLARE_KERNELS(float);  // in the header through which all units get their layers, outside of namespaces
///   TENSORNORM_DEFINE_KERNELS(float);   // in one unit of the program, and of each shared library, after that header
///
/// Errors   the linker misses tensornorm::kernels::...::dispatch<...>, or a Plan, where no unit defines them for T and these flags: -ffast-math,
///          -ffinite-math-only, by g++ 12 and newer -fassociative-math, -fno-exceptions, and an -march that has FMA or AVX-512, make others of them.
///          A T that is no real floating-point type does not compile.
#define TENSORNORM_DECLARE_KERNELS(T) TENSORNORM_EACH_KERNEL(extern template, T)
#define TENSORNORM_DEFINE_KERNELS(T) TENSORNORM_EACH_KERNEL(template, T)

// Only the preprocessor can write one list of instantiations for both.
#define TENSORNORM_EACH_KERNEL(how, T)                                                                                     \
  static_assert(tensornorm::RealScalar<T> && !std::is_const_v<T>, "tensornorm: kernels are for the type of x's elements"); \
  TENSORNORM_KERNEL(how, RowForward<tensornorm::kernels::ForwardArguments<T>>);                                            \
  TENSORNORM_KERNEL(how, ShortRowForward<tensornorm::kernels::ForwardArguments<T>>);                                       \
  TENSORNORM_KERNEL(how, OneRowForward<tensornorm::kernels::ForwardArguments<T>>);                                         \
  TENSORNORM_KERNEL(how, FrozenRunForward<tensornorm::kernels::ForwardArguments<T>>);                                      \
  TENSORNORM_KERNEL(how, FrozenRowsForward<tensornorm::kernels::ForwardArguments<T>>);                                     \
  TENSORNORM_KERNEL(how, ColumnForward<tensornorm::kernels::ForwardArguments<T>>);                                         \
  TENSORNORM_KERNEL(how, RowBackward<tensornorm::kernels::BackwardArguments<T>>);                                          \
  TENSORNORM_KERNEL(how, CachedRowBackward<tensornorm::kernels::BackwardArguments<T>>);                                    \
  TENSORNORM_KERNEL(how, ShortRowBackward<tensornorm::kernels::BackwardArguments<T>>);                                     \
  TENSORNORM_KERNEL(how, OneRowBackward<tensornorm::kernels::BackwardArguments<T>>);                                       \
  TENSORNORM_KERNEL(how, ColumnBackward<tensornorm::kernels::BackwardArguments<T>>);                                       \
  TENSORNORM_KERNEL(how, InterleavedRows<T>);                                                                              \
  how struct tensornorm::ForwardPlan<T, T, tensornorm::StatisticsSource::rows>;                                            \
  how struct tensornorm::ForwardPlan<T, T, tensornorm::StatisticsSource::any>;                                             \
  how struct tensornorm::ForwardPlan<T, T, tensornorm::StatisticsSource::given>;                                           \
  how struct tensornorm::BackwardPlan<T, T, true>;                                                                         \
  how struct tensornorm::BackwardPlan<T, T, false>
// A line of that list: how, and of which walk, is all that tells one from another.
#define TENSORNORM_KERNEL(how, walk) how void tensornorm::kernels::dispatch(const tensornorm::kernels::walk&) noexcept

// What TensorNorm::Kernels of CMake has for units of these flags. It defines names of type and flags as `0,1`; one that is not defined
// leaves the second place to the 0 behind it, without a warning that it is none.
#ifdef TENSORNORM_COMPILED_KERNELS
// By a second macro: the comma counts only once a first one has replaced the name by its value.
#define TENSORNORM_SECOND_(a, b, ...) b
#define TENSORNORM_SECOND(...) TENSORNORM_SECOND_(__VA_ARGS__)
// What it asks of is a macro, which only the preprocessor sees.
#define TENSORNORM_HAS_COMPILED(type) TENSORNORM_SECOND(TENSORNORM_JOIN(TENSORNORM_COMPILED_##type##_, TENSORNORM_ABI, ), 0, 0)
#if TENSORNORM_HAS_COMPILED(float)
TENSORNORM_DECLARE_KERNELS(float);
#endif
#if TENSORNORM_HAS_COMPILED(double)
TENSORNORM_DECLARE_KERNELS(double);
#endif
#if TENSORNORM_HAS_COMPILED(half)
TENSORNORM_DECLARE_KERNELS(Eigen::half);
#endif
#if TENSORNORM_HAS_COMPILED(bfloat16)
TENSORNORM_DECLARE_KERNELS(Eigen::bfloat16);
#endif
#endif
