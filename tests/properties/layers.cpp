// SPDX-License-Identifier: MIT
#include "layer_list.hpp"

namespace properties {

using support::Kind;

template std::unique_ptr<RandomLayer<float, float>> random_layer<Kind<float, Eigen::RowMajor>>(Random&, Index);
template std::unique_ptr<RandomLayer<float, float>> random_layer<Kind<float, Eigen::ColMajor>>(Random&, Index);
template std::unique_ptr<RandomLayer<double, double>> random_layer<Kind<double, Eigen::RowMajor>>(Random&, Index);
template std::unique_ptr<RandomLayer<double, double>> random_layer<Kind<double, Eigen::ColMajor>>(Random&, Index);

}  // namespace properties
