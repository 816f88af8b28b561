// SPDX-License-Identifier: MIT
#include "subject_list.hpp"

namespace support {

template SubjectList<Kind<float, Eigen::RowMajor>> all_subjects<Kind<float, Eigen::RowMajor>>(Index, Index);
template SubjectList<Kind<float, Eigen::ColMajor>> all_subjects<Kind<float, Eigen::ColMajor>>(Index, Index);
template SubjectList<Kind<double, Eigen::RowMajor>> all_subjects<Kind<double, Eigen::RowMajor>>(Index, Index);
template SubjectList<Kind<double, Eigen::ColMajor>> all_subjects<Kind<double, Eigen::ColMajor>>(Index, Index);

}  // namespace support
