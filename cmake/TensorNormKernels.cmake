# SPDX-License-Identifier: MIT
# tensornorm_add_kernels(<target> <type>...): a static library of the kernels for elements of these types: float, double, half,
# bfloat16. A unit that links it compiles none of them, but where its flags ask for others: each definition says of which type and
# flags kernels are here, in the words of core/abi.hpp.
function(tensornorm_add_kernels target)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${target})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${TensorNorm_SOURCE_DIR}/include/tensornorm/core/abi.hpp)
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
#include <tensornorm/kernels_once.hpp>
#if !TENSORNORM_HAS_COMPILED(@type@)
#error "tensornorm: compiled with an -march, -ffast-math, -ffinite-math-only, -fassociative-math or -fno-exceptions that CMake did not see; set them in CMAKE_CXX_FLAGS"
#endif
TENSORNORM_DEFINE_KERNELS(@element@);
]=])
    list(APPEND sources ${folder}/${type}.cpp)
    list(APPEND definitions TENSORNORM_COMPILED_${type}_${abi}=0,1)
  endforeach()
  add_library(${target} STATIC ${sources})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF CXX_CLANG_TIDY "")
  # No other language: CUDA's compiler would take the comma for another definition.
  target_compile_definitions(${target} PUBLIC "$<$<COMPILE_LANGUAGE:CXX>:${definitions}>")
  target_link_libraries(${target} PUBLIC tensornorm)
endfunction()

# tensornorm_abi(<variable> <folder>): what core/abi.hpp calls the flags of this build, the same in all of its configurations.
function(tensornorm_abi variable folder)
  file(CONFIGURE OUTPUT ${folder}/abi.cpp @ONLY CONTENT [=[
#include "@TensorNorm_SOURCE_DIR@/include/tensornorm/core/abi.hpp"
#define TEXT_OF(words) #words
#define TEXT(macro) TEXT_OF(macro)
extern const char text[];
const char text[] = "tensornorm_abi=" TEXT(TENSORNORM_ABI);
]=])
  get_directory_property(options COMPILE_OPTIONS)
  string(GENEX_STRIP "${options}" options)
  list(FILTER options INCLUDE REGEX "^-(m|Ofast$|ffp-model|f(no-)?([a-z]+-math|[a-z]+-math-[a-z]+|signed-zeros|honor-[a-z]+|exceptions)$)")
  list(FILTER options EXCLUDE REGEX "^-mllvm$")  # of two words
  if(NOT MSVC)
    list(APPEND options -fno-lto)  # or the text is not one in the object
  endif()
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  get_property(several GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(several)
    set(configurations ${CMAKE_CONFIGURATION_TYPES})
  elseif(CMAKE_BUILD_TYPE)
    set(configurations ${CMAKE_BUILD_TYPE})
  else()
    set(configurations None)
  endif()
  set(found)
  foreach(CMAKE_TRY_COMPILE_CONFIGURATION IN LISTS configurations)
    try_compile(TENSORNORM_ABI_COMPILED ${folder}/abi ${folder}/abi.cpp COMPILE_DEFINITIONS ${options} OUTPUT_VARIABLE output
      COPY_FILE ${folder}/abi.compiled)
    set(text)
    if(TENSORNORM_ABI_COMPILED)
      file(STRINGS ${folder}/abi.compiled text REGEX "tensornorm_abi=[a-z0-9_]+")
    endif()
    unset(TENSORNORM_ABI_COMPILED CACHE)
    if(NOT text MATCHES "tensornorm_abi=([a-z0-9_]+)")
      message(FATAL_ERROR "TENSORNORM_KERNELS: cannot tell what these flags make of the kernels: ${output}")
    endif()
    list(APPEND found ${CMAKE_MATCH_1})
  endforeach()
  list(REMOVE_DUPLICATES found)
  list(LENGTH found count)
  if(count GREATER 1)
    message(FATAL_ERROR "TENSORNORM_KERNELS: expected -march, -ffast-math, -ffinite-math-only, -fassociative-math and "
      "-fno-exceptions to be the same in all configurations, got those of ${found}")
  endif()
  set(${variable} ${found} PARENT_SCOPE)
endfunction()
