# SPDX-License-Identifier: MIT
# Defines Eigen3::Eigen by the first Eigen that CMake finds, unless there is such a target; TensorNorm_EIGEN_ERROR: what is needed, and
# what is there instead. No version is asked for: Eigen 3.4.0's version file refuses a range that ends in another major version, Eigen 5's
# refuses 3.4, and a search that is refused the Eigen which the user named goes on to another.
get_property(TensorNorm_EIGEN_ERROR GLOBAL PROPERTY TENSORNORM_EIGEN_ERROR)  # its target cannot be made anew
if(TensorNorm_EIGEN_ERROR)
  return()
endif()
set(tensornorm_eigen_named "${Eigen3_DIR}")
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 QUIET CONFIG)
endif()
if(NOT TARGET Eigen3::Eigen)
  set(TensorNorm_EIGEN_ERROR "Eigen 3.4 or 5 (Debian and Ubuntu: libeigen3-dev), and CMake found none")
elseif(Eigen3_DIR AND Eigen3_VERSION AND (Eigen3_VERSION VERSION_LESS 3.4 OR Eigen3_VERSION VERSION_GREATER_EQUAL 6))
  set(TensorNorm_EIGEN_ERROR "Eigen 3.4 or 5, and CMake found ${Eigen3_VERSION} in ${Eigen3_DIR}")
  set_property(GLOBAL PROPERTY TENSORNORM_EIGEN_ERROR "${TensorNorm_EIGEN_ERROR}")
  if(NOT tensornorm_eigen_named)
    unset(Eigen3_DIR CACHE)  # searched for again in the next run
  endif()
endif()
unset(tensornorm_eigen_named)
