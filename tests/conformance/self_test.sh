#!/usr/bin/env bash
# self_test.sh <command of headwise_conformance>...: checks that the runner passes what is right and reports the rest.
#
# The case: one query 0 of one feature, two keys, both with the value (1, 2): Y = (1, 2) whatever the weights are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

# Little-endian f32 of the numbers that are used here.
f32() {
  local number
  for number in "$@"; do
    case $number in
      0) printf '\x00\x00\x00\x00' ;;
      1) printf '\x00\x00\x80\x3f' ;;
      2) printf '\x00\x00\x00\x40' ;;
      2.000001) printf '\x04\x00\x00\x40' ;;
      3) printf '\x00\x00\x40\x40' ;;
    esac
  done
}
# Little-endian f64 of 2^exponent: sign, biased exponent and no fraction.
f64_of_power_of_two() {
  local exponent=$(($1 + 1023))
  printf "\\x00\\x00\\x00\\x00\\x00\\x00\\x$(printf %02x $((exponent % 16 * 16)))\\x$(printf %02x $((exponent / 16)))"
}

tensor() { echo "{\"role\": \"$1\", \"dtype\": \"$2\", \"shape\": $3, \"file\": \"$4\", \"unknown\": 1}"; }

# new_case <name> <expected Y>... [-- <more members of case.json>]
new_case() {
  local name=$1 expected=() outputs=""
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do expected+=("$1") && shift; done
  mkdir "$folder/$name"
  cd "$folder/$name"
  f32 0 > Q.bin
  f32 1 0 > K.bin
  f32 1 2 1 2 > V.bin
  f32 "${expected[@]}" > Y.bin
  [[ ${#expected[@]} -gt 0 ]] && outputs=$(tensor Y f32 '[1, 1, 1, 2]' Y.bin)
  cat > case.json << END
{"name": "$name", "op": "Attention", "unknown": {"key": []}, "rtol": 1e-5, "atol": 0, "inputs": [
  $(tensor Q f32 '[1, 1, 1, 1]' Q.bin), $(tensor K f32 '[1, 1, 2, 1]' K.bin), $(tensor V f32 '[1, 1, 2, 2]' V.bin)],
 "outputs": [$outputs]${2:+, $2}}
END
  cd "$folder"
}

# expect <status> <line of the output, as an extended regular expression>... -- <arguments of the runner>...
runner=("$@")
expect() {
  local status=$1 lines=() got=0 line
  shift
  while [[ $1 != -- ]]; do lines+=("$1") && shift; done
  shift
  "${runner[@]}" "$@" > output 2>&1 || got=$?
  [[ $got -eq $status ]] || { echo "status $got, expected $status: $*" && cat output && failures=$((failures + 1)); }
  for line in "${lines[@]}"; do
    grep -qxE "$line" output && continue
    echo "no line '$line': $*" && cat output && failures=$((failures + 1))
  done
}

new_case good 1 2
expect 0 '1 passed, 0 failed' '[a-z0-9]+: ran 1 cases with 1 3 threads, compared 4 elements, .*' -- good
expect 0 '1 passed, 0 failed' -- .

new_case wrong 1 3
for threads in 1 3; do
  expect 1 "FAIL wrong [a-z0-9]+, threads $threads Y\[0, 0, 0, 1\]: got 2, expected 3, allowed 3.0[0-9]*e-05 .*" \
    '0 passed, 1 failed' -- wrong
done
expect 1 '1 passed, 1 failed' -- .
expect 1 '1 passed, 1 failed' -- good wrong

f64_of_power_of_two 3 > eight.bin
f64_of_power_of_two 4 >> eight.bin
for output in 2 2.000001; do  # 2.000001 is 2 + 2^-20: 16 units of 2^-24
  new_case "bound_$output" 1 "$output" -- '"bound_u": {"file": "../eight.bin"}'
  expect 0 '1 passed, 0 failed' -- "bound_$output"
done
f64_of_power_of_two 3 > eight.bin
f64_of_power_of_two 3 >> eight.bin
expect 1 'FAIL bound_2.000001 .* allowed 5.2[0-9]*e-07 .*' '0 passed, 1 failed' -- bound_2.000001

new_case alien 1 2 -- '"attributes": {"dropout": 0.5}'
expect 1 'FAIL alien: cannot be expressed: the attribute dropout is unknown' '0 passed, 1 failed' -- alien
expect 1 '1 passed, 1 failed' -- good alien --expect-inexpressible another
expect 0 'inexpressible, as expected: alien: .*' '1 passed, 0 failed' -- good alien --expect-inexpressible another alien

new_case nothing
expect 1 'FAIL nothing .*: no output to compare' '0 passed, 1 failed' -- nothing
new_case truncated 1 2
f32 1 > truncated/Y.bin
expect 1 'FAIL truncated .*Y.bin has 4 bytes, expected 8' '0 passed, 1 failed' -- truncated
new_case refused 1 2 -- '"attributes": {"qk_matmul_output_mode": 4}'
expect 1 'FAIL refused .*: headwise: qk_matmul_output_mode is 4, expected 0 to 3' '0 passed, 1 failed' -- refused

mkdir empty
expect 1 '.*no case in empty' -- empty
expect 2 'unknown option --no-such' -- good --no-such
expect 2 'no DIR given' --

exit $((failures > 0))
