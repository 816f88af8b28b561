#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds a Debian unstable root with today's peers at the folder given, for `compare.sh --root`. Needs root, debootstrap
# and about 7 GB; takes about five minutes.
#   sh benchmarks/peers/setup.sh /srv/peers
set -eu
root=${1:?usage: setup.sh ROOT}
# g++-12 is Debian 12's, for us; torch.compile calls g++, and without libsleef-dev it writes scalar code.
packages="g++-12 g++ cmake make libeigen3-dev libbenchmark-dev libdnnl-dev libtorch-dev python3-torch python3-dev pybind11-dev
  libsleef-dev libonnxruntime-dev libggml-dev libggml0 libxsmm-dev"

# The distribution's mirror of this machine, in either of the two formats.
mirror=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
  sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\).*/\2/p' | head -n 1)
[ -x "$root/usr/bin/apt-get" ] || debootstrap --variant=minbase --include=ca-certificates sid "$root" "$mirror"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/dev" || mount --bind /dev "$root/dev"
# unstable's lists are valid for a week, which a mirror that stands still is behind.
chroot "$root" apt-get update -q -o Acquire::Check-Valid-Until=false
# shellcheck disable=SC2086  # a list of words
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
