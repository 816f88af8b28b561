#!/bin/bash
# SPDX-License-Identifier: MIT
# Line coverage of include/ by the tests, run at each instruction-set level of this processor (but for those tests that choose
# levels themselves), and of all together; what no test reached is in <build>/lines.txt. Needs cmake/setup.sh's word `coverage`.
#   tests/coverage.sh [--tests REGEX] [--build DIR] [--jobs N] [--least PERCENT]
# --tests  only tests whose name matches, as layers.laws_test: a trial instead of the suite, which covers less
# --build  where to build; default build/coverage
# --least  exit status 1 where all levels together cover less; default 97
set -euo pipefail
cd "$(dirname "$0")/.."

only=. build=build/coverage jobs=$(nproc) least=97
while (($# > 0)); do
  case "$1" in
    --tests) only=$2 ;;
    --build) build=$2 ;;
    --jobs) jobs=$2 ;;
    --least) least=$2 ;;
    *) echo "coverage.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done

levels=(avx2 baseline)
if grep -q '^flags.* avx512vl ' /proc/cpuinfo; then levels=(avx512 "${levels[@]}"); fi
regex="^($(sh tests/executables.sh | grep -E "$only" | paste -sd '|'))\$"

# Counters that threads write to without order lose counts, never lines that were reached.
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=None -DTENSORNORM_BUILD_TESTS=ON -DTENSORNORM_BUILD_EXAMPLES=OFF \
  -DCMAKE_CXX_FLAGS='-O1 -g1 --coverage' -DTENSORNORM_TESTS="$regex"
cmake --build "$build" --parallel "$jobs" --target chosen_tests

report() { gcovr --root . --filter include/ --gcov-ignore-parse-errors -j "$jobs" "$@"; }
traces=()
for level in "${levels[@]}"; do
  find "$build" -name '*.gcda' -delete
  TENSORNORM_DISPATCH=$level ctest --test-dir "$build" --parallel "$jobs" --output-on-failure --no-tests=error \
    --tests-regex "$regex"
  report --object-directory "$build" --json "$build/$level.json" "$build"
  traces+=(--add-tracefile "$build/$level.json")
done

covered() { report "$@" --csv | awk -F, 'NR > 1 { lines += $2; hit += $3 } END { printf "%.1f %d %d", 100 * hit / lines, hit, lines }'; }
say() { printf '%-10s %5s %% of the lines of include/ (%d of %d)\n' "$@"; }
printf '\n'
for level in "${levels[@]}"; do
  # shellcheck disable=SC2046  # three words
  say "$level" $(covered --add-tracefile "$build/$level.json")
done
all=$(covered "${traces[@]}")
# shellcheck disable=SC2086  # three words
say together $all
report "${traces[@]}" > "$build/lines.txt"
awk -v percent="${all%% *}" -v least="$least" 'BEGIN { exit !(percent >= least) }'
