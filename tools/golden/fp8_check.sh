#!/usr/bin/env bash
# Compares the program's fp8 mode on models/tiny with the NumPy model. Usage: fp8_check.sh VEXIL
set -euo pipefail
vexil=$1
here=$(cd -- "$(dirname -- "$0")" && pwd)
tiny=$here/../../models/tiny
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OPENBLAS_NUM_THREADS=1
python=/usr/bin/python3
"$python" "$here/make_token_sets.py" --tokenizer "$tiny/tokenizer.json" --conversations "$tiny/eval.jsonl" --output "$work/tokens.json"
"$vexil" logits --ckpt-path "$tiny" --tokens "$work/tokens.json" --data-format fp8 --hidden --output "$work/got.safetensors"
"$python" "$here/v4_reference.py" --ckpt-path "$tiny" --tokens "$work/tokens.json" --data-format fp8 --hidden --output "$work/want.safetensors"
"$python" "$here/compare_logits.py" "$work/want.safetensors" "$work/got.safetensors" \
  --max-median 0.013 --max-p90 0.07 --min-argmax 0.99 --min-layer0 0.6
