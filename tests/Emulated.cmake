# Tests in `ctest -C cross`: on processors that this machine only emulates. `ctest -C processors` runs all of the reduced
# tests on those, too, of which the former only asks for the right kernels; `ctest -C bochs` the tests of AVX-512's kernels.

# headwise_run_emulated_tests(<processor> <configuration> "<isa>..." EMULATOR <command>... [TIMEOUT <seconds>]
# [FILTER <argument>...]): the reduced tests, in four parts of about the same length that run side by side, on a processor
# that has the given instruction sets and where the last one must be chosen.
function(headwise_run_emulated_tests processor configuration isas)
  cmake_parse_arguments(PARSE_ARGV 3 run "" "TIMEOUT" "EMULATOR;FILTER")
  string(REGEX REPLACE ".* " "" isa ${isas})
  set(attention_in_double_tests "--test-case=attention*" "--test-case-exclude=*<float>*")
  set(attention_in_float_tests "--test-case=attention*<float>*")
  set(rest_in_double_tests "--test-case-exclude=attention*,*<float>*")
  set(rest_in_float_tests "--test-case=*<float>*" "--test-case-exclude=attention*")
  foreach(part attention_in_double rest_in_double attention_in_float rest_in_float)
    set(test emulated.${isa}.${part}_on_${processor})
    headwise_run_tests(${test} LABEL cross CONFIGURATION ${configuration} EMULATOR ${run_EMULATOR}
      FILTER ${${part}_tests} ${run_FILTER}
      ENVIRONMENT HEADWISE_TEST_GRID=reduced "HEADWISE_TEST_EXPECTED_ISAS=${isas}")
    if(run_TIMEOUT)
      set_tests_properties(headwise_tests.${test} PROPERTIES TIMEOUT ${run_TIMEOUT})
    endif()
  endforeach()
endfunction()

# headwise_run_emulated_choice(<processor> "<isa>..." <emulator>...): on a processor that has the given instruction sets
# the last one is chosen and its kernels run.
function(headwise_run_emulated_choice processor isas)
  string(REGEX REPLACE ".* " "" isa ${isas})
  headwise_run_tests(emulated.${isa}.chosen_on_${processor} LABEL cross CONFIGURATION cross EMULATOR ${ARGN}
    FILTER "--source-file=*isa_test*,*cpu_test*,*dispatch_test*,*scores_test*,*softmax_test*,*/values_test*,*row_dot*"
    ENVIRONMENT HEADWISE_TEST_GRID=reduced "HEADWISE_TEST_EXPECTED_ISAS=${isas}")
endfunction()

# headwise_run_emulated_refusal(<processor> "<isa>..." <other isa> <emulator>...): on a processor that has the given
# instruction sets, asking for another one is an error that says so.
function(headwise_run_emulated_refusal processor isas other)
  string(REGEX REPLACE ".* " "" isa ${isas})
  string(REPLACE " " ", " listed ${isas})
  headwise_run_tests(emulated.${isa}.refusal_on_${processor} LABEL cross CONFIGURATION cross EMULATOR ${ARGN}
    FILTER --test-case=isa* ENVIRONMENT HEADWISE_ISA=${other})
  set_tests_properties(headwise_tests.emulated.${isa}.refusal_on_${processor} PROPERTIES PASS_REGULAR_EXPRESSION
    "HEADWISE_ISA is \"${other}\", expected an instruction set that this machine runs: ${listed}[^,]")
endfunction()

if(CMAKE_CROSSCOMPILING)
  headwise_run_emulated_tests(aarch64 cross neon64 EMULATOR ${CMAKE_CROSSCOMPILING_EMULATOR})
  headwise_run_emulated_refusal(aarch64 neon64 avx2 ${CMAKE_CROSSCOMPILING_EMULATOR})
else()
  find_program(HEADWISE_QEMU_X86_64 qemu-x86_64 DOC "Emulator for the tests of other x86-64 processors")
  if(HEADWISE_QEMU_X86_64 AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    set(emulated ${HEADWISE_QEMU_X86_64} -cpu)
    # SSE2 alone, but for what OpenBLAS computes: its least kernels have instructions of SSE3 or 3DNow!.
    headwise_run_emulated_tests(SSE2 cross sse2 EMULATOR ${emulated} core2duo,-sse3,-ssse3,-sse4.1
      FILTER --source-file-exclude=*/blas_test*,*/projection_test*)
    headwise_run_emulated_tests(Haswell cross "sse2 avx2" EMULATOR ${emulated} Haswell)
    foreach(processor Nehalem SandyBridge)  # the latter has AVX without FMA
      headwise_run_emulated_choice(${processor} sse2 ${emulated} ${processor})
      headwise_run_emulated_tests(${processor} processors sse2 EMULATOR ${emulated} ${processor})
    endforeach()
    headwise_run_emulated_refusal(Nehalem sse2 avx2 ${emulated} Nehalem)
    headwise_run_emulated_refusal(SandyBridge sse2 avx2 ${emulated} SandyBridge)
    headwise_run_emulated_refusal(Haswell "sse2 avx2" avx512 ${emulated} Haswell)
  endif()
  # qemu has no AVX-512.
  find_program(HEADWISE_BOCHS bochs DOC "Emulator for the tests of AVX-512's kernels")
  file(GLOB linux ${PROJECT_SOURCE_DIR}/build/linux-x86_64/boot/vmlinuz-*)
  if(HEADWISE_BOCHS AND linux AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    headwise_run_emulated_tests(SkylakeX bochs "sse2 avx2 avx512" EMULATOR ${CMAKE_CURRENT_SOURCE_DIR}/bochs.sh ${linux}
      TIMEOUT 7200 FILTER "--source-file=*kernels/*,*isa_test*,*cpu_test*,*pairwise_test*")
  endif()
endif()
