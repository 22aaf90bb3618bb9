#!/usr/bin/env bash
# isa_instructions.sh <objdump> <isa>=<object>...: each object multiplies and adds with the instructions that its name
# promises, and uses none that its processors lack.
set -euo pipefail
objdump=$1
shift
failures=0
fma='vfn?m(add|sub)[0-9]+[ps][sd]'

expect() {  # <entry> <some | none> <pattern>
  local count
  count=$("$objdump" -d --no-show-raw-insn "${1#*=}" | grep -cE "$3" || true)
  echo "${1%%=*}: $count instructions match $3, expected $2"
  if [[ $2 == some ]]; then ((count > 0)) || failures=1; else ((count == 0)) || failures=1; fi
}

for entry in "$@"; do
  case ${entry%%=*} in
    sse2) expect "$entry" some 'mulp[sd]'; expect "$entry" none "$fma|%[yz]mm" ;;
    avx2) expect "$entry" some "$fma.*%ymm"; expect "$entry" none '%zmm|%k[0-7]' ;;
    avx512) expect "$entry" some "$fma.*%zmm" ;;
    neon64) expect "$entry" some 'fmla' ;;
    *) echo "${entry%%=*}: no expectation is written for this instruction set"; failures=1 ;;
  esac
done
exit $failures
