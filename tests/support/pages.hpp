// SPDX-License-Identifier: MIT
// Memory between pages that may not be touched, and memory that may not be written.
#pragma once

#if defined(__unix__) || defined(__APPLE__)
#define TENSORNORM_TEST_HAS_PAGES 1
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <vector>

namespace support {

enum class Edge { start, end };

/// n elements that end right before a page without access, or start right after one.
template <class T>
class Pages {
 public:
  Pages(std::size_t n, Edge edge) : n_(n) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t room = (n * sizeof(T) + page - 1) / page * page;
    size_ = room + 2 * page;
    void* memory = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    memory_ = static_cast<std::byte*>(memory);
    inner_ = memory_ + page;
    inner_size_ = room;
    if (room > 0 && mprotect(inner_, room, PROT_READ | PROT_WRITE) != 0) std::abort();
    data_ = reinterpret_cast<T*>(edge == Edge::start ? inner_ : inner_ + room - n * sizeof(T));
  }
  Pages(const std::vector<T>& values, Edge edge) : Pages(values.size(), edge) {
    std::copy(values.begin(), values.end(), data_);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { munmap(memory_, size_); }

  T* data() const { return data_; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + n_); }
  /// From now on a write is a fault.
  void forbid_writing() { mprotect(inner_, inner_size_, PROT_READ); }

 private:
  std::size_t n_, size_ = 0, inner_size_ = 0;
  std::byte *memory_ = nullptr, *inner_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace support
#endif
