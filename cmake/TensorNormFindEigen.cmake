# SPDX-License-Identifier: MIT
# Defines Eigen3::Eigen if Eigen 3.4 or 5 is there. Two searches: Eigen 3.4.0's version file refuses a range that ends in
# another major version, Eigen 5's refuses 3.4. A search that fails forgets Eigen3_DIR, hence the copy.
if(NOT TARGET Eigen3::Eigen)
  set(tensornorm_eigen_dir "${Eigen3_DIR}")
  find_package(Eigen3 3.4...5 QUIET CONFIG)
  if(NOT Eigen3_FOUND)
    if(tensornorm_eigen_dir)
      set(Eigen3_DIR "${tensornorm_eigen_dir}" CACHE PATH "The directory of Eigen3Config.cmake" FORCE)
    endif()
    find_package(Eigen3 3.4 QUIET CONFIG)
  endif()
  unset(tensornorm_eigen_dir)
endif()
