// SPDX-License-Identifier: MIT
// without_exceptions <call>: built with -fno-exceptions, an error in that call prints its message on stderr and aborts.
#include <tensornorm/tensornorm.hpp>

#include <string_view>

int main(int count, char** words) {
  namespace tn = tensornorm;
  const std::string_view call = count > 1 ? words[1] : "";
  using Real = long double;  // whose kernels are compiled soonest
  using Matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Matrix x = Matrix::Random(4, 3), y(4, 3), wrong(4, 2);
  const tn::LayerNorm<Real> layer(3);
  tn::BatchNorm1d<Real> batch(3);
  tn::SavedStats<Real> saved;
  if (call == "constructor") tn::LayerNorm<Real> none(0);
  if (call == "infer") layer.infer(x, wrong);
  if (call == "forward") batch.forward(wrong, wrong);
  if (call == "backward") layer.backward(y, x, saved, y, tn::none);
  if (call == "load") batch.running_stats().load(Eigen::VectorX<Real>(2), Eigen::VectorX<Real>(2), 1);
  return 0;
}
