# Finds OpenBLAS by its header and library and defines headwise::openblas. Used by the build and, installed beside the
# package configuration, by its consumers, so that the package holds no path of the machine that built it.
#
# Searched first where the system's default OpenBLAS is, then where packages keep their variants.
find_path(HeadwiseOpenBLAS_INCLUDE_DIR cblas.h)
find_path(HeadwiseOpenBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas openblas-openmp)
find_library(HeadwiseOpenBLAS_LIBRARY openblas)
find_library(HeadwiseOpenBLAS_LIBRARY openblas PATH_SUFFIXES openblas-openmp)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(HeadwiseOpenBLAS
  REQUIRED_VARS HeadwiseOpenBLAS_LIBRARY HeadwiseOpenBLAS_INCLUDE_DIR)
mark_as_advanced(HeadwiseOpenBLAS_LIBRARY HeadwiseOpenBLAS_INCLUDE_DIR)

if(HeadwiseOpenBLAS_FOUND AND NOT TARGET headwise::openblas)
  add_library(headwise::openblas UNKNOWN IMPORTED)
  set_target_properties(headwise::openblas PROPERTIES
    IMPORTED_LOCATION "${HeadwiseOpenBLAS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${HeadwiseOpenBLAS_INCLUDE_DIR}")
endif()
