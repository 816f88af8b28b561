#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints the executables among the tests, by name. What else CTest runs (packages, headers, promised compile errors, units with
# different flags) configures and compiles for this machine.
cd "$(dirname "$0")" || exit 1
sed -nE 's/^tensornorm_add_test\(([a-z_]+)\/([a-z_0-9]+).*/\1.\2/p' CMakeLists.txt
echo accuracy
