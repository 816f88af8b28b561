#!/bin/bash
# SPDX-License-Identifier: MIT
# The test suite over compilers, flags, Eigen versions and machines; a table at the end. Needs cmake/setup.sh's word
# `matrix`.
#   tests/matrix.sh [--eigen5 DIR] [--tests REGEX] [--fuzz SECONDS] [--build DIR] [--jobs N] [--list] [row...]
# --eigen5  the include folder of an Eigen 5 (the one that holds Eigen/ and unsupported/), for the row eigen5
# --tests   only tests whose name matches, as layers.laws_test: a trial instead of the suite
# --fuzz    how long the row fuzz looks for faults; default 300
# --build   where to build; default build/matrix. Each row keeps its folder there.
# Without rows all of them. A row that this machine cannot run says so and is no pass. Exit status: 0 if every row
# passed, 1 if one failed, 2 if none failed and some could not be run.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

eigen5='' only=. fuzz=300 build=build/matrix jobs=$(nproc)
declare -a wanted=()
list=0
while (($# > 0)); do
  case "$1" in
    --eigen5) eigen5=$2; shift ;;
    --tests) only=$2; shift ;;
    --fuzz) fuzz=$2; shift ;;
    --build) build=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    --list) list=1 ;;
    -*) echo "matrix.sh: unknown option $1" >&2; exit 1 ;;
    *) wanted+=("$1") ;;
  esac
  shift
done

mapfile -t executables < <(sh tests/executables.sh)

# Tests that neither throw nor catch: what can be built without exceptions. tests/odr has what an error does then.
without_exceptions='^(axes\.|core\.parallel|kernels\.|ops\.(forward_op|schedule)|stats\.saved_stats|layers\.backward_(device|holders))'
# Where all of a program is built with -ffast-math: accuracy is promised for means up to 100 deviations; NaN, infinity, a mean of
# twice the digits, what lies within a factor of two of the largest number, and the same bits by two walks are not.
fast_math='^(kernels\.welford|ops\.functional_test|stats\.|layers\.layer_norm)'
not_fast_math='-*.NothingHasNoMeanAndNoVariance:*.OneNumberHasVarianceZeroAndNoUnbiasedOne:*.TheMeanIsCarriedTwiceAsPrecisely'
not_fast_math+=':*.TheDeviationsOfManySetsAreAddedUpTwiceAsPrecisely:*.AveragesOverThousandsOfImages'
not_fast_math+=':*.NaNsAndInfinitiesAreData:*.MomentumOneForgetsWhatWasNotFinite:*.TheMeanIsNotRoundedToTheScalar'
not_fast_math+=':*.AveragesOfTheLargestNumbers:*.ARowIsTheSameAmongFewAndAmongMany:*.EachFeatureMovesAsAlone'
# For valgrind, which is slow: none with an operator new of their own, none that need long double's 80 bits.
memory='^(core\.tensor|ops\.(functional|remembered_plan|schedule)|layers\.(backward_holders|few_rows|group_norm|layer_norm|misuse|repeated_calls|transposed_rows|weighted_rows))'
# Without threads, which qemu-i386 does not come back from.
with_threads='-Scratch.*:ParallelFor.CoversEachPieceOnce:ParallelFor.AllocatesNothing:UsefulThreads.*:ThreadsOf*:OneRow.NeedsNoMemory'
i686='^(core\.|axes\.|kernels\.|stats\.|ops\.(finished|forward|functional|gradient|moments|schedule|backward)|support\.|properties\.'
i686+='|layers\.(batch|group|instance|layer|rms)_norm|layers\.(few_rows|one_row|transposed_rows|weighted_rows|normalization|laws|narrow|scalar|faults|value|scales|long_sums|environment)'
i686+='|layers\.backward_(test|golden|holders)|accuracy$)'
# Where registers have more digits than their numbers, bounds hold, and bits are not promised.
x87='^(accuracy$|stats\.|layers\.(layer_norm|group_norm|instance_norm|rms_norm|backward_golden|scales|long_sums))'
not_x87='-*.ARowIsTheSameAmongFewAndAmongMany:*.Rows44To46OrdinaryNeighboursKeepTheirBits:*.Row39OneInfiniteElement'
not_x87+=':*.Row46OneSmallElementAmongZeros'
threads='^(core\.(parallel|scratch)|layers\.(threads|backward_device)|properties\.)'

newest() {  # <command prefix> <version>...: the first that is there
  local prefix=$1
  shift
  for version in "$@"; do
    if command -v "$prefix$version" > /dev/null; then
      echo "$prefix$version"
      return
    fi
  done
}
clang=$(newest clang++- 22 21 20 19 18 17 16 15 14)
gcc=$(newest g++- 17 16 15 14 13 12)

# row <name> <what> <compiler> <tests> [cmake argument]...
# tests: suite, executables, a regex, all that is built, or "run <row whose build it is> <target> <command there>"
declare -a table=()
row() {
  local name=$1 what=$2 compiler=$3 tests=$4
  shift 4
  if ((list)); then
    printf '%-14s %s\n' "$name" "$what"
    return
  fi
  if ((${#wanted[@]} > 0)) && [[ " ${wanted[*]} " != *" $name "* ]]; then return; fi
  local start=$SECONDS result
  printf '\n==> %s: %s\n' "$name" "$what"
  result=$(missing "$name" "$compiler")
  if [[ -z $result ]]; then
    mkdir -p "$build/$name"
    run "$build/$name" "$compiler" "$tests" "$@" > "$build/$name/log" 2>&1
    result=$(verdict "$build/$name" $?)$(bits "$name")
  else
    result="not run: $result"
  fi
  echo "$result"
  table+=("$(printf '%-14s %-58s %5d s  %s' "$name" "$what" $((SECONDS - start)) "$result")")
}

# What this machine lacks for a row.
missing() {
  local name=$1 compiler=$2
  if [[ -z $compiler ]] || ! command -v "$compiler" > /dev/null; then
    echo "no ${compiler:-clang++-<version>}"
  elif [[ $name == eigen5 && ! -e $eigen5/Eigen/Core ]]; then
    echo "--eigen5 names no Eigen"
  elif [[ $name == valgrind ]] && ! command -v valgrind > /dev/null; then
    echo "no valgrind"
  elif [[ $compiler == *-linux-gnu-g++ ]]; then
    if ! emulator "${compiler%%-*}" > /dev/null; then echo "no qemu of ${compiler%%-*}"; fi
    if [[ ! -e /usr/src/googletest/CMakeLists.txt ]]; then echo "no /usr/src/googletest to build for it"; fi
  fi
}

run() (
  local folder=$1 compiler=$2 tests=$3
  local -a words=()
  shift 3
  rm -f "$folder"/digest*
  if [[ $tests == run\ * ]]; then
    read -ra words <<< "$tests"
    if [[ ! ${words[2]} =~ $only ]]; then return 13; fi
    folder=$build/${words[1]}
  fi
  set -x
  cmake -S . -B "$folder" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=None -DTENSORNORM_BUILD_TESTS=ON \
    -DTENSORNORM_BUILD_EXAMPLES=OFF -DTENSORNORM_WERROR=ON "$@" || return 10
  if [[ ($tests == suite && $only == .) || $tests == all ]]; then
    if [[ $only != . ]]; then return 13; fi
    cmake --build "$folder" --parallel "$jobs" || return 11
    ctest --test-dir "$folder" --parallel "$jobs" --output-on-failure --no-tests=error || return 12
    digest "$folder" || return 14
    return 0
  fi
  if ((${#words[@]} > 0)); then
    cmake --build "$folder" --parallel "$jobs" --target "${words[2]}" || return 11
    cd "$folder" && "${words[@]:3}" || return 15
    return 0
  fi
  local -a names=()
  set +x
  for test in "${executables[@]}"; do
    if [[ $test =~ $only ]] && [[ $tests == suite || $tests == executables || $test =~ $tests ]]; then names+=("$test"); fi
  done
  set -x
  if ((${#names[@]} == 0)); then return 13; fi
  local regex large='(\.large)?'
  if [[ $compiler == s390x-* || $compiler == riscv64-* ]]; then large=''; fi  # 2^31 numbers take such an emulator over an hour
  regex="^($(IFS='|'; echo "${names[*]}"))$large\$"
  cmake "$folder" -DTENSORNORM_TESTS="$regex" || return 10
  cmake --build "$folder" --parallel "$jobs" --target chosen_tests || return 11
  ctest --test-dir "$folder" --parallel "$jobs" --output-on-failure --no-tests=error --tests-regex "$regex" || return 12
  digest "$folder" || return 14
)

commit=$(git describe --always --dirty 2> /dev/null)

# Keeps what the same calls give here, bit by bit, and at which commit.
digest() {
  local folder=$1 test=$1/tests/properties.properties_test
  local -a emulator=()
  if [[ ! -x $test ]]; then return 0; fi
  IFS=';' read -ra emulator < <(sed -n 's/^CMAKE_CROSSCOMPILING_EMULATOR:.*=//p' "$folder/CMakeCache.txt")
  "${emulator[@]}" "$test" --gtest_filter='*.Digest*' | grep '^digest ' > "$folder/digest" || return
  echo "$commit" > "$folder/digest.commit"
}

# The bits of a row beside those of g++ 12 on this machine: all with fused multiply-add, which the emulated ones have; i686 has none.
bits() {
  local name=$1 of=digest
  if [[ $name == i686* ]]; then return; fi
  if [[ $name == aarch64 || $name == riscv64 || $name == s390x ]] && ! grep -q '^flags.* fma ' /proc/cpuinfo; then
    echo ', bits not compared: this machine has no fused multiply-add'
    return
  fi
  if [[ $name == gcc12 || ! -e $build/$name/$of ]]; then return; fi
  if [[ $(cat "$build/gcc12/$of.commit" 2> /dev/null) != "$commit" ]]; then
    echo ', bits not compared: the row gcc12 has not run at this commit'
  elif cmp -s "$build/$name/$of" "$build/gcc12/$of"; then
    echo ", the same bits as gcc12"
  else
    echo ", FAILED to give the bits of gcc12: $(diff "$build/gcc12/$of" "$build/$name/$of" | grep -c '^>') types of 8"
  fi
}

verdict() {
  local log=$1/log passed
  passed=$(sed -nE 's/.* tests passed, [0-9]+ tests failed out of ([0-9]+)$/\1/p' "$log" | tail -1)
  case "$2" in
    0) echo "passed${passed:+: $passed tests}$(skipped "$log")" ;;
    10) echo "FAILED to configure: $log" ;;
    11) echo "FAILED to build: $(grep -m1 -E 'error|Error' "$log") ($log)" ;;
    13) echo "not run: --tests leaves none" ;;
    14) echo "FAILED to say its bits: $log" ;;
    15) echo "FAILED: $(grep -v '^+' "$log" | tail -1) ($log)" ;;
    *) echo "FAILED of $passed tests: $(sed -nE 's/^[[:space:]]+[0-9]+ - ([^ ]+) \((.*)\)$/\1/p' "$log" | sort -u | tr '\n' ' ')($log)" ;;
  esac
}
skipped() {
  local count
  count=$(grep -c 'did not run' "$1")
  if ((count > 0)); then echo ", some of them skipped"; fi
}

# What cross-compiled tests run on. The machine's googletest is built with them.
emulated() {
  local machine=$1 words
  shift
  words=$(emulator "$machine")
  printf '%s\n' -DCMAKE_SYSTEM_NAME=Linux "-DCMAKE_SYSTEM_PROCESSOR=$machine" \
    "-DCMAKE_CROSSCOMPILING_EMULATOR=$words" -DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON \
    -DFETCHCONTENT_SOURCE_DIR_GOOGLETEST=/usr/src/googletest "$(flags -O2 -DNDEBUG "$@")"
}
# emulator <machine>: what runs its programs, with a semicolon between words.
emulator() {
  local of=${1/i686/i386} command
  command=$(command -v "qemu-$of-static" || command -v "qemu-$of") && echo "$command;-L;/usr/$1-linux-gnu"
}
# For g++: less collecting of garbage, a twentieth of its time.
flags() { echo "-DCMAKE_CXX_FLAGS=--param=ggc-min-heapsize=1000000 $*"; }
mapfile -t aarch64 < <(emulated aarch64)
# Where vectors are of one number, g++ 12 warns of what the 2^62nd round of a loop over one row would do.
mapfile -t riscv64 < <(emulated riscv64 -Wno-aggressive-loop-optimizations)
# Its g++ 12 calls a library for exchanges of one byte, which Eigen's thread pool has.
riscv64+=(-DCMAKE_CXX_STANDARD_LIBRARIES=-latomic)
mapfile -t s390x < <(emulated s390x -Wno-aggressive-loop-optimizations)
mapfile -t with_sse2 < <(emulated i686 -msse2 -mfpmath=sse)
mapfile -t with_x87 < <(emulated i686 -Wno-aggressive-loop-optimizations)

# A target named as the package's is taken for Eigen: these headers, wherever they lie.
if ((!list)); then
  mkdir -p "$build"
  printf 'add_library(Eigen3::Eigen INTERFACE IMPORTED)\ntarget_include_directories(Eigen3::Eigen INTERFACE "%s")\n' \
    "$(realpath -m "${eigen5:-none}")" > "$build/eigen5.cmake"
fi

release=$(flags -O2 -DNDEBUG)
clang_release='-DCMAKE_CXX_FLAGS=-O2 -DNDEBUG'
row gcc11 'g++ 11, the oldest, no precompiled headers' g++-11 suite "$release" -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON
row gcc12 'g++ 12' g++-12 suite "$release"
row clang "the newest clang: ${clang:-none}" "$clang" suite "$clang_release"
row clang14 'clang 14' clang++-14 suite "$clang_release"
row sanitize 'AddressSanitizer and UndefinedBehaviorSanitizer, assertions on' g++-12 executables "$(flags -Og -g1)" \
  -DTENSORNORM_SANITIZE=address,undefined
# Each test runs in it as cross-compiled ones do in qemu. A form of vmovq that g++ writes for AVX2 is unknown to it.
TENSORNORM_DISPATCH=baseline row valgrind 'valgrind, some tests, at the baseline' g++-12 "$memory" "$(flags -O1 -g1)" \
  '-DCMAKE_CROSSCOMPILING_EMULATOR=valgrind;--quiet;--error-exitcode=9'
row fuzz "libFuzzer, $fuzz s" clang++-14 "run fuzz layers_fuzz tests/fuzz/layers_fuzz -max_total_time=$fuzz" "$clang_release" \
  -DTENSORNORM_BUILD_TESTS=OFF -DTENSORNORM_BUILD_FUZZERS=ON
row accuracy 'accuracy on up to 2^24 numbers per statistic' g++-12 'run gcc12 accuracy tests/accuracy --full' "$release"
row properties '10,000 random cases, others each time' g++-12 \
  'run gcc12 properties.properties_test env TENSORNORM_PROPERTY_CASES=10000 tests/properties.properties_test' "$release"
row o0 '-O0, assertions on' g++-12 executables "$(flags -O0)"
# With AVX-512 g++ 12 warns of its own header, where Eigen's vectors use it.
row o3-native '-O3 -march=native' g++-12 suite "$(flags -O3 -march=native -DNDEBUG -Wno-maybe-uninitialized)"
row no-exceptions '-fno-exceptions -fno-rtti, tests that throw nothing' g++-12 "$without_exceptions" "$(flags -O2 -fno-exceptions -fno-rtti)"
GTEST_FILTER=$not_fast_math row fast-math '-O3 -ffast-math, tests of ordinary numbers' g++-12 "$fast_math" "$(flags -O3 -ffast-math -DNDEBUG)"
row no-vectorize 'EIGEN_DONT_VECTORIZE, _GLIBCXX_ASSERTIONS' g++-12 executables "$(flags -O2 -DEIGEN_DONT_VECTORIZE -D_GLIBCXX_ASSERTIONS)"
row eigen5 "Eigen $(sed -nE 's/^#define EIGEN_(MAJOR|MINOR|PATCH)_VERSION ([0-9]+)$/\2/p' "$eigen5/Eigen/Version" 2> /dev/null | paste -sd.) with the newest g++: ${gcc:-none}" \
  "$gcc" executables "$release" "-DCMAKE_PROJECT_TOP_LEVEL_INCLUDES=$(realpath -m "$build")/eigen5.cmake"
row benchmarks 'the benchmarks build, and their contenders agree' g++-12 all "$release" -DTENSORNORM_BUILD_TESTS=OFF \
  -DTENSORNORM_BUILD_BENCHMARKS=ON
# Eigen's pool has fences, which g++ warns that the sanitizer does not see.
row tsan 'ThreadSanitizer, tests with threads' g++-12 "$threads" "$(flags -O1 -g1 -Wno-tsan)" -DTENSORNORM_SANITIZE=thread
row aarch64 'aarch64 (NEON) under qemu' aarch64-linux-gnu-g++ executables "${aarch64[@]}"
row riscv64 'riscv64 under qemu' riscv64-linux-gnu-g++ executables "${riscv64[@]}"
row s390x 's390x (big endian) under qemu' s390x-linux-gnu-g++ executables "${s390x[@]}"
GTEST_FILTER=$with_threads row i686 '32 bits: i686 with SSE2, under qemu, tests without threads' i686-linux-gnu-g++ "$i686" "${with_sse2[@]}"
GTEST_FILTER=$not_x87 row i686-x87 'i686, whose registers have more digits, some tests' i686-linux-gnu-g++ "$x87" "${with_x87[@]}"
if ((list)); then exit 0; fi

printf '\n%s on %s\n' "$commit" "$(sed -nE 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
printf '%s\n' "${table[@]}"
case "${table[*]}" in
  *FAILED*) exit 1 ;;
  *'not run'*) exit 2 ;;
esac
