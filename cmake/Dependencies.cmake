# What headwise is built on. xsimd is taken as a header path: the target of Debian's package links -lxtl, which is not
# packaged.
find_path(HEADWISE_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp REQUIRED DOC "Directory that holds xsimd/xsimd.hpp")
find_package(HeadwiseOpenBLAS REQUIRED)

# OpenMP is used by flag and library name, not by its imported target, so that the installed package asks nothing of the
# consumer's compiler: clang++ without an OpenMP of its own links a headwise that g++ built.
set(HEADWISE_OPENMP_FLAGS "")
set(HEADWISE_OPENMP_LIBRARIES "")
set(HEADWISE_OPENMP_DIRECTORIES "")
if(HEADWISE_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    separate_arguments(HEADWISE_OPENMP_FLAGS NATIVE_COMMAND "${OpenMP_CXX_FLAGS}")
    set(HEADWISE_OPENMP_LIBRARIES ${OpenMP_CXX_LIB_NAMES})
    # Debian keeps LLVM's OpenMP in a folder that only the compiler's own flag searches.
    foreach(name IN LISTS OpenMP_CXX_LIB_NAMES)
      get_filename_component(directory "${OpenMP_${name}_LIBRARY}" DIRECTORY)
      if(directory AND NOT directory IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
        list(APPEND HEADWISE_OPENMP_DIRECTORIES ${directory})
      endif()
    endforeach()
  else()
    message(WARNING "headwise: ${CMAKE_CXX_COMPILER} has no OpenMP: attention will run on one thread. "
                    "HEADWISE_OPENMP=OFF accepts that.")
  endif()
endif()
