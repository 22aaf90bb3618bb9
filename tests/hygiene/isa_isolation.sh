#!/usr/bin/env bash
# isa_isolation.sh <nm> <isa>=<object>...: nothing compiled for one instruction set can be linked in for another.
#
# No symbol, weak ones included, is defined for two of the instruction sets. Beyond that, the objects define no weak symbol
# at all but functions of xsimd, whose names carry the instruction set: any other object of a program might define the
# same one, and the linker would keep the copy that only newer processors can run. (DW.ref.* is data of exception tables,
# alike everywhere.)
set -euo pipefail
nm=$1
shift
failures=0
definitions=$(for entry in "$@"; do
  "$nm" --defined-only --extern-only --demangle "${entry#*=}" | sed -nE "s/^[0-9a-f]+ ([A-Za-z]) (.*)/${entry%%=*} \1 \2/p"
done | sort -u)

duplicates=$(cut -d ' ' -f 3- <<<"$definitions" | grep -v '^DW\.ref\.' | sort | uniq --repeated)
if [[ -n $duplicates ]]; then
  echo "defined by more than one instruction set:"
  echo "$duplicates"
  failures=1
fi

weak=$(grep -E '^[^ ]+ [WVu] ' <<<"$definitions" | grep -vE ' xsimd::| DW\.ref\.' || true)
if [[ -n $weak ]]; then
  echo "weak symbols in the object of an instruction set:"
  echo "$weak"
  failures=1
fi

for entry in "$@"; do
  grep -q "^${entry%%=*} T " <<<"$definitions" || { echo "${entry#*=} defines no function"; failures=1; }
done
echo "$(wc -l <<<"$definitions") symbols of $# objects compared"
exit $failures
