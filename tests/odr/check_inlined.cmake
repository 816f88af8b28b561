# SPDX-License-Identifier: MIT
# cmake -DOBJDUMP=<objdump> -DOBJECTS=<file;...> -DINCLUDE=<include/tensornorm> -P check_inlined.cmake
#
# A kernel called from an AVX-512 or AVX2 entry point instead of inlined into it would run at the baseline's instruction
# set, right but slow, without a warning. So those entry points call no function of the library that has lanes or an
# instruction set in its name, and none but those that its headers mark as called.
cmake_minimum_required(VERSION 3.24)

# Names alone, as they are in symbols: the length, then the name; of a constructor its class's, with template arguments, then C.
set(called "run_avx512I|run_avx2I|run_baselineI")
file(GLOB_RECURSE headers ${INCLUDE}/*.hpp)
foreach(header IN LISTS headers)
  file(STRINGS ${header} lines REGEX "^ *TENSORNORM_(CALLED|RARE) ")
  string(REGEX REPLACE "[][]" "" lines "${lines}")
  foreach(line IN LISTS lines)
    if(line MATCHES "([A-Za-z_]+)\\(")
      set(name ${CMAKE_MATCH_1})
      string(LENGTH ${name} length)
      if(name MATCHES "^[A-Z]")
        string(APPEND name "(I[a-z]+E)?C[12]")
      endif()
      string(APPEND called "|[^0-9]${length}${name}")
    endif()
  endforeach()
endforeach()

set(entry_points 0)
foreach(object IN LISTS OBJECTS)
  execute_process(
    COMMAND ${OBJDUMP} -dr --no-show-raw-insn ${object}
    COMMAND grep -E "^[0-9a-f]+ <|call +|R_X86_64_(PLT32|GOTPCRELX?|REX_GOTPCRELX)"
    OUTPUT_VARIABLE lines)
  string(REPLACE ";" "," lines "${lines}")
  string(REPLACE "\n" ";" lines "${lines}")
  set(inside FALSE)
  foreach(line IN LISTS lines)
    if(line MATCHES "^[0-9a-f]+ <(.*)>:")
      set(function ${CMAKE_MATCH_1})
      set(inside FALSE)
      set(calls FALSE)
      if(function MATCHES "run_avx(512|2)I")
        set(inside TRUE)
        math(EXPR entry_points "${entry_points} + 1")
      endif()
    elseif(inside AND line MATCHES "_Z[^ ]*(3IsaI|5LanesI)[^ ]*")
      message(SEND_ERROR "${function}\n  calls ${CMAKE_MATCH_0}")
    elseif(inside AND line MATCHES "_Z+N?[A-Z]*10tensornorm[^ ]*" AND NOT line MATCHES "${called}")
      # What is read by its address is no call, nor a call relocated by the next line or within the function.
      if(line MATCHES "PLT32" OR (calls AND line MATCHES "GOTPC") OR (line MATCHES "call " AND NOT line MATCHES "[+]0x"))
        message(SEND_ERROR "${function}\n  calls ${line}, which no header marks as called")
      endif()
    endif()
    string(REGEX MATCH "call +[*]0x[0-9a-f]+[(]%rip" calls "${line}")
  endforeach()
endforeach()
message(STATUS "${entry_points} entry points")
if(entry_points EQUAL 0)
  message(FATAL_ERROR "no entry point found in ${OBJECTS}")
endif()
