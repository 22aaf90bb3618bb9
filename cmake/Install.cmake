# The installed package: library, headers, find_package(headwise CONFIG) and pkg-config. No file of it holds a path, so
# the prefix may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/headwise)
install(TARGETS headwise EXPORT headwiseTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/headwise DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT headwiseTargets NAMESPACE headwise:: DESTINATION ${package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/headwiseConfig.cmake.in headwiseConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
# No ABI or API promise before 1.0: only the same minor version fits.
write_basic_package_version_file(headwiseConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/headwiseConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/headwiseConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindHeadwiseOpenBLAS.cmake
  DESTINATION ${package_dir})

# A static library brings what it links; a shared one has found it already.
set(pkgconfig_libraries ${HEADWISE_OPENMP_LIBRARIES})
list(PREPEND pkgconfig_libraries -lopenblas)
get_filename_component(openblas_dir ${HeadwiseOpenBLAS_LIBRARY} DIRECTORY)
if(NOT openblas_dir IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
  list(PREPEND pkgconfig_libraries -L${openblas_dir})
endif()
list(APPEND pkgconfig_libraries -lstdc++ -lm)
list(JOIN pkgconfig_libraries " " pkgconfig_libraries)
if(BUILD_SHARED_LIBS)
  set(pkgconfig_libraries "")
endif()
file(RELATIVE_PATH pkgconfig_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" pkgconfig_prefix "${pkgconfig_prefix}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/headwise.pc.in headwise.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/headwise.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
