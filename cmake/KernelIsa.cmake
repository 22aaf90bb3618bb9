# The instruction sets: src/kernels/float_table.cpp and double_table.cpp are compiled once for each, weakest first. A new
# one is a line in both functions here, one branch in src/kernels/isa.hpp and one line in src/kernels/dispatch.cpp.
#
# headwise_kernel_isa(<name> [<compiler flag>...]) compiles the kernels as the object library headwise_kernels_<name>
# with HEADWISE_KERNELS_<NAME> defined, adds them to headwise and tells dispatch.cpp with HEADWISE_HAVE_<NAME>.
set(HEADWISE_KERNELS "" CACHE STRING
  "Instruction sets to compile kernels for, separated by ; (default: all; native: those that this processor runs)")

function(headwise_add_kernels)
  if(HEADWISE_KERNELS STREQUAL "native")
    headwise_native_isas(HEADWISE_KERNELS)
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    headwise_kernel_isa(sse2)
    headwise_kernel_isa(avx2 -mavx2 -mfma)
    headwise_kernel_isa(avx512 -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl -mfma)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    headwise_kernel_isa(neon64)
  else()
    message(FATAL_ERROR "headwise: the processor is ${CMAKE_SYSTEM_PROCESSOR}, expected x86_64 or aarch64")
  endif()
  get_property(built GLOBAL PROPERTY HEADWISE_KERNEL_ISAS)
  set(missing ${HEADWISE_KERNELS})
  list(REMOVE_ITEM missing ${built})
  if(missing)
    message(FATAL_ERROR "headwise: HEADWISE_KERNELS names ${missing}, unknown on ${CMAKE_SYSTEM_PROCESSOR}")
  endif()
endfunction()

# The instruction sets that the flags of this machine's processor name, weakest first.
function(headwise_native_isas result)
  set(needs_sse2 sse2)
  set(needs_avx2 avx2 fma)
  set(needs_avx512 avx512f avx512cd avx512dq avx512bw avx512vl fma)
  set(needs_neon64 asimd)
  file(STRINGS /proc/cpuinfo flags REGEX "^(flags|Features)" LIMIT_COUNT 1)
  string(REGEX MATCHALL "[a-z0-9_]+" flags "${flags}")
  set(isas "")
  foreach(isa sse2 avx2 avx512 neon64)
    set(missing ${needs_${isa}})
    list(REMOVE_ITEM missing ${flags})
    if(NOT missing)
      list(APPEND isas ${isa})
    endif()
  endforeach()
  set(${result} "${isas}" PARENT_SCOPE)
endfunction()

function(headwise_kernel_isa name)
  if(HEADWISE_KERNELS AND NOT name IN_LIST HEADWISE_KERNELS)
    return()
  endif()
  string(TOUPPER ${name} upper_name)
  set(kernels headwise_kernels_${name})
  add_library(${kernels} OBJECT
    ${PROJECT_SOURCE_DIR}/src/kernels/float_table.cpp ${PROJECT_SOURCE_DIR}/src/kernels/double_table.cpp)
  headwise_project_options(${kernels})
  headwise_hide_names(${kernels})
  target_include_directories(${kernels} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_include_directories(${kernels} SYSTEM PRIVATE ${HEADWISE_XSIMD_INCLUDE_DIR})
  target_compile_definitions(${kernels} PRIVATE HEADWISE_KERNELS_${upper_name})
  # Optimised in every build type: without inlining, functions of xsimd and the standard library would become weak
  # symbols, and the linker could keep the copy of a stronger instruction set for everybody.
  set(optimisation -O3)
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")
    # What clang instruments in a minute or two (g++ takes several). Of undefined behaviour, the base instruction set
    # alone is watched for all kinds: the others are the same templates, and all kinds take clang five minutes for avx2.
    set(optimisation -O1)
    if(ARGN AND CMAKE_CXX_FLAGS MATCHES "undefined")
      list(APPEND optimisation -fno-sanitize=undefined -fsanitize=bounds)
    endif()
  endif()
  target_compile_options(${kernels} PRIVATE ${ARGN} ${optimisation})
  # Of debug information only line numbers: following variables through this code doubles the time it takes to compile.
  target_compile_options(${kernels} PRIVATE $<$<CONFIG:Debug,RelWithDebInfo>:-g1>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12 warns falsely inside avx512fintrin.h.
    target_compile_options(${kernels} PRIVATE -Wno-maybe-uninitialized)
  elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    # As g++ by default: nothing is computed ahead of the mask that excludes it, which could raise a floating-point
    # exception that the caller traps. Costs 3 to 10 % of the speed with clang 14.
    target_compile_options(${kernels} PRIVATE -ffp-exception-behavior=maytrap)
  endif()
  target_sources(headwise PRIVATE $<TARGET_OBJECTS:${kernels}>)
  set_property(SOURCE ${PROJECT_SOURCE_DIR}/src/kernels/dispatch.cpp TARGET_DIRECTORY headwise
    APPEND PROPERTY COMPILE_DEFINITIONS HEADWISE_HAVE_${upper_name})
  set_property(GLOBAL APPEND PROPERTY HEADWISE_KERNEL_ISAS ${name})
endfunction()
