// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <tensornorm/core/scalar.hpp>
#include <utility>

namespace tensornorm {

/// Memory of the calling thread, never given back before it ends.
///
/// Errors: std::bad_alloc passes through; callers ask before they write anything.
class Scratch {
 public:
  static constexpr std::size_t kAlignment = 64;

  /// Working memory, grown when a call needs more than any before it: `bytes` bytes, aligned to 64, valid until the next call on this
  /// thread.
  static std::byte* acquire(std::size_t bytes) {
    Memory& memory = mine();
    if (bytes > memory.size) {
      memory.release();
      memory.data = static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kAlignment)));
      memory.size = bytes;
    }
    return memory.data;
  }

  /// What a thread keeps.
  struct Kept {
    Kept() = default;
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    virtual ~Kept() = default;
    std::unique_ptr<Kept> next;
  };
  /// A new T, which derives from Kept, until the thread ends.
  template <class T, class... Arguments>
  static T* keep(Arguments&&... arguments) {
    Memory& memory = mine();  // first: the system takes memory for it too, and ends the program where there is none
    auto kept = std::make_unique<T>(std::forward<Arguments>(arguments)...);
    T* const result = kept.get();
    kept->next = std::move(memory.kept);
    memory.kept = std::move(kept);
    return result;
  }

 private:
  /// All that a thread has, in one object: each of them is registered with the system, which takes memory.
  struct Memory {
    std::byte* data = nullptr;
    std::size_t size = 0;
    std::unique_ptr<Kept> kept;  ///< the newest

    Memory() = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { release(); }
    void release() {
      ::operator delete(data, std::align_val_t(kAlignment));
      data = nullptr;
      size = 0;
    }
  };
  static Memory& mine() {
    thread_local Memory memory;
    return memory;
  }
};

/// Cuts one acquired block into aligned arrays: `plan` sizes first, then `bind` hands out the memory in the same order.
class ScratchPlan {
 public:
  /// Reserves `count` elements of T and returns their offset in bytes.
  template <class T>
  std::size_t reserve(Index count) {
    const std::size_t offset = bytes_;
    const std::size_t size = static_cast<std::size_t>(count) * sizeof(T);
    bytes_ += (size + Scratch::kAlignment - 1) / Scratch::kAlignment * Scratch::kAlignment;
    return offset;
  }
  /// Reserves `count` elements and, where there is memory, points `array` at them.
  template <class T>
  void place(T*& array, Index count, std::byte* memory) {
    const std::size_t offset = reserve<T>(count);
    array = memory != nullptr ? reinterpret_cast<T*>(memory + offset) : nullptr;
  }
  /// The same for an array that is written element by element beside x: it begins about `thirds` thirds of a page after x, counted
  /// within pages.
  ///
  /// A load waits for a store before it to the same place in another page, as if that were its own: rows of 4096 bytes took up to 2.4
  /// times as long, by chance of where the arrays lay.
  template <class T>
  void place_apart(T*& array, Index count, const void* x, std::size_t thirds, std::byte* memory) {
    constexpr std::size_t page = 4096, line = Scratch::kAlignment;
    const std::size_t offset = reserve<T>(count);
    reserve<std::byte>(Index(page - line));  // to begin at any line of a page
    array = nullptr;
    if (memory == nullptr) return;
    const auto wanted = (reinterpret_cast<std::uintptr_t>(x) + line - 1) / line * line + page / 3 / line * line * thirds;
    array = reinterpret_cast<T*>(memory + offset + (wanted - reinterpret_cast<std::uintptr_t>(memory + offset)) % page);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

}  // namespace tensornorm
