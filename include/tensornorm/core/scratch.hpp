// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <tensornorm/core/abi.hpp>
#include <tensornorm/core/scalar.hpp>
#include <type_traits>
#include <utility>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// Memory of the calling thread, given back when it ends; what a thread-local object's destructor takes after that, never.
///
/// Nothing in it leads into code: the library whose call took it may have been closed by then.
///
/// Errors: std::bad_alloc passes through; callers ask before they write anything.
class Scratch {
 public:
  static constexpr std::size_t kAlignment = 64;

  /// Whose working memory: an op's, or that of a call made of several ops, or of one whose rows are transposed, which theirs would overwrite.
  enum class Of { op, call, transposed };

  /// Working memory, grown when a call needs more than any before it: `bytes` bytes, aligned to 64, valid until the next such one on
  /// this thread.
  static std::byte* acquire(std::size_t bytes, Of of = Of::op) {
    Working& memory = mine().working[int(of)];
    if (bytes > memory.size) {
      give_back_at_end();
      memory.release();
      memory.data = allocate(bytes);
      memory.size = bytes;
    }
    return memory.data;
  }

  /// A T of the calling thread, made when it is first asked for. For thread_local variables: a pointer, because they take of every
  /// thread's stack.
  template <class T>
  class Kept {
   public:
    T& get() {
      static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= kAlignment);
      Memory& memory = mine();
      if (value_ == nullptr || given_back_ != memory.given_back) {
        give_back_at_end();
        std::byte* const block = allocate(kAlignment + sizeof(T));
        memory.kept = ::new (static_cast<void*>(block)) Block{memory.kept};
        value_ = ::new (static_cast<void*>(block + kAlignment)) T();
        given_back_ = memory.given_back;
      }
      return *value_;
    }

   private:
    T* value_ = nullptr;
    bool given_back_ = false;  ///< when it was made
  };

 private:
  /// What lies before each kept value.
  struct Block {
    Block* next;
  };
  struct Working {
    std::byte* data = nullptr;
    std::size_t size = 0;

    void release() {
      free(data);
      data = nullptr;
      size = 0;
    }
  };
  struct Memory {
    Working working[3];       ///< by Of
    Block* kept = nullptr;    ///< the newest
    bool given_back = false;  ///< the thread ends

    void give_back() {
      for (Working& memory : working) memory.release();
      while (kept != nullptr) free(std::exchange(kept, kept->next));
      given_back = true;
    }
  };
  static Memory& mine() {
    static constinit thread_local Memory memory;
    return memory;
  }
  /// Asked for before anything is allocated: the system takes memory for it too, and ends the program where there is none.
  static void give_back_at_end() {
    struct AtEnd {
      ~AtEnd() { mine().give_back(); }
    };
    thread_local AtEnd at_end;
    static_cast<void>(at_end);
  }
  static std::byte* allocate(std::size_t bytes) { return static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kAlignment))); }
  static void free(void* memory) { ::operator delete(memory, std::align_val_t(kAlignment)); }
};

/// Bytes of a page of memory: addresses that many apart are one to what looks for stores a load has to wait for.
inline constexpr std::size_t kPage = 4096;

/// Bytes from `from` to the next address that lies in its page where `wanted` lies in its own.
inline std::size_t bytes_to_place(const void* from, std::uintptr_t wanted) { return (wanted - reinterpret_cast<std::uintptr_t>(from)) % kPage; }

/// Cuts one acquired block into aligned arrays: sizes first, without memory, then the memory in the same order.
class ScratchPlan {
 public:
  /// Reserves `times` times `count` elements of T, one after the other, and returns their offset in bytes.
  template <class T>
  std::size_t reserve(Index count, Index times = 1) {
    constexpr std::uint64_t line = Scratch::kAlignment;
    const std::size_t offset = std::size_t(bytes_);
    bytes_ += (std::uint64_t(static_cast<std::size_t>(count)) * std::uint64_t(times) * sizeof(T) + line - 1) / line * line;
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
    constexpr std::size_t line = Scratch::kAlignment;
    const std::size_t offset = reserve<T>(count);
    reserve<std::byte>(Index(kPage - line));  // to begin at any line of a page
    array = nullptr;
    if (memory == nullptr) return;
    const auto wanted = (reinterpret_cast<std::uintptr_t>(x) + line - 1) / line * line + kPage / 3 / line * line * thirds;
    array = reinterpret_cast<T*>(memory + offset + bytes_to_place(memory + offset, wanted));
  }
  /// Where a size_t cannot count them, more than can be allocated: acquire() throws.
  std::size_t bytes() const {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / Scratch::kAlignment * Scratch::kAlignment;
    return bytes_ > most ? most : std::size_t(bytes_);
  }

 private:
  std::uint64_t bytes_ = 0;
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
