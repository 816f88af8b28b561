# SPDX-License-Identifier: MIT
# cmake -DOBJDUMP=<objdump> -DOBJECTS=<file;...> -P check_inlined.cmake
#
# A kernel called from an AVX-512 or AVX2 entry point instead of inlined into it would run at the baseline's instruction
# set, right but slow, without a warning. So those entry points call no function that has lanes or an instruction set in
# its name; what is left to the baseline on purpose has neither.
cmake_minimum_required(VERSION 3.24)

set(entry_points 0)
foreach(object IN LISTS OBJECTS)
  execute_process(
    COMMAND ${OBJDUMP} -dr --no-show-raw-insn ${object}
    COMMAND grep -E "^[0-9a-f]+ <|R_X86_64_(PLT32|GOTPCRELX?|REX_GOTPCRELX)"
    OUTPUT_VARIABLE lines)
  string(REPLACE ";" "," lines "${lines}")
  string(REPLACE "\n" ";" lines "${lines}")
  set(inside FALSE)
  foreach(line IN LISTS lines)
    if(line MATCHES "^[0-9a-f]+ <(.*)>:")
      set(function ${CMAKE_MATCH_1})
      set(inside FALSE)
      if(function MATCHES "run_avx(512|2)I")
        set(inside TRUE)
        math(EXPR entry_points "${entry_points} + 1")
      endif()
    elseif(inside AND line MATCHES "_Z[^ ]*(3IsaI|5LanesI)[^ ]*")
      message(SEND_ERROR "${function}\n  calls ${CMAKE_MATCH_0}")
    endif()
  endforeach()
endforeach()
message(STATUS "${entry_points} entry points")
if(entry_points EQUAL 0)
  message(FATAL_ERROR "no entry point found in ${OBJECTS}")
endif()
