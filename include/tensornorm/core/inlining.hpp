// SPDX-License-Identifier: MIT
#pragma once

#if defined(__GNUC__)
// A kernel takes on the instruction set of the entry point it is inlined into; a call would leave it at the baseline's. And what a layer's
// users call takes on the flags of their unit, or the linker would give all units the one that it saw first.
#define TENSORNORM_INLINE inline __attribute__((always_inline))
// What is hardly ever needed stays out of a kernel, whose registers and layout it would spoil: 10 % of a backward pass.
#define TENSORNORM_RARE __attribute__((noinline, cold))
// For a lambda's declarator, where `inline` cannot stand.
#define TENSORNORM_INLINE_LAMBDA __attribute__((always_inline))
#else
// Compilers without these attributes run the baseline alone: hints they may do without.
#define TENSORNORM_INLINE inline
#define TENSORNORM_RARE
#define TENSORNORM_INLINE_LAMBDA
#endif
