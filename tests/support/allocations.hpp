// SPDX-License-Identifier: MIT
// Counts this thread's allocations, operator new's and Eigen's own alike, their sizes, and the blocks it has not given back, and can
// let an allocation fail. It replaces the C library's functions, so it belongs into one translation unit of a program,
// and steps back where a sanitizer does that.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <tensornorm/core/scratch.hpp>
#include <thread>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TENSORNORM_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TENSORNORM_TEST_SANITIZED 1
#endif
#endif

namespace support {

#if defined(__GLIBC__) && !defined(TENSORNORM_TEST_SANITIZED)
inline constexpr bool kCountsAllocations = true;
#else
inline constexpr bool kCountsAllocations = false;
#endif

struct Allocations {
  long count = 0;
  long fail_at = 0;  ///< the allocation with this number, counted from 1, fails once
  std::size_t largest = 0;  ///< the most bytes asked for at once, given or not
  /// Where the blocks are counted that the thread takes and gives back. A pointer to an atomic: the thread's destructors
  /// are watched too, and what they find must still be there.
  std::atomic<long>* blocks = nullptr;
};
inline thread_local Allocations allocations;

/// Notes one allocation; false: it has to fail.
inline bool note_allocation(std::size_t bytes) {
  allocations.largest = std::max(allocations.largest, bytes);
  return ++allocations.count != allocations.fail_at;
}
inline void note_blocks(long more) {
  if (allocations.blocks != nullptr) *allocations.blocks += more;
}
inline void* noted(void* block) {
  if (block != nullptr) note_blocks(1);
  return block;
}

/// The number of allocations that f makes; `fail_at`: which of them fails.
template <class F>
long allocations_in(const F& f, long fail_at = 0) {
  struct Armed {
    explicit Armed(long at) {
      allocations.count = 0;
      allocations.fail_at = at;
    }
    ~Armed() { allocations.fail_at = 0; }
  } armed(fail_at);
  f();
  return allocations.count;
}

/// The most bytes that f asks for at once, whether it gets them or not.
template <class F>
std::size_t largest_allocation_in(const F& f) {
  allocations.largest = 0;
  f();
  return allocations.largest;
}

/// The blocks that a thread which calls f has taken and not given back when it has ended, less those of a thread that
/// does nothing: what std::thread itself took elsewhere.
template <class F>
long blocks_left_by(const F& f) {
  const auto left_by = [](const auto& work) {
    std::atomic<long> blocks{0};
    std::thread([&] {
      allocations.blocks = &blocks;
      work();
    }).join();
    return blocks.load();
  };
  return left_by(f) - left_by([] {});
}

/// Whether f throws std::bad_alloc, as the first call of a thread whose n-th allocation fails; it must not have kept any
/// memory then. The very first allocation registers a destructor of the thread's, and where there is no memory for that
/// glibc itself ends the program: that one has been made.
template <class F>
bool throws_at_allocation(long n, const F& f) {
  bool threw = false;
  const long left = blocks_left_by([&] {
    tensornorm::Scratch::acquire(1);
    allocations_in(
        [&] {
          try {
            f();
          } catch (const std::bad_alloc&) {
            threw = true;
          }
        },
        n);
  });
  if (threw) {
    EXPECT_EQ(left, 0) << "blocks kept by a call whose allocation " << n << " failed";
  }
  return threw;
}

/// Fails, one after the other, all allocations of a call f(operands) that succeeds, as the first of a thread: each call of these throws,
/// and state(operands) is then what it was. Every call has operands of its own, from make(). Returns how many allocations there are.
template <class Make, class F, class State>
long fail_each_allocation(const Make& make, const F& f, const State& state) {
  const auto needed = [&] {
    auto operands = make();
    long count = 0;
    std::thread([&] {
      tensornorm::Scratch::acquire(1);
      count = allocations_in([&] { f(operands); });
    }).join();
    return count;
  };
  needed();  // with what the first call of a program takes
  const long all = needed();
  for (long n = 1; n <= all + 1; ++n) {
    auto operands = make();
    const auto before = state(operands);
    const bool threw = throws_at_allocation(n, [&] { f(operands); });
    EXPECT_EQ(threw, n <= all) << "allocation " << n << " of " << all;
    if (threw) {
      EXPECT_TRUE(state(operands) == before) << "changed by a call whose allocation " << n << " of " << all << " failed";
    }
  }
  return all;
}

}  // namespace support

#if defined(__GLIBC__) && !defined(TENSORNORM_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t n) { return support::note_allocation(n) ? support::noted(__libc_malloc(n)) : nullptr; }
void* calloc(std::size_t n, std::size_t size) {
  return support::note_allocation(n * size) ? support::noted(__libc_calloc(n, size)) : nullptr;
}
void* realloc(void* p, std::size_t n) {
  if (!support::note_allocation(n)) return nullptr;
  if (p == nullptr) return support::noted(__libc_malloc(n));
  if (n == 0) support::note_blocks(-1);
  return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  return support::note_allocation(n) ? support::noted(__libc_memalign(alignment, n)) : nullptr;
}
void free(void* p) {
  if (p != nullptr) support::note_blocks(-1);
  __libc_free(p);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  *p = aligned_alloc(alignment, n);
  return *p != nullptr ? 0 : ENOMEM;
}
}
#endif
