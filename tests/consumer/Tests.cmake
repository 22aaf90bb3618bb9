# Registers the consumer tests: every way to use headwise, with every compiler. Where a consumer builds the library itself,
# it does so with the kernels of one instruction set, which is what takes the time.
get_property(kernels GLOBAL PROPERTY HEADWISE_KERNEL_ISAS)
list(GET kernels 0 kernels)

# headwise_consumer_test(<name> <way> [COMPILER <compiler>] [OPTIONS <-Doption>...] [EXPECT <fact>=<value>...]) where facts
# are those of build_info().
function(headwise_consumer_test name way)
  cmake_parse_arguments(PARSE_ARGV 2 test "" "COMPILER" "OPTIONS;EXPECT")
  if(test_COMPILER)
    get_filename_component(compiler_name ${test_COMPILER} NAME)
    string(APPEND name .${compiler_name})
  endif()
  add_test(NAME consumer.${name} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/run.sh
    ${way} ${PROJECT_BINARY_DIR}/consumer/${name} ${PROJECT_BINARY_DIR}/consumer/installed ${PROJECT_SOURCE_DIR}
    ${PROJECT_BINARY_DIR} ${CMAKE_COMMAND} ${CMAKE_GENERATOR} "${test_COMPILER}" "${test_EXPECT}" ${test_OPTIONS})
  set_tests_properties(consumer.${name} PROPERTIES LABELS consumer TIMEOUT 900)
  if(way STREQUAL "install")
    set_tests_properties(consumer.${name} PROPERTIES FIXTURES_SETUP installed)
  else()
    set_tests_properties(consumer.${name} PROPERTIES FIXTURES_REQUIRED installed)
  endif()
endfunction()

headwise_consumer_test(install install)
foreach(compiler IN LISTS HEADWISE_TEST_COMPILERS)
  headwise_consumer_test(readme readme COMPILER ${compiler})
  headwise_consumer_test(find_package find_package COMPILER ${compiler})
  headwise_consumer_test(pkg_config pkg_config COMPILER ${compiler})
  headwise_consumer_test(add_subdirectory add_subdirectory COMPILER ${compiler}
    OPTIONS -DHEADWISE_KERNELS=${kernels})
  headwise_consumer_test(fetch_content_shared fetch_content COMPILER ${compiler}
    OPTIONS -DHEADWISE_KERNELS=${kernels} -DBUILD_SHARED_LIBS=ON)
  headwise_consumer_test(no_openmp add_subdirectory COMPILER ${compiler}
    OPTIONS -DHEADWISE_KERNELS=${kernels} -DHEADWISE_OPENMP=OFF EXPECT threading=serial)
endforeach()

# Which OpenBLAS is linked is the consumer's choice. `cmake/run test` unpacks those that are not installed.
file(GLOB openblas_libraries
  /usr/lib/*/openblas-openmp/libopenblas.so ${PROJECT_SOURCE_DIR}/build/openblas-variants/usr/lib/*/openblas-*/libopenblas.so)
foreach(library IN LISTS openblas_libraries)
  string(REGEX REPLACE ".*/openblas-([a-z]+)/.*" "\\1" threading ${library})
  headwise_consumer_test(openblas_${threading} find_package COMPILER ${CMAKE_CXX_COMPILER}
    OPTIONS -DHeadwiseOpenBLAS_LIBRARY=${library} EXPECT blas_threading=${threading})
endforeach()
