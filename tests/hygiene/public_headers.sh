#!/usr/bin/env bash
# public_headers.sh <include directory> <compiler>...: every public header compiles alone, and twice, without a warning.
set -euo pipefail
include_dir=$1
shift
headers=0
for header in "$include_dir"/headwise/*.hpp; do
  name=headwise/${header##*/}
  for compiler in "$@"; do
    printf '#include "%s"\n#include "%s"\n' "$name" "$name" |
      "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wconversion -Werror -I "$include_dir" -x c++ -
  done
  headers=$((headers + 1))
done
echo "$headers headers compile alone with $*"
