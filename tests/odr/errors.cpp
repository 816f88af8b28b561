// SPDX-License-Identifier: MIT
// Compiled with exceptions and without, the latter linked first: a mistake of the former's is still an exception. The checks of a call
// alone, without the kernels.
#include <tensornorm/tensornorm.hpp>

namespace tn = tensornorm;
using Rows = Eigen::Tensor<float, 2, Eigen::RowMajor>;

namespace {

void check_y(const Rows& x, Rows& y) {
  tn::check_same_shape({"errors", "check_y"}, "y", tn::view_of(x), tn::view_of(y));
}
void check_x(const Rows&, Rows& y) { tn::LayerNorm<float>(4).check_shape({"errors", "check_x"}, tn::view_of(y)); }
void check_weight(const Rows&, Rows&) {
  tn::LayerNorm<float> layer(4);
  layer.weight().resize(3);
  layer.context("check_weight");
}

}  // namespace

#if !defined(__cpp_exceptions)
void checks_without_exceptions(const Rows& x, Rows& y);
void checks_without_exceptions(const Rows& x, Rows& y) {
  check_y(x, y);
  check_x(x, y);
  check_weight(x, y);
}
#else
int main() {
  const Rows x(2, 4);
  Rows wider(2, 5);
  int caught = 0;
  for (const auto check : {check_y, check_x, check_weight}) {
    try {
      check(x, wider);
    } catch (const std::invalid_argument&) {
      ++caught;
    }
  }
  return caught == 3 ? 0 : 1;
}
#endif
