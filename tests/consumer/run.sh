#!/usr/bin/env bash
# run.sh <way> <work directory> <installed> <source directory> <build directory> <cmake> <generator> <compiler>
#        <fact>=<value>[;...] [<-Doption>...]
#
# Uses headwise as its users do; the other ways need `install` before them.
#   install           installs into a prefix, moves the prefix, takes the examples out of README.md and docs
#   readme            follows README.md: its CMakeLists.txt and its program in an empty folder
#   find_package, pkg_config, add_subdirectory, fetch_content
#                     builds the consumer and the examples with the compiler in that way, and runs them
set -euo pipefail
way=$1 work=$2 installed=$3 source=$4 build=$5 cmake=$6 generator=$7 compiler=$8 facts=$9
shift 9
prefix=$installed/moved
examples=$installed/examples

install_and_move() {
  rm -rf "$installed"
  mkdir -p "$installed"
  "$cmake" --install "$build" --prefix "$installed/staged"
  mv "$installed/staged" "$prefix"
  if grep -rFl -e "$installed" -e "$build" -e "$source" "$prefix" \
    --include='*.cmake' --include='*.pc' --include='*.hpp'; then
    echo "installed files name directories of the machine that built them"
    exit 1
  fi
  mkdir "$examples"
  extract_blocks cmake CMakeLists.txt "$source/README.md"
  extract_blocks cpp cpp "$source/README.md" "$source"/docs/*.md
  [[ -e $examples/README-1.cpp && -e $examples/README-1.CMakeLists.txt && ! -e $examples/README-2.CMakeLists.txt ]] ||
    { echo "README.md holds a program and a CMakeLists.txt no more"; exit 1; }
}

# Writes the blocks of a language in pages to files <page>-<number>.<suffix>.
extract_blocks() {  # <language> <suffix> <page>...
  local language=$1 suffix=$2 page
  shift 2
  for page in "$@"; do
    awk -v fence="\`\`\`$language" -v file="$examples/$(basename "$page" .md)" -v suffix="$suffix" \
      '$0 == fence { inside = 1; ++count; next } /^```/ { inside = 0 }
       inside { print > (file "-" count "." suffix) }' "$page"
  done
}

follow_readme() {
  rm -rf "$work"
  mkdir -p "$work"
  cp "$examples/README-1.CMakeLists.txt" "$work/CMakeLists.txt"
  cp "$examples/README-1.cpp" "$work/main.cpp"
  "$cmake" -S "$work" -B "$work/build" -G "$generator" "-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_CXX_COMPILER=$compiler"
  "$cmake" --build "$work/build"
  "$work/build/program"
}

build_with_cmake() {  # <option>...
  rm -rf "$work"
  "$cmake" -S "$source/tests/consumer" -B "$work" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
    "-DCMAKE_CXX_COMPILER=$compiler" "-DEXAMPLES=$examples" "$@"
  "$cmake" --build "$work"
}

build_with_pkg_config() {
  mkdir -p "$work"
  local library
  library=$(dirname "$(find "$prefix" -name headwise.pc)")
  local flags
  read -ra flags < <(PKG_CONFIG_PATH=$library pkg-config --cflags --libs headwise)
  "$compiler" -std=c++20 -O2 -o "$work/consumer" "$source/tests/consumer/main.cpp" "${flags[@]}"
  local example
  for example in "$examples"/*.cpp; do
    "$compiler" -std=c++20 -O2 -o "$work/example_$(basename "$example" .cpp)" "$example" "${flags[@]}"
  done
  # Static libraries need no path at run time; a shared one that has been moved does.
  export LD_LIBRARY_PATH=${library%/pkgconfig}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# A shared library shows its public functions and nothing else.
check_exports() {
  local libraries others
  libraries=$(find "$work" -name 'libheadwise.so')
  [[ -n $libraries ]] || return 0
  others=$(nm -D --defined-only "$libraries" | awk '$3 !~ /^_ZNK?8headwise2v0/ { print $3 }')
  [[ -z $others ]] || { echo "libheadwise.so exports $others"; exit 1; }
}

case $way in
  install) install_and_move; exit ;;
  readme) follow_readme; exit ;;
  find_package) build_with_cmake "-DCMAKE_PREFIX_PATH=$prefix" "$@" ;;
  add_subdirectory) build_with_cmake "-DHEADWISE_SOURCE_DIR=$source" "$@" ;;
  fetch_content) build_with_cmake "-DHEADWISE_SOURCE_DIR=$source" -DHEADWISE_FETCH=ON "$@" ;;
  pkg_config) build_with_pkg_config ;;
esac
check_exports
IFS=';' read -ra expected <<<"$facts"
"$work/consumer" "${expected[@]}"
for example in "$examples"/*.cpp; do "$work/example_$(basename "$example" .cpp)"; done
