# SPDX-License-Identifier: MIT
# cmake "-DLISTED=<a_test.cpp;...>" -P check_listed.cmake: fails if a *_test.cpp of this folder is not in the list.
cmake_minimum_required(VERSION 3.24)

file(GLOB_RECURSE sources RELATIVE ${CMAKE_CURRENT_LIST_DIR} ${CMAKE_CURRENT_LIST_DIR}/*_test.cpp)
foreach(source IN LISTS sources)
  if(NOT source IN_LIST LISTED)
    message(SEND_ERROR "tests/${source} has no line in tests/CMakeLists.txt")
  endif()
endforeach()
