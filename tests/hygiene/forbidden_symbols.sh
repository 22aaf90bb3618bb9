#!/usr/bin/env bash
# forbidden_symbols.sh <nm> <object>...: the library refers to nothing that prints, ends the process or sets the number
# of BLAS threads of the whole process.
#
# Two exceptions, both put there by the compiler: std::terminate, which is how noexcept and OpenMP regions are compiled
# (include_rule.sh searches the sources for it), and assert() in builds with assertions.
set -euo pipefail
nm=$1
shift
pattern='_?_?v?f?d?printf(_chk)?|f?puts|f?putc|putchar|perror|write|fwrite|std::(basic_ostream|ostream|cout|cerr|clog|print).*'
pattern+='|abort|_?_exit|_Exit|exit|quick_exit|raise|kill|openblas_set_num_threads|std::__replacement_assert.*'
found=$("$nm" --undefined-only --print-file-name --demangle "$@" | sed -E 's/@.*//' | grep -E " [UwW] ($pattern)$" || true)
echo "$# objects read"
[[ -z $found ]] || { echo "$found"; exit 1; }
