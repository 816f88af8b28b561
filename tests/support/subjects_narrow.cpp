// SPDX-License-Identifier: MIT
#include "subject_list.hpp"

namespace support {

template SubjectList<Kind<Eigen::half, Eigen::RowMajor>> all_subjects<Kind<Eigen::half, Eigen::RowMajor>>(Index, Index);
template SubjectList<Kind<Eigen::bfloat16, Eigen::ColMajor>> all_subjects<Kind<Eigen::bfloat16, Eigen::ColMajor>>(Index, Index);
template SubjectList<Kind<Eigen::half, Eigen::ColMajor, float>> all_subjects<Kind<Eigen::half, Eigen::ColMajor, float>>(Index, Index);
template SubjectList<Kind<Eigen::bfloat16, Eigen::RowMajor, float>> all_subjects<Kind<Eigen::bfloat16, Eigen::RowMajor, float>>(Index, Index);

}  // namespace support
