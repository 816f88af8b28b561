# SPDX-License-Identifier: MIT
# Warnings and sanitizers for this project's own tests, examples and benchmarks: nothing here reaches a user's target.
option(TENSORNORM_WERROR "Make a warning in tensornorm's own targets an error" OFF)
set(TENSORNORM_SANITIZE "" CACHE STRING "Sanitizers for tensornorm's own targets, as -fsanitize takes them")
set(TENSORNORM_NO_SANITIZE "null,object-size" CACHE STRING "Checks among those to leave out, as -fno-sanitize takes them")

# tensornorm_own_target(<target>): link the library to an executable of this project, with its warnings and sanitizers.
function(tensornorm_own_target target)
  target_link_libraries(${target} PRIVATE TensorNorm::TensorNorm)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 /permissive- $<$<BOOL:${TENSORNORM_WERROR}>:/WX>)
    return()
  endif()
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${TENSORNORM_WERROR}>:-Werror>)
  if(TENSORNORM_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=${TENSORNORM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${target} PRIVATE -fsanitize=${TENSORNORM_SANITIZE})
    # AddressSanitizer's checks as calls, and by default without what it finds as well: in the kernels, where everything is inlined,
    # all of it inline takes five times as long to compile.
    if(TENSORNORM_NO_SANITIZE)
      target_compile_options(${target} PRIVATE -fno-sanitize=${TENSORNORM_NO_SANITIZE})
    endif()
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # GCC's manual: with sanitizers on, this warning gives false positives.
      target_compile_options(${target} PRIVATE
        --param=asan-instrumentation-with-call-threshold=0 -Wno-maybe-uninitialized)
    else()
      target_compile_options(${target} PRIVATE "SHELL:-mllvm -asan-instrumentation-with-call-threshold=0")
    endif()
  endif()
endfunction()
