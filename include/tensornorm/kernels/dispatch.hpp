// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdlib>
#include <string_view>
#include <tensornorm/core/abi.hpp>
#include <tensornorm/core/inlining.hpp>
#include <type_traits>
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace tensornorm::kernels {

/// Instruction sets, the later the wider. On machines other than x86 `baseline` is the compiler's own (NEON on aarch64).
enum class Level : int { baseline = 0, avx2 = 1, avx512 = 2 };

#if defined(__x86_64__) && defined(__GNUC__)
/// The instructions that convert halves, which clang 14 does not know to ask the processor for.
inline bool detected_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

/// The widest instruction set this processor and operating system support.
inline Level detected_level() {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return Level::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && detected_f16c()) return Level::avx2;
#endif
  return Level::baseline;
}

/// This processor is Intel's.
inline bool detected_intel() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

/// The level at start-up: detected, or lower when the environment variable TENSORNORM_DISPATCH=baseline|avx2|avx512 says so (for tests).
/// Units compiled for a wider one do not go below that.
inline Level initial_level() {
  const Level detected = detected_level();
  const char* text = std::getenv("TENSORNORM_DISPATCH");
  const std::string_view wanted = text != nullptr ? text : "";
  const Level level = wanted == "baseline" ? Level::baseline : wanted == "avx2" ? Level::avx2 : detected;
  return level < detected ? level : detected;
}

inline std::atomic<Level> current_level{initial_level()};

/// What no instruction set tells: how far the last level of the cache is, and how streaming stores are fed best. Only time depends on it.
inline std::atomic<bool> on_intel{detected_intel()};
TENSORNORM_INLINE bool is_intel() { return on_intel.load(std::memory_order_relaxed); }

/// The level in force for units that are not compiled for a wider one.
inline Level level() { return current_level.load(std::memory_order_relaxed); }

/// Sets the level of the whole process (for tests), at most what the processor has. Returns the level in force, which units compiled for a
/// wider one do not go below. Parts of a call that runs meanwhile may take either.
inline Level set_level(Level wanted) {
  const Level detected = detected_level();
  current_level.store(wanted < detected ? wanted : detected, std::memory_order_relaxed);
  return level();
}

inline namespace TENSORNORM_ABI {

/// What this unit is compiled for: it runs nowhere else, and kernels for less need not be compiled.
inline constexpr Level kOwnLevel = TENSORNORM_OWN_LEVEL;
#undef TENSORNORM_OWN_LEVEL

/// The width of the hardware's vectors in bytes, the only thing a kernel knows of an instruction set.
template <int kBytes>
struct Isa {
  static constexpr int bytes = kBytes;
  using Half = Isa<kBytes / 2>;
};

#if defined(__x86_64__) && defined(__GNUC__)
template <class Job>
TENSORNORM_FLATTEN __attribute__((noinline, target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))) void run_avx512(const Job& job) noexcept {
  job.template operator()<Isa<64>>();
}
template <class Job>
TENSORNORM_FLATTEN __attribute__((noinline, target("avx2,fma,f16c"))) void run_avx2(const Job& job) noexcept {
  job.template operator()<Isa<32>>();
}
#endif
template <class Job>
#if defined(__GNUC__)
__attribute__((noinline))
#endif
TENSORNORM_FLATTEN void run_baseline(const Job& job) noexcept {
  job.template operator()<Isa<16>>();
}
/// The same of numbers that no vector holds: not flattened, or each operator of a user's type would be flattened into it.
template <class Job>
#if defined(__GNUC__)
__attribute__((noinline))
#endif
void run_one_by_one(const Job& job) noexcept {
  job.template operator()<Isa<16>>();
}

/// Runs job.operator()<Isa>() of numbers of type A in the instruction set in force, or the unit's own where that is wider. That operator is
/// TENSORNORM_NESTED or TENSORNORM_INLINE, as is all it calls that computes; it may be that of a lambda []<class I>()
/// TENSORNORM_NESTED_LAMBDA {...}: a part of another job, compiled for itself.
///
/// Numbers that no vector holds (A is long double, or the user's) have no use for other instruction sets: their job is compiled once,
/// and nothing of it is fused but what the unit's own flags fuse.
template <class A, class Job>
void dispatch_as(const Job& job) noexcept {
  if constexpr (!std::is_same_v<A, float> && !std::is_same_v<A, double>) {
    run_one_by_one(job);
  } else {
#if defined(__x86_64__) && defined(__GNUC__)
    const Level now = kOwnLevel < level() ? level() : kOwnLevel;
    if (now == Level::avx512) return run_avx512(job);
    if constexpr (kOwnLevel <= Level::avx2)
      if (now == Level::avx2) return run_avx2(job);
    if constexpr (kOwnLevel == Level::baseline) run_baseline(job);
#else
    run_baseline(job);
#endif
  }
}
/// The same of a job that names its A.
template <class Job>
void dispatch(const Job& job) noexcept {
  dispatch_as<typename Job::A>(job);
}

/// Runs a part of a job as a function of its own, in the instruction set I that the job runs in: which is in force might have changed.
template <class I, class Job>
TENSORNORM_INLINE void run_apart(const Job& job) noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  if constexpr (I::bytes == 64) return run_avx512(job);
  if constexpr (I::bytes == 32) return run_avx2(job);
#endif
  if constexpr (I::bytes < 32) run_baseline(job);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
