// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <tensornorm/core/scratch.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <set>
#include <thread>

namespace {

constexpr std::size_t kMoreThanThereIs = std::numeric_limits<std::size_t>::max() / 16;

/// What is allocated with an alignment, of all threads.
std::set<void*>& allocated() {
  static auto& blocks = *new std::set<void*>;
  return blocks;
}
std::mutex allocating;

void release(void* memory) {
  const std::lock_guard lock(allocating);
  allocated().erase(memory);
  std::free(memory);
}

}  // namespace

// AddressSanitizer's own operator new ends the program where there is no memory.
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const std::size_t unit = static_cast<std::size_t>(alignment);
  void* memory = bytes < kMoreThanThereIs ? std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit) : nullptr;
  if (memory == nullptr) throw std::bad_alloc();
  const std::lock_guard lock(allocating);
  allocated().insert(memory);
  return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace tensornorm {
namespace {

TEST(Scratch, IsAlignedAndAsLargeAsAskedFor) {
  for (const std::size_t bytes : {1U, 64U, 1000U, 1000000U}) {
    std::byte* memory = Scratch::acquire(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % Scratch::kAlignment, 0U);
    std::memset(memory, 0x5A, bytes);
  }
}

TEST(Scratch, OfACallIsNotThatOfItsOps) {
  std::byte* const call = Scratch::acquire(1000, Scratch::Of::call);
  std::memset(call, 0x5A, 1000);
  std::memset(Scratch::acquire(2000), 0, 2000);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(call[i], std::byte{0x5A});
  EXPECT_EQ(Scratch::acquire(1000, Scratch::Of::call), call);
}

TEST(Scratch, IsKeptWhereItSuffices) {
  std::byte* large = Scratch::acquire(1 << 20);
  EXPECT_EQ(Scratch::acquire(1), large);
  EXPECT_EQ(Scratch::acquire(1 << 20), large);
}

TEST(Scratch, IsEachThreadsOwn) {
  std::byte* mine = Scratch::acquire(100);
  std::byte* other = nullptr;
  std::thread([&] { other = Scratch::acquire(100); }).join();
  EXPECT_NE(mine, other);
}

TEST(Scratch, OutlivesAnAllocationThatFails) {
  EXPECT_THROW(Scratch::acquire(kMoreThanThereIs), std::bad_alloc);
  std::byte* memory = Scratch::acquire(4096);
  ASSERT_NE(memory, nullptr);
  std::memset(memory, 0x5A, 4096);
}

struct Number {
  int value = 7;
};
/// Two of a thread's own.
template <int>
Number& kept() {
  thread_local Scratch::Kept<Number> number;
  return number.get();
}

TEST(Scratch, KeepsValuesUntilTheThreadEnds) {
  const std::size_t before = allocated().size();
  std::thread([before] {
    EXPECT_EQ(kept<0>().value, 7);
    kept<0>().value = 1;
    for (const Scratch::Of of : {Scratch::Of::op, Scratch::Of::call}) Scratch::acquire(100, of);
    kept<1>().value = 2;
    EXPECT_EQ(kept<0>().value, 1);
    EXPECT_EQ(kept<1>().value, 2);
    EXPECT_EQ(allocated().size(), before + 4);
  }).join();
  EXPECT_EQ(allocated().size(), before);
}

// Thread-local objects made before a thread's first call are destroyed after its memory.
TEST(Scratch, ServesAThreadThatEnds) {
  static int late_value = 0;
  struct Late {
    bool used = false;
    ~Late() {
      kept<0>().value += 1;
      std::memset(Scratch::acquire(200), 0x5A, 200);
      late_value = kept<0>().value;
    }
  };
  std::thread([] {
    thread_local Late late;
    late.used = true;
    kept<0>().value = 100;
    std::memset(Scratch::acquire(100), 0x5A, 100);
  }).join();
  EXPECT_EQ(late_value, 8) << "a new one";
}

TEST(ScratchPlan, PacksAlignedArrays) {
  ScratchPlan plan;
  EXPECT_EQ(plan.bytes(), 0U);
  EXPECT_EQ(plan.reserve<float>(3), 0U);
  EXPECT_EQ(plan.reserve<double>(0), 64U) << "nothing takes no room";
  EXPECT_EQ(plan.reserve<double>(9), 64U);
  EXPECT_EQ(plan.reserve<char>(64), 192U);
  EXPECT_EQ(plan.bytes(), 256U);
}

// What 32 bits do not count, of one array, of all together, and of so many of them: more than there is, not the little it wraps around to.
TEST(ScratchPlan, CountsMoreThanAnIndexDoes) {
  constexpr Index many = std::numeric_limits<std::int32_t>::max() / 64 * 64;
  ScratchPlan one, together, times;
  one.reserve<double>(many);
  for (int i = 0; i < 9; ++i) together.reserve<double>(many / 16);
  times.reserve<std::byte>(many, 4);
  const auto expect = [](const ScratchPlan& plan, std::uint64_t bytes) {
    EXPECT_EQ(plan.bytes(), std::min<std::uint64_t>(bytes, std::numeric_limits<std::size_t>::max() / 64 * 64));
  };
  expect(one, std::uint64_t(many) * 8);
  expect(together, 9 * ((std::uint64_t(many / 16) * 8 + 63) / 64 * 64));
  expect(times, std::uint64_t(many) * 4);
}

TEST(ScratchPlan, ReservesSoManyTimes) {
  ScratchPlan plan;
  plan.reserve<float>(20, 3);
  EXPECT_EQ(plan.bytes(), 256U);
  plan.reserve<float>(20, 0);
  EXPECT_EQ(plan.bytes(), 256U);
}

template <std::size_t kBytes>
struct Sized {
  std::byte bytes[kBytes];
};

/// Two arrays beside x, wherever in a page x begins: their distances from it within pages, and no byte that is not theirs.
template <class T>
void expect_apart() {
  constexpr Index count = 7;
  for (std::size_t x = 0; x < 4096; x += 60) {
    T *first = nullptr, *second = nullptr;
    ScratchPlan plan;
    const void* const address = reinterpret_cast<const void*>(x);
    plan.place_apart(first, count, address, 1, nullptr);
    EXPECT_EQ(first, nullptr);
    plan.place_apart(second, count, address, 2, nullptr);
    std::byte* const memory = Scratch::acquire(plan.bytes());
    ScratchPlan bound;
    bound.place_apart(first, count, address, 1, memory);
    bound.place_apart(second, count, address, 2, memory);
    const std::byte *one = reinterpret_cast<std::byte*>(first), *two = reinterpret_cast<std::byte*>(second);
    EXPECT_GE(one, memory);
    EXPECT_GE(two, one + sizeof(T) * count);
    EXPECT_LE(two + sizeof(T) * count, memory + plan.bytes());
    for (const std::byte* array : {one, two}) {
      const std::size_t distance = (reinterpret_cast<std::uintptr_t>(array) - x) % 4096;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array) % Scratch::kAlignment, 0U);
      EXPECT_GE(distance, array == one ? 1300U : 2600U);
      EXPECT_LT(distance, array == one ? 1450U : 2800U);
    }
  }
}

TEST(ScratchPlan, KeepsArraysApart) {
  expect_apart<float>();
  expect_apart<Sized<152>>();
  expect_apart<Sized<5000>>();
}

}  // namespace
}  // namespace tensornorm
