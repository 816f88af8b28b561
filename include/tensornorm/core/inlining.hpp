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
#if defined(__clang__) || defined(__NO_INLINE__)
#define TENSORNORM_FLATTEN
#define TENSORNORM_WALK TENSORNORM_INLINE
#define TENSORNORM_WALK_LAMBDA TENSORNORM_INLINE_LAMBDA
#define TENSORNORM_APART
#else
// g++ optimizes what is always inlined anew in each function around it, down to the entry point: where that flattens the walks over its
// kernels, all at once, these compile in half the time. What they call by itself has to say so then.
#define TENSORNORM_FLATTEN __attribute__((flatten))
#define TENSORNORM_WALK inline __attribute__((noclone))
#define TENSORNORM_WALK_LAMBDA __attribute__((noclone))
#define TENSORNORM_APART __attribute__((noinline))
#endif
#else
// Compilers without these attributes run the baseline alone: hints they may do without.
#define TENSORNORM_INLINE inline
#define TENSORNORM_RARE
#define TENSORNORM_INLINE_LAMBDA
#define TENSORNORM_FLATTEN
#define TENSORNORM_WALK inline
#define TENSORNORM_WALK_LAMBDA
#define TENSORNORM_APART
#endif
