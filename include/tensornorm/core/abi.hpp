// SPDX-License-Identifier: MIT
#pragma once

// Translation units built with other flags get other symbols, or the linker would give one the code of the other.

// How numbers are computed.
#if defined(__FAST_MATH__)
#define TENSORNORM_MATH_ABI fast_
#elif defined(__ASSOCIATIVE_MATH__) && defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define TENSORNORM_MATH_ABI associative_finite_
#elif defined(__ASSOCIATIVE_MATH__)
#define TENSORNORM_MATH_ABI associative_
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define TENSORNORM_MATH_ABI finite_
#else
#define TENSORNORM_MATH_ABI ieee_
#endif
// What becomes of an error where it is no exception.
#if defined(__cpp_exceptions)
#define TENSORNORM_ERRORS_ABI
#else
#define TENSORNORM_ERRORS_ABI aborting_
#endif
// Which instructions the unit may use; and the level of kernels that this comes to, which kernels/dispatch.hpp takes up. They are asked
// once: units that differ in the one have to differ in the other.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__F16C__)
#define TENSORNORM_ISA_ABI avx512
#define TENSORNORM_OWN_LEVEL Level::avx512
#elif defined(__AVX512F__)
#define TENSORNORM_ISA_ABI avx512f
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define TENSORNORM_ISA_ABI avx2
#define TENSORNORM_OWN_LEVEL Level::avx2
#elif defined(__FMA__) || defined(__FP_FAST_FMA)
#define TENSORNORM_ISA_ABI fma
#else
#define TENSORNORM_ISA_ABI baseline
#endif
#if !defined(TENSORNORM_OWN_LEVEL) || !defined(__x86_64__) || !defined(__GNUC__)
#undef TENSORNORM_OWN_LEVEL
#define TENSORNORM_OWN_LEVEL Level::baseline
#endif
// A namespace's name out of three macros: the preprocessor alone can join them, after a first macro has replaced them by their values.
#define TENSORNORM_JOIN_(a, b, c) a##b##c
#define TENSORNORM_JOIN(a, b, c) TENSORNORM_JOIN_(a, b, c)
#define TENSORNORM_ABI TENSORNORM_JOIN(TENSORNORM_MATH_ABI, TENSORNORM_ERRORS_ABI, TENSORNORM_ISA_ABI)
