#!/bin/sh
# moe-train plot as a user meets it: what it prints, its exit codes, that it never leaves half a file.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh

plot() { try "$bin/moe-train" plot "$@"; }

header=kind,step,tokens,seconds,loss,narrow_loss,kl,switch,z,diversity,rate,grad_norm,tokens_per_s,layer,name,value,values
log=$work/log.csv
{
  echo $header
  echo 'event,0,,,,,,,,,,,,,start,,"a ""config"""'
  awk 'BEGIN { for (s = 1; s <= 100; ++s) printf "step,%d,%d,%g,%g,,,,,,0.001,1,5000,,,,\n", s, s * 1000, s / 2, 2 + 5 / s }'
  echo 'usage,100,,,,,,,,,,,,0,,0.2,0.4 0.6'
  echo 'valid,100,,,2.5,,,,,,,,,,all,1.25,'
  printf 'step,101,1'
} > "$log"

plot --help
check plot_help 0 out --width out LOG
plot "$log" -o "$work/a.png"
if [ "$rc" = 1 ] && grep -q 'writes no PNG' "$work/err"; then
  check plot_without_stb 1 err libstb-dev
  exit 0
fi
check plot 0 out "$work/a.png" out "103 rows" out "step 100" out "100 k tokens" out "1.250 bits a byte"
plot "$log" -o "$work/b.png" --width 900 --height 800 --title "my run" --json
check plot_json 0 out '"width": 900' out '"height": 800' out '"last_step": 100' out '"loss": 2.05' out '"bits_per_byte": 1.25' out '"start": 1'
plot "$log" -o "$work/c.png"
if cmp -s "$work/a.png" "$work/c.png"; then echo "ok plot_is_the_same_every_time"; else echo "FAIL plot_is_the_same_every_time"; fi

plot "$work/none.csv" -o "$work/x.png"
check plot_of_no_file 1 err none.csv
plot "$log" -o "$log"
check plot_refuses_to_write_over_its_log 2 err log.csv
plot "$log"
check plot_wants_a_file_to_write 2 err --out
plot "$log" -o "$work/x.png" --width 10
check plot_wants_room 2 err --width
plot "$log" -o "$work/no/such/x.png"
check plot_into_no_folder 1 err no/such
plot README.md -o "$work/x.png"
check plot_of_another_file 1 err "README.md: line 1" err "wanted the header"
echo $header > "$work/empty.csv"
plot "$work/empty.csv" -o "$work/x.png"
check plot_of_no_rows 1 err "holds no rows"
{ cat "$log" && echo ',x,'; } > "$work/bad.csv"
plot "$work/bad.csv" -o "$work/x.png"
check plot_names_the_bad_line 1 err "bad.csv: line 105"
if [ -e "$work/x.png" ]; then echo "FAIL plot_leaves_nothing_behind_errors"; else echo "ok plot_leaves_nothing_behind_errors"; fi
