# SPDX-License-Identifier: MIT
# cmake "-DCOMPILER=<command;...>" -DID=<CMAKE_CXX_COMPILER_ID> -DSOURCE=<file> -P check_compile_fail.cmake
cmake_minimum_required(VERSION 3.24)

file(STRINGS ${SOURCE} expect REGEX "^// expect: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// expect: " "" expect "${expect}")
if(NOT expect)
  message(FATAL_ERROR "${SOURCE} has no '// expect: <regex>' line")
endif()

execute_process(COMMAND ${COMPILER} -DMISTAKE ${SOURCE}
  RESULT_VARIABLE status ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "the mistake compiles")
endif()
string(REGEX MATCH "[^\n]*error:[^\n]*" first_error "${output}")
if(NOT first_error MATCHES "${expect}")
  message(FATAL_ERROR "the first error is another one, expected '${expect}', got:\n${first_error}\n\n${output}")
endif()
# What follows from a mistake hides what it was. clang goes on where a class is no good.
string(REGEX MATCHALL "error:" errors "${output}")
list(LENGTH errors count)
if(ID STREQUAL "GNU" AND NOT count EQUAL 1)
  message(FATAL_ERROR "${count} errors, expected one:\n${output}")
endif()
message(STATUS "${first_error}")
