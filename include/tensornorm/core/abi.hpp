// SPDX-License-Identifier: MIT
#pragma once

// Translation units built with other flags get other symbols, or the linker would give one the code of the other.

// How numbers are computed, and whether an error is an exception.
#if defined(__FAST_MATH__) && defined(__cpp_exceptions)
#define TENSORNORM_SEMANTICS_ABI fast_
#elif defined(__FAST_MATH__)
#define TENSORNORM_SEMANTICS_ABI fast_aborting_
#elif defined(__cpp_exceptions)
#define TENSORNORM_SEMANTICS_ABI ieee_
#else
#define TENSORNORM_SEMANTICS_ABI ieee_aborting_
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
#elif defined(__FMA__)
#define TENSORNORM_ISA_ABI fma
#else
#define TENSORNORM_ISA_ABI baseline
#endif
#if !defined(TENSORNORM_OWN_LEVEL) || !defined(__x86_64__) || !defined(__GNUC__)
#undef TENSORNORM_OWN_LEVEL
#define TENSORNORM_OWN_LEVEL Level::baseline
#endif
// A namespace's name out of two macros: the preprocessor alone can join them, after a first macro has replaced them by their values.
#define TENSORNORM_JOIN_(a, b) a##b
#define TENSORNORM_JOIN(a, b) TENSORNORM_JOIN_(a, b)
#define TENSORNORM_ABI TENSORNORM_JOIN(TENSORNORM_SEMANTICS_ABI, TENSORNORM_ISA_ABI)
