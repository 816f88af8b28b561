// SPDX-License-Identifier: MIT
// A thread with little stack.
#pragma once

#include "pages.hpp"

#if defined(TENSORNORM_TEST_HAS_PAGES)
#include <gtest/gtest.h>
#include <pthread.h>

namespace support {

/// f() on a thread with a stack of 64 KiB.
template <class F>
void on_small_stack(F f) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 64 * 1024), 0);
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
