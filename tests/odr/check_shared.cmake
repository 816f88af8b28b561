# SPDX-License-Identifier: MIT
# cmake -DOBJDUMP=<objdump> -DOBJECT=<file> -DLISTING=<file to write> -P check_shared.cmake
#
# The linker gives all units of a program one unit's copy of a function, unless its name says what it is compiled for. So in a unit
# compiled for wide vectors no function of the library without that in its name uses them; not what layers do outside of a call.
cmake_minimum_required(VERSION 3.24)

execute_process(COMMAND ${OBJDUMP} -d --no-show-raw-insn ${OBJECT} OUTPUT_FILE ${LISTING} COMMAND_ERROR_IS_FATAL ANY)
file(STRINGS ${LISTING} lines REGEX "^[0-9a-f]+ <|:\tv[a-z]")
set(functions 0)
foreach(line IN LISTS lines)
  if(line MATCHES "^[0-9a-f]+ <(.*)>:")
    set(function ${CMAKE_MATCH_1})
    set(shared FALSE)
    if(function MATCHES "^_ZZ?NK?10tensornorm")
      math(EXPR functions "${functions} + 1")
      if(NOT function MATCHES "(ieee|fast|finite|associative)_|^_ZZ?NK?10tensornorm(6Affine|12RunningStats)I|\\.")
        set(shared TRUE)
      endif()
    endif()
  elseif(shared)
    message(SEND_ERROR "instructions of this unit's own in ${function}")
    set(shared FALSE)
  endif()
endforeach()
message(STATUS "${functions} functions")
if(functions LESS 20)
  message(FATAL_ERROR "expected functions of the library in ${OBJECT}")
endif()
