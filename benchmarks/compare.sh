#!/bin/sh
# SPDX-License-Identifier: MIT
# The whole comparison: builds the benchmarks, runs them one after the other on one core (threads: on two), and writes
# tables and pictures to benchmarks/results.
#
#   sh benchmarks/compare.sh                       # against the peers that are installed
#   sh benchmarks/compare.sh --root /srv/peers     # in a root made by benchmarks/peers/setup.sh, against those in it
#     --parts "suite variants workloads threads"   # all of them without this option; '': only builds
#     --filter REGEX        cases of the suite, of its variants and of threads
#     --rounds 15           of which the median is taken
#     --core 1              the core to run on; the others should be idle
#     --realtime            with real-time priority, where other programs cannot be stopped
#     --results DIRECTORY   instead of benchmarks/results
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root='' parts='suite variants workloads threads' filter=. rounds=15 core=1 priority='' results=$here/results
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$2; shift ;;
    --parts) parts=$2; shift ;;
    --filter) filter=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --core) core=$2; shift ;;
    --results) results=$2; shift ;;
    --realtime) priority='chrt -f 50' ;;
    *) echo "compare.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
for part in $parts; do
  case $part in
    suite | variants | workloads | threads) ;;
    *) echo "compare.sh: --parts takes suite, variants, workloads and threads, not $part" >&2; exit 2 ;;
  esac
done

for program in python3 gnuplot; do  # asked for at the end, missed now
  command -v "$program" >/dev/null || { echo "compare.sh needs $program: sh cmake/setup.sh benchmarks peers" >&2; exit 1; }
done

source=$(cd "$here/.." && pwd)
build=$source/build/compare
inside='' linker=''
if [ -n "$root" ]; then
  # The sources are copied: a root may not be able to see them.
  mkdir -p "$root/tmp/tensornorm"
  (cd "$source" && tar -c CMakeLists.txt cmake include benchmarks) | tar -x -C "$root/tmp/tensornorm"
  mkdir -p "$root/proc" "$root/dev"
  mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
  mountpoint -q "$root/dev" || mount --bind /dev "$root/dev"
  source=/tmp/tensornorm
  build=/tmp/tensornorm-build
  inside="chroot $root"
  # Debian 12's compiler, whatever the root's own is: its libraries ask for symbols of a later libstdc++, which is there.
  CXX=${CXX:-g++-12}
  linker=-Wl,--allow-shlib-undefined
fi

# shellcheck disable=SC2086  # a list of words
$inside env ${CXX:+CXX="$CXX"} cmake -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" \
  "-DCMAKE_EXE_LINKER_FLAGS=$linker" -DTENSORNORM_BUILD_TESTS=OFF -DTENSORNORM_BUILD_EXAMPLES=OFF -DTENSORNORM_BUILD_BENCHMARKS=ON
$inside cmake --build "$build" --parallel "$(nproc)"

commit=$(git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)
data=$root$build/results
mkdir -p "$data"
failed=0
# run <part> <cores> <program> <arguments>...: where contenders disagree, the exit code is 1; the case stands in the tables as such.
run() {
  part=$1 cores=$2 program=$3
  shift 3
  case " $parts " in *" $part "*) ;; *) return 0 ;; esac
  echo "==> $part"
  rm -f "$data/$part.json"
  # shellcheck disable=SC2086
  $priority taskset -c "$cores" $inside env OMP_NUM_THREADS=1 "$build/benchmarks/$program" --rounds="$rounds" \
    --benchmark_context=commit="$commit" --benchmark_out="$build/results/$part.json" --benchmark_out_format=json "$@" || {
    failed=$?
    [ "$failed" -eq 1 ] || exit "$failed"
  }
}
run suite "$core" peers/bench_peers --benchmark_filter="($filter).*/float/RowMajor/"
run variants "$core" bench_layers --without_eigen_expression --benchmark_filter="($filter).*/(double/|float/ColMajor/)"
run workloads "$core" bench_workloads
run threads 0,1 bench_threads --benchmark_filter="$filter"

[ -z "$parts" ] || python3 "$here/comparison.py" "$data" "$results"
exit "$failed"
