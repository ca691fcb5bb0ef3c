#!/bin/sh
# The Makefile and CMakeLists.txt build the same sources with the same instruction set flags, natively and for aarch64.
set -u
cd "$(dirname "$0")/../.." || exit 1
if ! command -v cmake > /dev/null; then
  echo "skip source_lists cmake is not installed"
  exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# compare NAME CROSS_PREFIX [CMAKE_OPTION…]
compare() {
  name=$1 cross=$2
  shift 2
  if ! command -v "${cross}g++" > /dev/null; then
    echo "skip $name ${cross}g++ is not installed"
    return
  fi
  env -u MAKEFLAGS -u MAKELEVEL make -s print-sources CROSS="$cross" CXX="${cross}g++" | sed 's/ *$//' | sort > "$work/make.txt"
  if ! cmake -S . -B "$work/$name" -DCMAKE_CXX_COMPILER="${cross}g++" "$@" > "$work/log" 2>&1; then
    cat "$work/log"
    echo "FAIL $name cmake does not configure"
    return
  fi
  sed 's/ *$//' "$work/$name/sources.txt" | sort > "$work/cmake.txt"
  if [ ! -s "$work/make.txt" ]; then
    echo "FAIL $name make print-sources printed nothing"
  elif diff -u "$work/make.txt" "$work/cmake.txt"; then
    echo "ok $name"
  else
    echo "FAIL $name the lists differ (- Makefile, + CMakeLists.txt)"
  fi
}

compare source_lists_native ""
compare source_lists_aarch64 aarch64-linux-gnu- -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64
