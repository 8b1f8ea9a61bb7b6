#!/usr/bin/env bash
# Cross-compiles the portable kernels for aarch64 and runs the conformance test under user-mode emulation.
# Usage: aarch64_conformance.sh BUILD_DIR [GTEST_FILTER]
#   BUILD_DIR: a configured build folder of this tree (its generated/ holds the registrations of the ops)
# Exit status 77: skipped, with the reason on standard error.
set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
build=$(cd -- "$1" && pwd)
filter=${2:-*}
compiler=aarch64-linux-gnu-g++
gtest=/usr/src/googletest/googletest

skip() {
  echo "aarch64_conformance: skipped: $1" >&2
  exit 77
}
command -v "$compiler" > /dev/null || skip "no $compiler (package g++-aarch64-linux-gnu)"
command -v qemu-aarch64 > /dev/null || skip "no qemu-aarch64 (package qemu-user)"
[[ -f $gtest/src/gtest-all.cc ]] || skip "no sources of GoogleTest (package googletest)"

out=$build/aarch64
mkdir -p "$out/include"
# Header-only libraries, by themselves: the system's include folder holds headers of the host's C library too.
for name in tl fmt hwy gtest; do
  [[ -e /usr/include/$name ]] || skip "no /usr/include/$name (tools/packages.txt)"
  ln -sfn "/usr/include/$name" "$out/include/$name"
done

cd "$root"
mapfile -t sources < <(
  ls base/arena.cc base/cpu_isa.cc base/host_memory.cc base/processors.cc base/thread_pool.cc device/device.cc testing/conformance.cc \
    testing/conformance_run.cc testing/conformance_main.cc testing/test_device.cc
  find ops -name '*.cc' ! -name '*_test.cc' ! -name '*_bench.cc'
  ls "$build"/generated/register_conformance_*.cc
  echo "$gtest/src/gtest-all.cc"
)

compile() {
  local object=$out/${1//\//_}.o
  ${CMAKE_CXX_COMPILER_LAUNCHER:-} "$compiler" -std=c++20 -O2 -ffp-contract=off -fno-math-errno \
    -Wno-psabi -DFMT_HEADER_ONLY -I. -isystem "$out/include" -I"$gtest" -c "$1" -o "$object"
  echo "$object"
}
export -f compile
export out compiler gtest
objects=$(printf '%s\0' "${sources[@]}" | xargs -0 -P "$(nproc)" -I{} bash -euc 'compile "$1"' _ {})
# shellcheck disable=SC2086  # object names have no spaces
"$compiler" -static -pthread $objects -o "$out/conformance"
qemu-aarch64 "$out/conformance" --gtest_brief=1 --gtest_filter="$filter"
