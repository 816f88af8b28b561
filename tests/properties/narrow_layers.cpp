// SPDX-License-Identifier: MIT
#include "layer_list.hpp"

namespace properties {

using Eigen::bfloat16;
using Eigen::half;
using support::Kind;

template std::unique_ptr<RandomLayer<half, half>> random_layer<Kind<half, Eigen::ColMajor>>(Random&, Index);
template std::unique_ptr<RandomLayer<half, float>> random_layer<Kind<half, Eigen::RowMajor, float>>(Random&, Index);
template std::unique_ptr<RandomLayer<bfloat16, bfloat16>> random_layer<Kind<bfloat16, Eigen::RowMajor>>(Random&, Index);
template std::unique_ptr<RandomLayer<bfloat16, float>> random_layer<Kind<bfloat16, Eigen::ColMajor, float>>(Random&, Index);

}  // namespace properties
