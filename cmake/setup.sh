#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what tensornorm is built with, on Debian 12 or Ubuntu 24.04 and later.
#   sh cmake/setup.sh [tests] [examples] [benchmarks] [peers] [clang] [fuzz] [coverage] [matrix]
set -eu

packages="g++ cmake make libeigen3-dev"
for want in "$@"; do
  case "$want" in
    tests) packages="$packages libgtest-dev" ;;
    examples) packages="$packages libcli11-dev gnuplot-nox" ;;  # arguments and pictures of examples/training
    benchmarks) packages="$packages libbenchmark-dev" ;;
    peers) packages="$packages libdnnl-dev libtorch-dev gnuplot-nox python3" ;;  # benchmarks/compare.sh and its pictures
    clang) packages="$packages clang" ;;
    fuzz) packages="$packages libgtest-dev clang libclang-rt-dev" ;;
    coverage) packages="$packages libgtest-dev gcovr" ;;  # tests/coverage.sh
    # tests/matrix.sh: the oldest and the newest compilers, libFuzzer, valgrind, and other machines
    matrix) packages="$packages libgtest-dev googletest libbenchmark-dev g++-11 g++-12 clang-14 libclang-rt-14-dev clang-19 valgrind g++-aarch64-linux-gnu g++-riscv64-linux-gnu g++-s390x-linux-gnu g++-i686-linux-gnu qemu-user-static" ;;
    *) echo "setup.sh: unknown word '$want', expected tests, examples, benchmarks, peers, clang, fuzz, coverage or matrix" >&2; exit 2 ;;
  esac
done

missing=
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -z "$missing" ]; then
  exit 0
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup.sh: neither root nor sudo to install:$missing" >&2; exit 1; }
  as_root=sudo
fi
$as_root apt-get update -q
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
