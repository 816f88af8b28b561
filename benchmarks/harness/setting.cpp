// SPDX-License-Identifier: MIT
#include "setting.hpp"

#include <Eigen/Core>
#include <fstream>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/version.hpp>

namespace bench {
namespace {

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string instruction_set() {
  using tensornorm::kernels::Level;
  switch (tensornorm::kernels::level()) {
    case Level::avx512:
      return "AVX-512";
    case Level::avx2:
      return "AVX2+FMA";
    case Level::baseline:
      return "the compiler's baseline";
  }
  return {};
}

std::string version(int major, int minor, int patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> setting() {
#if EIGEN_MAJOR_VERSION >= 5  // from 5 on, WORLD stays 3 and the others are the version
  const std::string eigen = version(EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION, EIGEN_PATCH_VERSION);
#else
  const std::string eigen = version(EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
#endif
  return {
      {"processor", processor()},
      {"instruction set", instruction_set()},
      {"compiler", compiler()},
      {"flags", BENCH_FLAGS_TEXT},
      {"eigen", eigen},
      {"tensornorm", version(TENSORNORM_VERSION_MAJOR, TENSORNORM_VERSION_MINOR, TENSORNORM_VERSION_PATCH)},
  };
}

}  // namespace bench
