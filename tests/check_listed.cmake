# SPDX-License-Identifier: MIT
# cmake "-DLISTED=<source;...>" -P check_listed.cmake: fails if a test source of this folder is not in the list.
cmake_minimum_required(VERSION 3.24)

file(GLOB_RECURSE sources RELATIVE ${CMAKE_CURRENT_LIST_DIR}
  ${CMAKE_CURRENT_LIST_DIR}/*_test.cpp ${CMAKE_CURRENT_LIST_DIR}/compile_fail/*.cpp)
foreach(source IN LISTS sources)
  if(NOT source IN_LIST LISTED)
    message(SEND_ERROR "tests/${source} has no line in its CMakeLists.txt")
  endif()
endforeach()
