// SPDX-License-Identifier: MIT
// Compiled with exceptions and without, the latter linked first: a mistake of the former's is still an exception.
#include <tensornorm/tensornorm.hpp>

using Rows = Eigen::Tensor<float, 2, Eigen::RowMajor>;

namespace {

void by_function(const Rows& x, Rows& y) { tensornorm::layer_norm(x, y, tensornorm::none, tensornorm::none); }
void by_layer(const Rows& x, Rows& y) { tensornorm::LayerNorm<float>(4).forward(x, y); }

}  // namespace

#if !defined(__cpp_exceptions)
void calls_without_exceptions(const Rows& x, Rows& y);
void calls_without_exceptions(const Rows& x, Rows& y) {
  by_function(x, y);
  by_layer(x, y);
}
#else
int main() {
  Rows x(2, 4), wider(2, 5);
  x.setZero();
  wider.setZero();
  int caught = 0;
  for (const auto call : {by_function, by_layer}) {
    try {
      call(x, wider);
    } catch (const std::invalid_argument&) {
      ++caught;
    }
    try {
      call(wider, x);
    } catch (const std::invalid_argument&) {
      ++caught;
    }
  }
  return caught == 4 ? 0 : 1;
}
#endif
