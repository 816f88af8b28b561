// SPDX-License-Identifier: MIT
/// What a contender is given, and what it gives back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "cases.hpp"

namespace bench {

/// Memory that begins so many bytes, a multiple of 16, past a cache line's boundary, a whole number of lines long, with every page
/// touched. Copies share it.
class Buffer {
 public:
  static constexpr std::size_t kLine = 64;

  Buffer() = default;
  explicit Buffer(std::size_t bytes, std::size_t offset = 0) : bytes_((bytes + kLine - 1) / kLine * kLine) {
    const std::size_t all = bytes_ + (offset + kLine - 1) / kLine * kLine + kLine;  // vectors may reach past the end
    const std::shared_ptr<std::byte[]> memory(static_cast<std::byte*>(std::aligned_alloc(kLine, all)), std::free);
    if (!memory) throw std::bad_alloc();
    std::fill_n(memory.get(), all, std::byte{0});
    memory_ = {memory, memory.get() + offset};
  }
  std::byte* data() const { return memory_.get(); }
  std::size_t bytes() const { return bytes_; }
  template <class Scalar>
  Scalar* as() const {
    return reinterpret_cast<Scalar*>(memory_.get());
  }

 private:
  std::size_t bytes_ = 0;
  std::shared_ptr<std::byte[]> memory_;
};

/// One case's tensors, the same memory for every contender. A contender keeps everything else (saved statistics,
/// parameter gradients) itself.
struct Tensors {
  /// x, dy and the result begin so many bytes past a cache line's boundary.
  explicit Tensors(const Case& c, std::size_t offset = 0);

  Buffer x, dy;
  Buffer result;  ///< y, or dx where the job is backward
  Buffer weight, bias;
  Buffer running_mean, running_variance;  ///< batch_norm only
};

/// Number of elements of weight and bias.
inline long parameters_of(const Case& c) { return c.shape[1]; }
inline constexpr double kEps = 1e-5;

/// Does a case's job so many times in a row. The loop stands inside, or a call through std::function would be a tenth
/// of the smallest case.
using Call = std::function<void(long times)>;

template <class Body>
Call repeated(Body body) {
  return [body = std::move(body)](long times) mutable {
    for (; times > 0; --times) {
      body();
      asm volatile("" ::: "memory");  // what was written counts as read
    }
  };
}

struct Contender {
  std::string name;
  Call call;
  bool normalizes = true;  ///< false: only moves as much memory
  bool rough = false;      ///< so far behind that a few samples place it, where a call takes long
  bool cold = false;       ///< one call a round and none before it: finds in the caches what its neighbours left there
  double overhead = 0;     ///< nanoseconds to take off each call: what calling from another language costs
  std::string note = {};   ///< what it says about the code that it runs
  /// Copies the result to Tensors::result, for a contender that allocates its own; for the agreement check only.
  std::function<void()> deliver = {};
};

/// Every contender that can do the case's job, memcpy first. `with_eigen_expression` adds the one that can be hundreds
/// of times slower than memory.
std::vector<Contender> contenders(const Case& c, const Tensors& tensors, bool with_eigen_expression);

/// Fast and wrong is easy: whether a contender's result is the hand loop's.
bool agrees(const Case& c, const Tensors& tensors, const Contender& contender);

}  // namespace bench
