# SPDX-License-Identifier: MIT
# cmake "-DWITH=<object;...>" "-DWITHOUT=<object;...>" "-DROWS=<object;...>" -P check_kernels_once.cmake: kernels are in the units
# that define them and in no unit that only declares them; in those whose layers have rows alone, none for columns or given statistics.
cmake_minimum_required(VERSION 3.24)

function(find_kernels object names found)
  set(${found} FALSE PARENT_SCOPE)
  file(STRINGS ${object} symbols REGEX "run_(baseline|avx2|avx512).*${names}")
  if(symbols)
    set(${found} TRUE PARENT_SCOPE)
  endif()
endfunction()

function(refuse_kernels names what)
  foreach(object IN LISTS ARGN)
    find_kernels(${object} ${names} found)
    if(found)
      message(SEND_ERROR "${what} in ${object}")
    endif()
  endforeach()
endfunction()

foreach(object IN LISTS WITH ROWS)
  find_kernels(${object} "(Forward|Backward)" found)
  if(NOT found)
    message(SEND_ERROR "no kernel in ${object}")
  endif()
endforeach()
refuse_kernels("(Forward|Backward)" "kernels" ${WITHOUT})
refuse_kernels("(Column|Frozen)" "kernels that its layers do not need" ${ROWS})
