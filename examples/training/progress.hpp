// SPDX-License-Identifier: MIT
// A progress bar for a terminal.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

namespace examples {

/// Draws on stderr, and nothing at all where stderr is not a terminal. May be advanced from several threads.
class Progress {
 public:
  Progress(std::string title, long long steps) : title_(std::move(title)), steps_(steps) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() {
    if (terminal_) std::fprintf(stderr, "\r\033[K");
  }

  void advance() {
    const std::lock_guard lock(mutex_);
    ++done_;
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || (now - drawn_ < std::chrono::milliseconds(100) && done_ < steps_)) return;
    drawn_ = now;
    constexpr long long width = 40;
    const auto full = static_cast<std::size_t>(width * done_ / steps_);
    const double seconds = std::chrono::duration<double>(now - started_).count();
    const double left = seconds * static_cast<double>(steps_ - done_) / static_cast<double>(done_);
    std::fprintf(stderr, "\r%s [%s%s] %3lld %%  %.0f s left \033[K", title_.c_str(), std::string(full, '#').c_str(),
                 std::string(width - full, '.').c_str(), 100 * done_ / steps_, left);
  }

 private:
  std::string title_;
  long long steps_;
  long long done_ = 0;
  bool terminal_ = isatty(STDERR_FILENO) == 1;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now(), drawn_ = {};
};

}  // namespace examples
