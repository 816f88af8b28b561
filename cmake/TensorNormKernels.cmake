# SPDX-License-Identifier: MIT
# tensornorm_add_kernels(<target> <type>...): a static library of the kernels for elements of these types: float, double, half,
# bfloat16. A unit that links it and includes <tensornorm/tensornorm.hpp> compiles none of them, but where its flags ask for others:
# each definition says of which type and flags kernels are here, in the words of core/abi.hpp.
function(tensornorm_add_kernels target)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${target})
  tensornorm_abi(abi ${folder})
  set(sources)
  set(definitions TENSORNORM_COMPILED_KERNELS)
  foreach(type IN LISTS ARGN)
    if(type MATCHES "^(float|double)$")
      set(element ${type})
    elseif(type MATCHES "^(half|bfloat16)$")
      set(element Eigen::${type})
    else()
      message(FATAL_ERROR "TENSORNORM_KERNELS: expected float, double, half or bfloat16, got ${type}")
    endif()
    file(CONFIGURE OUTPUT ${folder}/${type}.cpp @ONLY CONTENT [=[
#include <tensornorm/tensornorm.hpp>
#if !TENSORNORM_JOIN(TENSORNORM_COMPILED_@type@_, TENSORNORM_ABI)
#error "tensornorm: -march, -ffast-math and -fno-exceptions belong into CMAKE_CXX_FLAGS: TensorNorm::Kernels was configured without"
#endif
TENSORNORM_DEFINE_KERNELS(@element@);
]=])
    list(APPEND sources ${folder}/${type}.cpp)
    list(APPEND definitions TENSORNORM_COMPILED_${type}_${abi}=1)
  endforeach()
  add_library(${target} STATIC ${sources})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF)
  target_compile_definitions(${target} PUBLIC ${definitions})
  target_link_libraries(${target} PUBLIC tensornorm)
endfunction()

# tensornorm_abi(<variable> <folder>): what core/abi.hpp calls the flags of this build.
function(tensornorm_abi variable folder)
  file(CONFIGURE OUTPUT ${folder}/abi.cpp @ONLY CONTENT [=[
#include "@TensorNorm_SOURCE_DIR@/include/tensornorm/core/abi.hpp"
#define TEXT_OF(words) #words
#define TEXT(macro) TEXT_OF(macro)
extern const char text[];
const char text[] = "tensornorm_abi=" TEXT(TENSORNORM_ABI);
]=])
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(CMAKE_TRY_COMPILE_CONFIGURATION ${CMAKE_BUILD_TYPE})
  set(plain_object)
  if(NOT MSVC)
    set(plain_object COMPILE_DEFINITIONS -fno-lto)  # in which the text is one
  endif()
  try_compile(compiled ${folder}/abi ${folder}/abi.cpp ${plain_object} OUTPUT_VARIABLE output COPY_FILE ${folder}/abi.compiled)
  if(compiled)
    file(STRINGS ${folder}/abi.compiled text REGEX "tensornorm_abi=[a-z0-9_]+")
  endif()
  if(NOT text MATCHES "tensornorm_abi=([a-z0-9_]+)")
    message(FATAL_ERROR "TENSORNORM_KERNELS: cannot tell what these flags make of the kernels: ${output}")
  endif()
  set(${variable} ${CMAKE_MATCH_1} PARENT_SCOPE)
endfunction()
