// SPDX-License-Identifier: MIT
#include "subject_list.hpp"

namespace support {

template SubjectList<Kind<Eigen::half, Eigen::RowMajor>> all_subjects<Kind<Eigen::half, Eigen::RowMajor>>(Index, Index);
template SubjectList<Kind<Eigen::half, Eigen::ColMajor>> all_subjects<Kind<Eigen::half, Eigen::ColMajor>>(Index, Index);
template SubjectList<Kind<Eigen::bfloat16, Eigen::RowMajor>> all_subjects<Kind<Eigen::bfloat16, Eigen::RowMajor>>(Index, Index);
template SubjectList<Kind<Eigen::bfloat16, Eigen::ColMajor>> all_subjects<Kind<Eigen::bfloat16, Eigen::ColMajor>>(Index, Index);
template SubjectList<Kind<Eigen::half, Eigen::RowMajor, float>> all_subjects<Kind<Eigen::half, Eigen::RowMajor, float>>(Index, Index);
template SubjectList<Kind<Eigen::bfloat16, Eigen::ColMajor, float>> all_subjects<Kind<Eigen::bfloat16, Eigen::ColMajor, float>>(Index, Index);

}  // namespace support
