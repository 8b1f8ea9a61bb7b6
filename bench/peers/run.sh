#!/usr/bin/env bash
# Installs the peers that are named (all without names) and compares. See README.md.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
vexil=build/release/vexil
work=/tmp/vexil-peers
threads=$(nproc)
peers=()
while (($#)); do
  case $1 in
    --vexil) vexil=$2 && shift 2 ;;
    --work) work=$2 && shift 2 ;;
    --threads) threads=$2 && shift 2 ;;
    ggml | torch | transformers) peers+=("$1") && shift ;;
    *) echo "run.sh: unknown argument $1 (see bench/peers/README.md)" >&2 && exit 2 ;;
  esac
done
((${#peers[@]})) || peers=(ggml torch transformers)
# Their weights in large pages, as ours are: glibc asks for them for what malloc maps.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
mkdir -p "$work"
[[ -x $work/venv/bin/python ]] || python3 -m venv "$work/venv"
python=$work/venv/bin/python

build_ggml() {
  [[ -x $work/ggml_peer ]] && return
  "$python" -m pip download -q --no-deps --no-binary llama-cpp-python llama-cpp-python -d "$work/sdist"
  mkdir -p "$work/src" && tar xzf "$work"/sdist/llama_cpp_python-*.tar.gz -C "$work/src" --strip-components=1
  local ggml=$work/src/vendor/llama.cpp/ggml
  touch "$ggml/ggml.pc.in"  # left out of the source distribution; only an installation would read it
  cmake -S "$ggml" -B "$work/ggml" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
    -DGGML_OPENMP=OFF -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF > "$work/ggml.log"
  cmake --build "$work/ggml" >> "$work/ggml.log"
  g++ -std=c++20 -O2 -I"$ggml/include" "$here/ggml_peer.cc" "$work"/ggml/src/libggml.a "$work"/ggml/src/libggml-cpu.a \
    "$work"/ggml/src/libggml-base.a -pthread -ldl -o "$work/ggml_peer"
}

for peer in "${peers[@]}"; do
  case $peer in
    ggml)
      build_ggml
      "$work/ggml_peer" "$threads" > "$work/ggml.jsonl"
      ;;
    torch)
      "$python" -c 'import torch' 2> /dev/null || "$python" -m pip install -q torch numpy
      "$python" "$here/torch_peer.py" --threads "$threads" > "$work/torch.jsonl"
      ;;
    transformers)
      "$python" -c 'import transformers' 2> /dev/null || "$python" -m pip install -q torch transformers
      "$python" "$here/transformers_peer.py" --threads "$threads" --tiny "$here/../../models/tiny" > "$work/transformers.jsonl"
      "$vexil" bench model --batch 1 --context 512 --prompt 512 --csv "$work/vexil_tiny.csv"
      "$vexil" bench layer --json "$work/vexil_layer.jsonl"
      ;;
  esac
done
[[ ${peers[*]} == transformers ]] || {
  case=w=
  [[ " ${peers[*]} " == *" ggml "* ]] || case=x=BF16,w=BF16  # all that PyTorch has
  "$vexil" bench ops --op linear --case "$case" --json "$work/linear.jsonl" > /dev/null
  "$vexil" bench ops --op grouped_linear --case "$case" --json "$work/grouped.jsonl" > /dev/null
}
"$python" "$here/compare.py" "$work"
