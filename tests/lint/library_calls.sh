#!/bin/sh
# The library is a guest in somebody's program: it never aborts, exits or prints, and has no state of its own.
set -u
cd "$(dirname "$0")/../.." || exit 1
library=${BUILD:-build}/lib/libmoe.a
nm=${NM:-nm}

# Words of the source, outside of comments and strings; snprintf and friends that write to memory are fine.
words='abort|exit|_exit|_Exit|quick_exit|terminate|printf|vprintf|fprintf|vfprintf|puts|fputs|putchar|fputc|perror|assert'
# shellcheck disable=SC2016  # awk's dollars
find core tensor backends models evolution \( -name '*.h' -o -name '*.hpp' -o -name '*.cpp' -o -name '*.inl' -o -name '*.def' \) \
  2> /dev/null | sort | xargs -r awk -v words="$words" '
  FNR == 1 { in_comment = 0 }
  {
    line = $0
    gsub(/\\./, "", line)         # escapes
    gsub(/"[^"]*"/, "\"\"", line) # strings
    if (in_comment) { if (!sub(/^.*\*\//, "", line)) next; in_comment = 0 }
    gsub(/\/\*([^*]|\*[^\/])*\*\//, "", line)
    sub(/\/\/.*/, "", line)
    if (sub(/\/\*.*/, "", line)) in_comment = 1
    if (line ~ "(^|[^A-Za-z0-9_.>])(std::)?(" words ")[[:space:]]*\\(" ||
        line ~ /std::(cout|cerr|clog|print)([^A-Za-z0-9_]|$)/ || line ~ /(^|[^A-Za-z0-9_])(stdout|stderr)([^A-Za-z0-9_]|$)/) {
      print FILENAME ":" FNR ": " $0
      ++bad
    }
  }
  END { if (bad) print "FAIL library_source_is_silent " bad " lines"; else print "ok library_source_is_silent" }'

if [ ! -e "$library" ]; then
  echo "FAIL library_symbols_are_silent no $library; run make first"
  exit
fi

# What it asks of others. std::terminate is not in the list: the standard library calls it in the inlined destructor of a
# joinable std::thread and at the end of a noexcept function.
called=$("$nm" -u "$library" | awk '$1 == "U" { print $2 }' | sort -u | grep -xE \
  "abort|exit|_exit|_Exit|quick_exit|__assert_fail|v?f?printf|__v?f?printf_chk|f?puts|putchar|f?putc|perror|syslog|system|raise|kill|stdout|stderr|_ZSt4cout|_ZSt4cerr|_ZSt4clog|_ZNSt8ios_base4InitC1Ev")
if [ -n "$called" ]; then
  "$nm" -uA "$library" | grep -wF "$called"
  echo "FAIL library_symbols_are_silent $(echo "$called" | tr '\n' ' ')"
else
  echo "ok library_symbols_are_silent"
fi

# What runs before main() or can change behind a caller's back: static constructors and variables in .data, .bss or thread
# storage. Constants (.data.rel.ro) and constants inside of functions (_ZZ, with guard _ZGV) are fine.
state=$("$nm" -A -f sysv "$library" | awk -F'|' '
  { name = $1; sub(/^.*:/, "", name); gsub(/ /, "", name); section = $NF; gsub(/ /, "", section) }
  name ~ /^_GLOBAL__sub_I_/ || (section ~ /^\.(data|bss|tdata|tbss)/ && section !~ /^\.data\.rel\.ro/ &&
    name !~ /^(_ZZ|_ZGV|DW\.ref\.)/ && $0 ~ /OBJECT|TLS/) { print $1 "  " section }')
if [ -n "$state" ]; then
  echo "$state"
  echo "FAIL library_has_no_state $(echo "$state" | wc -l) static constructors or global variables"
else
  echo "ok library_has_no_state"
fi
