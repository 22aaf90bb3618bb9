#!/usr/bin/env bash
# include_rule.sh <repository>: checks that includes point down only and that each foreign thing has one owner.
#
#   api → drivers → plan → kernels/kernel_table.hpp, kernels/dispatch.hpp → platform
#
# xsimd stays in kernels/, cblas.h in platform/blas.cpp, OpenMP in platform/parallel.hpp and platform/blas.cpp. Public
# headers see the standard library and each other only; adapters/ and python/ build on public headers. No code prints,
# aborts or exits.
set -euo pipefail
cd "$1"
failures=0
violation() { echo "$1: $2"; failures=$((failures + 1)); }

# The include lines of a file as "<header>" or "\"header\"".
includes() { sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*([<"][^>"]*[>"]).*/\1/p' "$1"; }

# Rank of a layer; an include may not point to a higher one.
rank() {
  case $1 in
    api) echo 5 ;; drivers) echo 4 ;; plan) echo 3 ;; kernels) echo 2 ;; platform) echo 1 ;; *) echo 0 ;;
  esac
}

check_quoted() {  # <file> <its layer> <header>
  local target=${3%%/*}
  case $3 in
    headwise/*) return ;;
    */*) ;;
    *) violation "$1" "includes \"$3\": write the path from src/" && return ;;
  esac
  [[ -f src/$3 ]] || { violation "$1" "includes \"$3\", which is not a file of src/" && return; }
  if (($(rank "$target") > $(rank "$2"))); then
    violation "$1" "of $2 includes \"$3\": includes point down only"
  elif [[ $target == kernels && $2 != kernels && $3 != kernels/kernel_table.hpp && $3 != kernels/dispatch.hpp ]]; then
    violation "$1" "includes \"$3\": kernels are reached through kernel_table.hpp and dispatch.hpp"
  fi
}

check_source() {  # <file of src/>
  local layer=${1#src/} header
  layer=${layer%%/*}
  (($(rank "$layer") > 0)) || violation "$1" "is in no layer"
  while read -r header; do
    case $header in
      '<xsimd'*) [[ $layer == kernels ]] || violation "$1" "includes $header: only kernels/ knows xsimd" ;;
      '<cblas'*) [[ $1 == src/platform/blas.cpp ]] || violation "$1" "includes $header: only platform/blas.cpp may" ;;
      '"'*) check_quoted "$1" "$layer" "$(tr -d '"' <<<"$header")" ;;
    esac
  done < <(includes "$1")
  if [[ $1 != src/platform/parallel.hpp && $1 != src/platform/blas.cpp ]] &&
      grep -nE '<omp\.h>|#[[:space:]]*pragma[[:space:]]+omp|_Pragma\("omp' "$1"; then
    violation "$1" "uses OpenMP: only platform/parallel.hpp and platform/blas.cpp may"
  fi
  if grep -nE '\b(std::(terminate|abort|exit|quick_exit|_Exit|cout|cerr|clog)|(f|v|vf)?printf|f?puts|putchar|perror|abort|exit|_exit)\b[[:space:]]*(\(|<<)' \
      <(sed 's://.*::' "$1"); then
    violation "$1" "prints or ends the process"
  fi
}

check_public_header() {  # <file of include/>
  local header
  while read -r header; do
    [[ $header =~ ^(\<[a-z_0-9]+\>|\"headwise/[a-z_0-9]+\.hpp\")$ ]] ||
      violation "$1" "includes $header: public headers include the standard library and headwise/ only"
  done < <(includes "$1")
}

check_client() {  # <file of adapters/ or python/>
  local header
  while read -r header; do
    case $header in
      '"headwise/'*) [[ -f include/$(tr -d '"' <<<"$header") ]] || violation "$1" "includes $header, which is not public" ;;
      '"adapters/'*) [[ -f $(tr -d '"' <<<"$header") ]] || violation "$1" "includes $header, which does not exist" ;;
      '"'*/*) violation "$1" "includes $header: headwise/ and adapters/ are all that is known here" ;;
      '<xsimd'*|'<cblas'*|'<omp.h>') violation "$1" "includes $header: only the library may" ;;
    esac
  done < <(includes "$1")
}

sources=0
while read -r file; do check_source "$file"; sources=$((sources + 1)); done < <(find src -name '*.[ch]pp' | sort)
while read -r file; do check_public_header "$file"; done < <(find include -name '*.hpp' | sort)
while read -r file; do check_client "$file"; done < <(find adapters python -name '*.[ch]pp' | sort)
echo "$sources files of src/ read, $failures violations"
((sources > 0 && failures == 0))
