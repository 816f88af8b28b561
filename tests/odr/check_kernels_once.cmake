# SPDX-License-Identifier: MIT
# cmake "-DWITH=<object;...>" "-DWITHOUT=<object;...>" -P check_kernels_once.cmake: kernels are in the units that define
# them and in no unit that only declares them.
cmake_minimum_required(VERSION 3.24)

function(find_kernels object found)
  set(${found} FALSE PARENT_SCOPE)
  file(STRINGS ${object} symbols REGEX "run_baseline.*(Forward|Backward)")
  if(symbols)
    set(${found} TRUE PARENT_SCOPE)
  endif()
endfunction()

foreach(object IN LISTS WITH)
  find_kernels(${object} found)
  if(NOT found)
    message(SEND_ERROR "no kernel in ${object}")
  endif()
endforeach()
foreach(object IN LISTS WITHOUT)
  find_kernels(${object} found)
  if(found)
    message(SEND_ERROR "kernels in ${object}")
  endif()
endforeach()
