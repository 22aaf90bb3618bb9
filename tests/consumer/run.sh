#!/usr/bin/env bash
# run.sh <way> <work directory> <source directory> <build directory> <cmake> <generator> [<compiler>]
#
# Uses headwise as its users do; the other ways need `install` before them.
#   install           installs into a prefix, moves the prefix, takes the example out of README.md
#   find_package, pkg_config, add_subdirectory
#                     builds the consumer and the example with the compiler in that way, and runs them
set -euo pipefail
way=$1 work=$2 source=$3 build=$4 cmake=$5 generator=$6 compiler=${7:-}
prefix=$work/moved
example=$work/readme_example.cpp

extract_example() {
  local count
  count=$(grep -c '^```cpp$' "$source/README.md" || true)
  [[ $count == 1 ]] || { echo "README.md holds $count blocks of C++, expected 1"; exit 1; }
  sed -n '/^```cpp$/,/^```$/{/^```/d;p}' "$source/README.md" >"$example"
}

install_and_move() {
  rm -rf "$work"
  mkdir -p "$work"
  "$cmake" --install "$build" --prefix "$work/staged"
  mv "$work/staged" "$prefix"
  if grep -rFl -e "$work" -e "$build" -e "$source" "$prefix" --include='*.cmake' --include='*.pc' --include='*.hpp'; then
    echo "installed files name directories of the machine that built them"
    exit 1
  fi
  extract_example
}

build_with_cmake() {  # <option>...
  rm -rf "$directory"
  "$cmake" -S "$source/tests/consumer" -B "$directory" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
    "-DCMAKE_CXX_COMPILER=$compiler" "-DREADME_EXAMPLE=$example" "$@"
  "$cmake" --build "$directory"
}

build_with_pkg_config() {
  mkdir -p "$directory"
  local library
  library=$(dirname "$(find "$prefix" -name headwise.pc)")
  local flags
  read -ra flags < <(PKG_CONFIG_PATH=$library pkg-config --cflags --libs headwise)
  "$compiler" -std=c++20 -O2 -o "$directory/consumer" "$source/tests/consumer/main.cpp" "${flags[@]}"
  "$compiler" -std=c++20 -O2 -o "$directory/readme_example" "$example" "${flags[@]}"
  # Static libraries need no path at run time; a shared one that has been moved does.
  export LD_LIBRARY_PATH=${library%/pkgconfig}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

directory=$work/$way-${compiler##*/}
case $way in
  install) install_and_move && exit ;;
  find_package) build_with_cmake "-DCMAKE_PREFIX_PATH=$prefix" ;;
  add_subdirectory) build_with_cmake "-DHEADWISE_SOURCE_DIR=$source" ;;
  pkg_config) build_with_pkg_config ;;
esac
"$directory/consumer"
"$directory/readme_example"
