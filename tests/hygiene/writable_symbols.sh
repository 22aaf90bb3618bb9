#!/usr/bin/env bash
# writable_symbols.sh <objdump> <object>...: the library has no variable that lives longer than a call but the choice of
# the instruction set, made once. (.data.rel.ro is constant once the program is loaded; DW.ref.* belongs to exception
# tables.)
set -euo pipefail
objdump=$1
shift
symbols=$("$objdump" --syms --demangle "$@" | grep -E '[[:space:]]\.(data|bss|tdata|tbss|tm_clone_table)[^[:space:]]*[[:space:]]' |
  grep -vE '[[:space:]]\.data\.rel\.ro' || true)
# Symbols of sections themselves, which have no size, say nothing.
variables=$(grep -vE '[[:space:]]d[[:space:]]+\.|DW\.ref\.' <<<"$symbols" || true)
chosen='headwise::detail::active_instruction_set\(\)::chosen$'
others=$(grep -vE "$chosen" <<<"$variables" || true)
found=$(grep -cE "$chosen" <<<"$variables" || true)
echo "$# objects read, the choice of the instruction set found in $found symbols"
[[ -z $others ]] || { echo "other variables:"; echo "$others"; exit 1; }
# Itself and the flag that it is made: a search that finds neither is blind.
((found == 2))
