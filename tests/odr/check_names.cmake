# SPDX-License-Identifier: MIT
# cmake "-DCOMPILER=<command;...>" -DSOURCE=<file> "-DFLAGS=<flag;...>" -P check_names.cmake: with each flag, and with none, units have
# symbols of another name.
cmake_minimum_required(VERSION 3.24)

foreach(flag IN ITEMS -DNDEBUG LISTS FLAGS)
  execute_process(COMMAND ${COMPILER} ${flag} -E -P ${SOURCE} OUTPUT_VARIABLE name COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE ".*units of these flags: |[\n ]" "" name "${name}")
  message(STATUS "${flag}: ${name}")
  if(name STREQUAL "" OR name IN_LIST names)
    message(SEND_ERROR "${flag}: no name of its own: '${name}'")
  endif()
  list(APPEND names "${name}")
endforeach()
