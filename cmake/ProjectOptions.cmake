# How all code of this repository is compiled.
function(headwise_project_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  # Products and sums fuse only where the code says fma, so that results do not depend on the optimiser.
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -ffp-contract=off)
  if(HEADWISE_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()

# How programs are compiled that judge the library: half the time of the full options, where there are dozens.
function(headwise_test_options target)
  headwise_project_options(${target})
  target_compile_options(${target} PRIVATE $<$<CONFIG:RelWithDebInfo>:-O1> $<$<CONFIG:RelWithDebInfo>:-g1>)
endfunction()

# The names of a static library stay inside the program or shared object that it is linked into: two shared objects of a
# program may each have a headwise, also of different versions. (A shared headwise has a list of what it exports.)
function(headwise_hide_names target)
  if(NOT BUILD_SHARED_LIBS)
    set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  endif()
endfunction()
