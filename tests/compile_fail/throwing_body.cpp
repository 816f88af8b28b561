// SPDX-License-Identifier: MIT
// expect: tensornorm: what runs on a pool must not throw
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  const auto body = [](Eigen::Index, Eigen::Index, Eigen::Index) {};
#else
  const auto body = [](Eigen::Index, Eigen::Index, Eigen::Index) noexcept {};
#endif
  tensornorm::parallel_for(Eigen::DefaultDevice(), 1, 1, body);
}
