# SPDX-License-Identifier: MIT
# cmake -DPROGRAM=<executable> -DGNUPLOT=<executable> -P results.cmake, in the directory for the results
#
# Runs a training example at its default size: its table and the commit in <name>.txt, its curves in <name>.csv, their
# picture in <name>.svg.
cmake_minimum_required(VERSION 3.24)

if(NOT GNUPLOT)
  message(FATAL_ERROR "The pictures need gnuplot (Debian and Ubuntu: gnuplot-nox)")
endif()
cmake_path(GET PROGRAM STEM name)

# git describe --dirty, but for the results that another example has just written.
execute_process(COMMAND git rev-parse --short HEAD
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE no_commit)
execute_process(COMMAND git diff --quiet HEAD -- :/ ":(exclude)."
  RESULT_VARIABLE changed ERROR_QUIET)
if(no_commit)
  set(commit unknown)
elseif(changed)
  string(APPEND commit -dirty)
endif()

execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE table ECHO_OUTPUT_VARIABLE COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${name}.txt "${table}\ncommit ${commit}\n")
execute_process(COMMAND ${GNUPLOT} -c ${CMAKE_CURRENT_LIST_DIR}/${name}.gp ${name}.csv ${name}.svg
  COMMAND_ERROR_IS_FATAL ANY)
