# SPDX-License-Identifier: MIT
# cmake "-DEXECUTABLES=<path;...>" -P check_odr.cmake: each must pass, and all must come to the same bits: a unit must not
# get the code of one with other flags that it was linked with. At the baseline no bits are promised.
cmake_minimum_required(VERSION 3.24)

set(bits)
foreach(executable IN LISTS EXECUTABLES)
  execute_process(COMMAND ${executable} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message(STATUS "${executable}\n${output}")
  if(NOT status EQUAL 0)
    message(SEND_ERROR "${executable} failed: ${status}")
  endif()
  if(output MATCHES "(bits [0-9a-f]+|no bits are promised)")
    list(APPEND bits ${CMAKE_MATCH_1})
  endif()
endforeach()
list(REMOVE_DUPLICATES bits)
list(LENGTH bits count)
if(NOT count EQUAL 1)
  message(SEND_ERROR "the same computation came to different bits, or none: ${bits}")
endif()
