#!/bin/sh
# The library as others use it: installed, from C with one compile line, from CMake, and as README.md shows it.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
cxx=${CXX:-g++}
cc=$(echo "$cxx" | sed 's/clang++/clang/; s/g++/gcc/')
if [ -n "${RUN:-}" ]; then
  echo "skip embed the library is built for another machine"
  exit 0
fi
if ! command -v "${cc%% *}" > /dev/null; then
  echo "skip embed there is no C compiler $cc"
  exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
mkdir "$work/out"

# A library with sanitizers needs them in the program too.
flags=
if ${NM:-nm} "$build/lib/libmoe.a" 2> /dev/null | grep -q __asan_init; then flags="-fsanitize=address,undefined"; fi

# check NAME COMMAND…: ok when it succeeds; what it said otherwise.
check() {
  name=$1
  shift
  if "$@" > "$work/log" 2>&1; then
    echo "ok $name"
  else
    head -n 30 "$work/log"
    echo "FAIL $name $(tail -n 1 "$work/log" | cut -c 1-200)"
    return 1
  fi
}

install_it() {
  case $build in
    */debug | */sanitize | */fuzz) "${MAKE:-make}" install config="${build##*/}" BUILD="${build%/*}" CXX="$cxx" PREFIX="$prefix" ;;
    *) "${MAKE:-make}" install BUILD="$build" CXX="$cxx" PREFIX="$prefix" ;;
  esac
}

# The headers alone, with every warning an error.
headers_compile() {
  echo '#include <moe/evolve.h>' > "$work/only.c" # moe.h is inside of it, and moe.hpp of the other
  echo '#include <moe/evolve.hpp>' > "$work/only.cpp"
  $cc -std=c99 -Wall -Wextra -pedantic -Werror -I "$prefix/include" -fsyntax-only "$work/only.c" &&
    $cxx -x c++ -std=c++11 -Wall -Wextra -pedantic -Werror -I "$prefix/include" -fsyntax-only "$work/only.c" &&
    $cxx -std=c++17 -Wall -Wextra -Wshadow -pedantic -Werror -I "$prefix/include" -fsyntax-only "$work/only.cpp"
}

# Every function that the headers declare is there, and nothing else carries a C name.
symbols_are_ours() {
  sed -n 's/^[A-Za-z].*[ *]\(moe_[a-z_]*\)(.*/\1/p' "$prefix"/include/moe/*.h | grep -v '^moe_.*_fn$' | sort -u > "$work/declared"
  ${NM:-nm} -g --defined-only "$prefix/lib/libmoe.a" 2> /dev/null |
    awk 'NF == 3 && $2 != "u" && $3 !~ /^_Z|^__odr_asan|^DW\.ref/ { print $3 }' | sort -u > "$work/defined"
  [ "$(wc -l < "$work/declared")" -gt 80 ] || { echo "found only $(wc -l < "$work/declared") functions in the headers"; return 1; }
  diff "$work/declared" "$work/defined"
}

versions_agree() {
  header=$(sed -n 's/^#define MOE_VERSION_[A-Z]* \([0-9]*\)$/\1/p' "$prefix/include/moe/moe.h" | paste -s -d .)
  package=$(sed -n 's/^set(PACKAGE_VERSION \([0-9.]*\))$/\1/p' cmake/moeConfigVersion.cmake)
  [ "$header" = "$package" ] || { echo "moe.h says $header, the CMake package $package"; return 1; }
}

# c_app SOURCE MODEL
# shellcheck disable=SC2086  # flags are words on purpose
c_app() {
  $cc -std=c99 -Wall -Wextra -pedantic -Werror "tests/embed/$1" -I"$prefix/include" -L"$prefix/lib" -lmoe -lstdc++ -lm -pthread \
    $flags -o "$work/app-c" && "$work/app-c" "$2" "$work/out"
}

# shellcheck disable=SC2086
cpp_search() {
  $cxx -std=c++17 -Wall -Wextra -pedantic -Werror tests/embed/evolve.cpp -I"$prefix/include" -L"$prefix/lib" -lmoe -pthread \
    $flags -o "$work/evolve-cpp" && "$work/evolve-cpp" "$work/small.gguf" "$work/out"
}

# cmake_app LANGUAGE SOURCE
cmake_app() {
  env -u MAKEFLAGS -u MAKELEVEL cmake -S tests/embed -B "$work/cmake-$1" -DAPP_LANGUAGE="$1" -DAPP="$2" \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_EXE_LINKER_FLAGS="$flags" -DCMAKE_PREFIX_PATH="$prefix" &&
    env -u MAKEFLAGS -u MAKELEVEL cmake --build "$work/cmake-$1" && "$work/cmake-$1/app" "$work/model.gguf" "$work/out"
}

# The first block of C in README.md, compiled by the line that follows it there, where a reader would type it: in the root.
readme_app() {
  mkdir "$work/tree" && ln -s "$PWD/core" "$work/tree/core" && ln -s "$(realpath "$build")" "$work/tree/build" || return 1
  sed -n '/^```c$/,/^```$/p' README.md | sed '/^```c$/d; /^```$/,$d' > "$work/tree/app.c"
  line=$(sed -n 's/^ *\(cc app\.c .*-o app\)$/\1/p' README.md | head -n 1)
  [ -s "$work/tree/app.c" ] && [ -n "$line" ] || { echo "README.md shows no app or no compile line"; return 1; }
  [ "$(grep -c . "$work/tree/app.c")" -le 20 ] || { echo "the app in README.md has more than 20 lines"; return 1; }
  (cd "$work/tree" && sh -c "$cc -Wall -Wextra -Werror $flags ${line#cc}") || return 1
  "$work/tree/app" "$work/model.gguf" "Once upon a time" > "$work/answer" || return 1
  [ -s "$work/answer" ] || { echo "the app printed nothing"; return 1; }
  if "$work/tree/app" /no/such/model.gguf x > /dev/null 2> "$work/complaint"; then echo "a missing model is no error"; return 1; fi
  grep -q /no/such/model.gguf "$work/complaint" || { echo "the missing model is not named"; return 1; }
}

# Every command line of README.md that needs no network and no rights, in its order, in a folder like the root.
readme_commands() {
  sed -n '/^```json$/,/^```$/p' README.md | sed '/^```/d' > "$work/tree/edited.json"
  sed -n 's/^\(build\/bin\/.*\)$/\1/p' README.md > "$work/commands"
  echo 'build/bin/moe-run tiny.gguf --tokens "1 2 3" -n 2 --topology edited.json' >> "$work/commands"
  cp README.md "$work/tree"
  [ "$(wc -l < "$work/commands")" -gt 10 ] || { echo "README.md shows $(wc -l < "$work/commands") commands only"; return 1; }
  while read -r line; do
    echo "$line"
    (cd "$work/tree" && sh -c "$line" < /dev/null) || { echo "exit status $?: $line"; return 1; }
  done < "$work/commands"
}

check install install_it || exit 0
check headers_compile headers_compile
check symbols_are_ours symbols_are_ours
check versions_agree versions_agree
check synth_model "$prefix/bin/moe-inspect" synth --set n_layer=2 --seed 1 -o "$work/model.gguf" || exit 0
check small_model "$prefix/bin/moe-inspect" synth --set n_layer=2 --set n_ctx_train=64 --set d_model=32 --set n_head=2 \
  --set n_kv_head=2 --set head_dim=16 --set d_ff_expert=32 --set d_ff=32 --seed 1 -o "$work/small.gguf"
check c_app c_app app.c "$work/model.gguf"
check c_search c_app evolve.c "$work/small.gguf"
check cpp_search cpp_search
check readme_app readme_app
check readme_commands readme_commands
if command -v cmake > /dev/null; then
  check cmake_c_app cmake_app C app.c
  check cmake_cpp_app cmake_app CXX app.cpp
else
  echo "skip cmake_c_app cmake is not installed"
  echo "skip cmake_cpp_app cmake is not installed"
fi
