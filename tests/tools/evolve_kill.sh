#!/bin/sh
# moe-evolve killed with SIGKILL at random moments, resumed until it is done: front, topologies and journal are those of a run
# that nobody stopped.
#
#   tests/tools/evolve_kill.sh [KILLS [SEED]]        default: 4 1; make bench-evolution-kills runs 200
#
# Moments are uniform over the length of the run. Every fourth run is hit within its first milliseconds, every third again in
# what resumes it.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh
kills=${1:-4} seed=${2:-1}
. tests/evolve_checks.sh

now() { date +%s%N; }
begin=$(now)
evolve "$model" "$@" -o "$work/whole" --generations 5 -t 1
check evolve_kill_undisturbed_run 0
whole=$((($(now) - begin) / 1000000)) # milliseconds
run_facts "$work/whole" > "$work/a"

# Runs or resumes until so many milliseconds are over, then kills. Sets stopped to 1 where that came before the end.
run_until() {
  "$bin/moe-evolve" "$model" "$@" -o "$work/killed" --generations 5 --resume -t 1 > "$work/out" 2> "$work/err" &
  pid=$!
  sleep "$(awk -v ms="$delay" 'BEGIN { print ms / 1000 }')"
  kill -9 $pid 2> /dev/null
  wait $pid 2> /dev/null
  stopped=$(($? == 137))
  hits=$((hits + stopped))
  [ $stopped = 1 ] || return
  case $(grep -c . "$work/killed/journal.jsonl" 2> /dev/null) in
    '' | 0) before=$((before + 1)) ;;
    1) early=$((early + 1)) ;;
    *) later=$((later + 1)) ;;
  esac
}

hits=0 before=0 early=0 later=0 runs=0 different=0
awk -v seed="$seed" -v n=$((4 * kills)) -v whole="$whole" 'BEGIN {
  srand(seed)
  for (i = 0; i < n; ++i) print int(rand() * (i % 4 == 3 ? 20 : whole)), i % 3 == 2 ? int(rand() * whole) : -1
}' > "$work/moments"
while [ $hits -lt "$kills" ] && read -r first second <&3; do
  rm -rf "$work/killed"
  runs=$((runs + 1))
  for delay in $first $second; do
    [ "$delay" -lt 0 ] || run_until "$@"
  done
  evolve "$model" "$@" -o "$work/killed" --generations 5 --resume -t 1
  run_facts "$work/killed" > "$work/b" 2>&1
  if [ "$rc" != 0 ] || ! cmp -s "$work/a" "$work/b"; then
    different=$((different + 1))
    echo "run $runs, killed after $first and $second ms: exit status $rc, $(head -n 1 "$work/err")" >> "$work/differences"
  fi
done 3< "$work/moments"
[ $different = 0 ] || head -n 5 "$work/differences"
is evolve_kill_ends_alike "$different of $runs" "0 of $runs"
is evolve_kill_came_in_time $((hits >= kills)) 1
echo "# $hits kills in $runs runs of $whole ms: $before before there was a journal, $early in its first line or behind it, $later later"
