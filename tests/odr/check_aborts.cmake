# SPDX-License-Identifier: MIT
# cmake "-DEXECUTABLE=<path;argument...>" -DEXPECT=<regex> -P check_aborts.cmake: it must abort with that on stderr. (CTest itself fails
# whatever aborts.)
cmake_minimum_required(VERSION 3.24)

execute_process(COMMAND ${EXECUTABLE} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE error)
message(STATUS "${status}\n${output}${error}")
if(NOT status MATCHES "abort" OR NOT error MATCHES "${EXPECT}")
  message(FATAL_ERROR "expected an abort with '${EXPECT}' on stderr")
endif()
