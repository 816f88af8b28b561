// SPDX-License-Identifier: MIT
// A library with a layer of its own, closed before the thread ends that called it.
#include <tensornorm/tensornorm.hpp>

#include "plugin.hpp"

extern "C" double normalized_one() {
  Eigen::Tensor<double, 2, Eigen::RowMajor> row(1, 2), column(2, 1), of_row(1, 2), of_column(2, 1);
  row.setValues({{-1, 1}});
  column.setValues({{-1}, {1}});
  tensornorm::LayerNorm<double>(2, {.eps = 0}).forward(row, of_row);
  tensornorm::BatchNorm1d<double>(1, {.eps = 0}).forward(column, of_column);
  return of_row(0, 1) == of_column(1, 0) ? of_row(0, 1) : 0;
}
