#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What including and using the library costs at compile time: seconds of processor time (the median of REPEATS
# compilations, with those of the unit before in turn) and bytes of object code.
#
#   benchmarks/compile_cost.sh [--check]      # --check: exit with 1 when a limit is missed
#   CXX=clang++ EIGEN=path/to/eigen REPEATS=9 benchmarks/compile_cost.sh
set -euo pipefail
export LC_ALL=C  # decimal points
here=$(cd "$(dirname "$0")" && pwd)
cxx=${CXX:-g++}
repeats=${REPEATS:-5}
eigen=${EIGEN:-$(pkg-config --variable=prefix eigen3 2>/dev/null || echo /usr)/include/eigen3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# name, optimization, what layers.cpp is to hold
units=(
  "eigen_O0      -O0 -DBENCH_ONLY_EIGEN"
  "include_O0    -O0 -DBENCH_LAYERS=0"
  "include_O2    -O2 -DBENCH_LAYERS=0"
  "one_layer     -O2 -DBENCH_LAYERS=1"
  "ten_layers    -O2 -DBENCH_LAYERS=10"
  "one_native    -O2 -DBENCH_LAYERS=1 -march=native"
  "ten_native    -O2 -DBENCH_LAYERS=10 -march=native"
  "kernels       -O2 -DBENCH_LAYERS=0 -DBENCH_KERNELS=TENSORNORM_DEFINE_KERNELS"
  "one_beside    -O2 -DBENCH_LAYERS=1 -DBENCH_KERNELS=TENSORNORM_DECLARE_KERNELS"
  "ten_beside    -O2 -DBENCH_LAYERS=10 -DBENCH_KERNELS=TENSORNORM_DECLARE_KERNELS"
)

compile() { # unit's name, flags
  "$cxx" -std=c++20 -DNDEBUG "${@:2}" -I "$here/../include" -isystem "$eigen" -c "$here/compile_cost/layers.cpp" \
    -o "$out/$1.o"
}

compile include_O0 -O0 -DBENCH_LAYERS=0  # untimed: the first one reads compiler and headers from the disk
TIMEFORMAT='%U %S'
for ((i = 0; i < repeats; ++i)); do
  for unit in "${units[@]}"; do
    read -r name flags <<<"$unit"
    # shellcheck disable=SC2086  # a list of flags
    { time compile "$name" $flags 2>&3; } 3>&2 2>>"$out/$name.times"
  done
done

median() { awk '{ print $1 + $2 }' "$out/$1.times" | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'; }
code() { size -A "$out/$1.o" | awk '$1 ~ /^\.(text|rodata|data)/ { bytes += $2 } END { print bytes + 0 }'; }

printf '%s\n\n%-12s %9s %12s %12s\n' "$("$cxx" --version | head -n 1)" unit seconds "object, B" "code, B"
for unit in "${units[@]}"; do
  read -r name _ <<<"$unit"
  printf '%-12s %9.2f %12d %12d\n' "$name" "$(median "$name")" "$(stat -c %s "$out/$name.o")" "$(code "$name")"
done
echo

missed=0
limit() { # what, value, limit
  local verdict=ok
  if awk -v v="$2" -v l="$3" 'BEGIN { exit !(v > l) }'; then verdict=MISSED missed=1; fi
  printf '%-6s %-62s %6.2f <= %.2f\n' "$verdict" "$1" "$2" "$3"
}
calculate() { awk "BEGIN { print $1 }"; }
limit "include, seconds beyond Eigen's Tensor header, -O0" "$(calculate "$(median include_O0) - $(median eigen_O0)")" 0.6
limit "one layer instantiated, seconds beyond the include, -O2" "$(calculate "$(median one_layer) - $(median include_O2)")" 2.0
limit "the same beside kernels compiled once" "$(calculate "$(median one_beside) - $(median include_O2)")" 2.0
limit "ten layers in one unit: time over that of one" "$(calculate "$(median ten_layers) / $(median one_layer)")" 2.0
limit "ten layers in one unit: object size over that of one" \
  "$(calculate "$(stat -c %s "$out/ten_layers.o") / $(stat -c %s "$out/one_layer.o")")" 2.0
[ "${1:-}" != --check ] || exit "$missed"
