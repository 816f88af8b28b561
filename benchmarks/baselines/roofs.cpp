// SPDX-License-Identifier: MIT
// Compiled with -O3 -march=native. Integers, so that no bit pattern is a slow denormal, whatever the element type.
#include "roofs.hpp"

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace bench {
namespace {

constexpr std::size_t kLine = 64, kPart = 16;

#if defined(__AVX512F__)
constexpr std::size_t kWidth = 64;
#elif defined(__AVX__)
constexpr std::size_t kWidth = 32;
#else
constexpr std::size_t kWidth = 16;
#endif
using Lanes [[gnu::vector_size(kWidth), gnu::may_alias, gnu::aligned(1)]] = std::uint64_t;

Lanes load(const std::byte* from) { return *reinterpret_cast<const Lanes*>(from); }

struct Ordinary {
  static void store(std::byte* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }
  static void finish() {}
};

struct Streaming {
  static void store(std::byte* to, Lanes value) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(value));
#elif defined(__AVX__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(value));
#elif defined(__SSE2__)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(value));
#else
    Ordinary::store(to, value);
#endif
  }
  static void finish() {
#if defined(__SSE2__)
    _mm_sfence();  // streamed data is visible to others only after this: part of the cost
#endif
  }
};

template <class Store, class Value>
void sweep(std::byte* to, std::size_t bytes, Value value) {
  const std::size_t first = (0 - reinterpret_cast<std::uintptr_t>(to)) % kLine, last = bytes - (kLine - first) % kLine;
  for (std::size_t line = first; line < last; line += kLine) {
    for (std::size_t i = line; i < line + kLine; i += kWidth) Store::store(to + i, value(i));
  }
  const auto part = [&](std::size_t i, std::size_t end) {
    for (; i < end; i += kPart) {
      const Lanes lanes = value(i);
      std::memcpy(to + i, &lanes, kPart);
    }
  };
  part(0, first);
  part(last, bytes);
  Store::finish();
}

template <class Store>
void add(std::byte* to, const std::byte* a, const std::byte* b, std::size_t bytes) {
  sweep<Store>(to, bytes, [=](std::size_t i) { return load(a + i) + load(b + i); });
}

}  // namespace

void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  sweep<Streaming>(to, bytes, [=](std::size_t i) { return load(from + i); });
}

void triad(std::byte* to, const std::byte* a, const std::byte* b, std::size_t bytes) { add<Ordinary>(to, a, b, bytes); }

void streaming_triad(std::byte* to, const std::byte* a, const std::byte* b, std::size_t bytes) {
  add<Streaming>(to, a, b, bytes);
}

std::uint64_t read_all(const std::byte* from, std::size_t bytes) {
  Lanes sum = {};
  for (std::size_t i = 0; i < bytes; i += kWidth) sum += load(from + i);  // one addition a cycle: not the bottleneck
  std::uint64_t total = 0;
  for (std::size_t lane = 0; lane < kWidth / sizeof(std::uint64_t); ++lane) total += sum[lane];
  return total;
}

}  // namespace bench
