#!/bin/sh
# All of libmoe.a links with the C++ standard library and threads, and nothing else.
set -u
cd "$(dirname "$0")/../.." || exit 1
library=${BUILD:-build}/lib/libmoe.a
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

echo 'int main() {}' > "$work/main.cpp"
if ! ${CXX:-g++} "$work/main.cpp" -Wl,--whole-archive "$library" -Wl,--no-whole-archive -pthread -o "$work/all" > "$work/log" 2>&1; then
  head -n 40 "$work/log"
  echo "FAIL standalone $library does not link with -pthread alone"
  exit
fi
extra=$(LC_ALL=C readelf -d "$work/all" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
  grep -vE '^(libstdc\+\+|libm|libgcc_s|libc|libpthread|ld-linux-[a-z0-9-]+)\.so\.[0-9]+$')
if [ -n "$extra" ]; then
  echo "FAIL standalone needs $(echo "$extra" | tr '\n' ' ')"
else
  echo "ok standalone"
fi
