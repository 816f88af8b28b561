// SPDX-License-Identifier: MIT
#pragma once

#if defined(__GNUC__)
// A kernel takes on the instruction set of the entry point it is inlined into; a call would leave it at the baseline's.
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

// Walks, which hold the loops of a kernel: nothing but what runs below an entry point, in TENSORNORM_ABI. g++ optimizes what is always inlined
// anew in each function around it; where the entry point flattens walks, all at once, they compile in half the time. A part that is split off
// or cloned would stay at the baseline. Those of RowForward are always inlined: flattened they took up to 1.1 times as long.
//
// What walks call as a function of its own is TENSORNORM_CALLED, or it would be flattened, too, and its products fused.
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__NO_INLINE__)
#define TENSORNORM_FLATTEN __attribute__((flatten))
#define TENSORNORM_NESTED inline __attribute__((noclone))
#define TENSORNORM_NESTED_LAMBDA __attribute__((noclone))
#define TENSORNORM_CALLED __attribute__((noinline))
#else
#define TENSORNORM_FLATTEN
#define TENSORNORM_NESTED TENSORNORM_INLINE
#define TENSORNORM_NESTED_LAMBDA TENSORNORM_INLINE_LAMBDA
#define TENSORNORM_CALLED
#endif

// What a layer's users call, up to the kernels, takes on the flags of their unit, or the linker would give all units the one that it saw first.
// Units that define TENSORNORM_SAME_FLAGS, as this project's tests do, share one copy of each: all that do have the same flags. Without
// optimization they compile faster.
#ifdef TENSORNORM_SAME_FLAGS
#define TENSORNORM_API inline
#else
#define TENSORNORM_API TENSORNORM_INLINE
#endif
