#!/usr/bin/env bash
# reference.sh <doxygen> <source directory> <output directory>: the reference of the public headers has no warning.
set -euo pipefail
doxygen=$1 source=$2 output=$3
cd "$source"
mkdir -p "$output"
{ cat docs/Doxyfile; echo "OUTPUT_DIRECTORY = $output"; } | "$doxygen" -
pages=$(find "$output/html" -name '*.html' | wc -l)
[[ $pages -gt 10 ]] || { echo "$pages pages were written to $output/html"; exit 1; }
echo "$pages pages without a warning"
