# SPDX-License-Identifier: MIT
# cmake "-DWITH=<object;...>" "-DWITHOUT=<object;...>" "-DROWS=<object;...>" "-DONE_BY_ONE=<object;...>" -P check_kernels_once.cmake:
# kernels, and what chooses among them, are in the units that define them and in no unit that only declares them; in those whose layers have
# rows alone, none for columns or given statistics; in those of numbers that no vector holds, none beside the baseline's.
cmake_minimum_required(VERSION 3.24)

function(find_kernels object levels names found)
  set(${found} FALSE PARENT_SCOPE)
  file(STRINGS ${object} symbols REGEX "run_(${levels}).*${names}")
  if(symbols)
    set(${found} TRUE PARENT_SCOPE)
  endif()
endfunction()

function(refuse_kernels levels names what)
  foreach(object IN LISTS ARGN)
    find_kernels(${object} "${levels}" ${names} found)
    if(found)
      message(SEND_ERROR "${what} in ${object}")
    endif()
  endforeach()
endfunction()

set(all "baseline|avx2|avx512")
foreach(object IN LISTS WITH ROWS ONE_BY_ONE)
  find_kernels(${object} "${all}" "(Forward|Backward)" found)
  if(NOT found)
    message(SEND_ERROR "no kernel in ${object}")
  endif()
endforeach()
refuse_kernels("${all}" "(Forward|Backward|Interleaved)" "kernels" ${WITHOUT})
foreach(object IN LISTS WITHOUT)
  file(STRINGS ${object} symbols REGEX "choose_walk")
  if(symbols)
    message(SEND_ERROR "what chooses a walk in ${object}")
  endif()
endforeach()
refuse_kernels("${all}" "(Column|Frozen)" "kernels that its layers do not need" ${ROWS})
refuse_kernels("avx2|avx512" "(Forward|Backward)" "kernels of vectors" ${ONE_BY_ONE})
