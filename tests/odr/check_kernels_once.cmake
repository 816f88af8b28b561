# SPDX-License-Identifier: MIT
# cmake "-DWITH=<object;...>" "-DWITHOUT=<object;...>" "-DROWS=<object;...>" "-DONE_BY_ONE=<object;...>" -P check_kernels_once.cmake:
# kernels, and what chooses among them, are in the units that define them and in no unit that only declares them; in those whose layers have
# rows alone and no running statistics, none for columns, for given statistics or to move running ones; in those of numbers that no vector
# holds, none of vectors.
cmake_minimum_required(VERSION 3.24)

# require_symbols(<regex> <what is missing> <object>...), refuse_symbols(<regex> <what is too much> <object>...)
function(require_symbols regex what)
  foreach(object IN LISTS ARGN)
    file(STRINGS ${object} symbols REGEX "${regex}")
    if(NOT symbols)
      message(SEND_ERROR "${what} in ${object}")
    endif()
  endforeach()
endfunction()

function(refuse_symbols regex what)
  foreach(object IN LISTS ARGN)
    file(STRINGS ${object} symbols REGEX "${regex}")
    if(symbols)
      message(SEND_ERROR "${what} in ${object}")
    endif()
  endforeach()
endfunction()

set(of_vectors "run_(baseline|avx2|avx512)")
set(any "run_(baseline|avx2|avx512|one_by_one)")
require_symbols("${of_vectors}.*(Forward|Backward)" "no kernel" ${WITH} ${ROWS})
require_symbols("run_one_by_one.*(Forward|Backward)" "no kernel" ${ONE_BY_ONE})
require_symbols("choose_walk" "nothing that chooses a walk" ${WITH})
refuse_symbols("${any}.*(Forward|Backward|Interleaved)" "kernels" ${WITHOUT})
refuse_symbols("choose_walk" "what chooses a walk" ${WITHOUT})
refuse_symbols("${any}.*(Column|Frozen|MoveRunning)" "kernels that its layers do not need" ${ROWS})
refuse_symbols("${of_vectors}.*(Forward|Backward)" "kernels of vectors" ${ONE_BY_ONE})
