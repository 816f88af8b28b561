// SPDX-License-Identifier: MIT
// A thread with little stack.
#pragma once

#include "pages.hpp"

#if defined(TENSORNORM_TEST_HAS_PAGES)
#include <gtest/gtest.h>
#include <limits.h>
#include <pthread.h>

#include <algorithm>
#include <cstddef>

namespace support {

/// f() on a thread with a stack of 64 KiB, or of the least this machine gives a thread (128 KiB on aarch64).
template <class F>
void on_small_stack(F f) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  const auto least = static_cast<std::size_t>(PTHREAD_STACK_MIN);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, std::max<std::size_t>(64 * 1024, least)), 0);
  pthread_t thread;
  const auto run = [](void* work) -> void* {
    (*static_cast<F*>(work))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, &f), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

}  // namespace support
#endif
