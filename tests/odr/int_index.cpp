// SPDX-License-Identifier: MIT
// A program whose Eigen counts by int: layers work, and sizes that an int cannot hold are refused instead of cut off.
#define EIGEN_DEFAULT_DENSE_INDEX_TYPE int
#include <cstdio>
#include <tensornorm/tensornorm.hpp>
#include <vector>

namespace {

namespace tn = tensornorm;

template <class Build>
bool too_long(const char* what, Build build) {
  try {
    build();
  } catch (const std::length_error&) {
    return true;
  }
  std::printf("%s: expected std::length_error\n", what);
  return false;
}

bool normalizes() {
  tn::LayerNorm<float> layer(4);
  Eigen::Tensor<float, 2, Eigen::RowMajor> x(2, 4), y(2, 4);
  x.setValues({{1, 1, 3, 3}, {0, 8, 8, 0}});
  layer.forward(x, y);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j) {
      const float expected = x(i, j) > (i == 0 ? 2.0f : 4.0f) ? 1.0f : -1.0f;
      if (std::abs(y(i, j) - expected) > 1e-5f) return false;
    }
  return true;
}

}  // namespace

int main() {
  constexpr tn::Index beyond = (tn::Index{1} << 32) + 3;
  bool passed = too_long("BatchNorm2d", [] { tn::BatchNorm2d<float> layer(beyond); });
  passed &= too_long("RunningStats", [] { tn::RunningStats<float> stats(beyond); });
  passed &= too_long("GroupNorm", [] { tn::GroupNorm<float> layer(1, beyond); });
  passed &= too_long("LayerNorm", [] { tn::LayerNorm<float, 2> layer({tn::Index{1} << 16, tn::Index{1} << 16}); });
  // A map of so many elements can be made; no more than a page of it is ever there to be touched.
  std::vector<float> page(1024);
  const Eigen::TensorMap<const Eigen::Tensor<float, 2, Eigen::RowMajor>> map(page.data(), 1 << 16, 1 << 16);
  passed &= too_long("LayerNorm into a new tensor", [&] { tn::LayerNorm<float>(1 << 16)(map); });
  passed &= too_long("BatchNorm1d into a new tensor", [&] { tn::BatchNorm1d<float>(1 << 16).infer(map); });
  const Eigen::TensorMap<const Eigen::Tensor<float, 3, Eigen::RowMajor>> ones(page.data(), 1 << 16, 1 << 16, 1);
  passed &= too_long("moments", [&] { tn::moments(ones, tn::over<2>); });
  if (!normalizes()) {
    std::puts("LayerNorm: other results than by hand");
    passed = false;
  }
  return passed ? 0 : 1;
}
