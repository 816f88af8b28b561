// SPDX-License-Identifier: MIT
// plugin_host <plugin>: calls layers of its own and of the plugin, in another thread and in main(), and closes the plugin before they end.
#include <dlfcn.h>

#include <cstdio>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <thread>

#include "plugin.hpp"

namespace {

bool fail(const std::string& why) {
  std::fprintf(stderr, "plugin_host: %s\n", why.c_str());
  return false;
}

bool call_and_close(const char* path) {
  Eigen::Tensor<float, 2, Eigen::RowMajor> x(3, 4), y(3, 4);
  x.setConstant(1);
  tensornorm::LayerNorm<float>(4).forward(x, y);
  void* const plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) return fail(dlerror());
  const auto call = reinterpret_cast<decltype(&normalized_one)>(dlsym(plugin, "normalized_one"));
  if (call == nullptr || call() != 1) return fail("the plugin's layer did not give 1");
  if (dlclose(plugin) != 0) return fail(dlerror());
  if (dlopen(path, RTLD_NOW | RTLD_NOLOAD) != nullptr) return fail("the plugin is still there");
  return true;
}

}  // namespace

int main(int, char** arguments) {
  bool passed = false;
  std::thread([&] { passed = call_and_close(arguments[1]); }).join();
  return passed && call_and_close(arguments[1]) ? 0 : 1;
}
