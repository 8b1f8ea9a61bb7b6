#!/usr/bin/env bash
# The peers that run on a GPU and vexil, in one call on one machine. Installs nothing: see README.md for what --work holds.
# Usage: bench/peers/gpu.sh [--vexil PROGRAM] [--work FOLDER] [--python PROGRAM] [--config FILE] [--device cuda|cpu]
#                           [--context N,N] [--prompt N,N] [--layers FEW,MANY] [vexil] [transformers] [flagos] [flagos+gems]
# Prints a table; FOLDER/gpu.json holds the same. An empty list (--context '') leaves the peers' rows of that kind out.
# cpu only checks that the scripts work.
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
vexil=build/cuda/cli/vexil work=/tmp/vexil-peers python=python3 device=cuda
config=$here/../../models/v4-flash/config.json context=512,4096 prompt=8192 layers=4,12
systems=()
while (($#)); do
  case $1 in
    --vexil) vexil=$2 && shift 2 ;;
    --work) work=$2 && shift 2 ;;
    --python) python=$2 && shift 2 ;;
    --config) config=$2 && shift 2 ;;
    --device) device=$2 && shift 2 ;;
    --context) context=$2 && shift 2 ;;
    --prompt) prompt=$2 && shift 2 ;;
    --layers) layers=$2 && shift 2 ;;
    vexil | transformers | flagos | flagos+gems) systems+=("$1") && shift ;;
    *) echo "gpu.sh: unknown argument $1 (see bench/peers/README.md)" >&2 && exit 2 ;;
  esac
done
((${#systems[@]})) || systems=(vexil transformers flagos)
mkdir -p "$work"
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

# Output goes to FOLDER/peer_NAME.jsonl and .log; a system that cannot run has a row that says why.
peer() {
  local name=$1 script=$2
  shift 2
  echo "$name ..." >&2
  "$python" "$here/$script" --config "$config" --device "$device" --context "$context" --prompt "$prompt" "$@" \
    > "$work/peer_$name.jsonl" 2> "$work/peer_$name.log" || tail -3 "$work/peer_$name.log" >&2
}

rm -f "$work"/vexil_*.jsonl "$work"/peer_*.jsonl
for system in "${systems[@]}"; do
  case $system in
    vexil)
      for n in ${layers/,/ }; do
        "$vexil" bench model --synthetic 1 --config "$config" --layers "$n" --device "$device" --batch 1 \
          ${context:+--context "$context"} ${prompt:+--prompt "$prompt"} --json "$work/vexil_$n.jsonl"
      done
      ;;
    transformers) peer transformers gpu_transformers.py ;;
    flagos) peer flagos gpu_flagos.py --model "$work/flagos/model.py" ;;
    flagos+gems) peer flagos+gems gpu_flagos.py --model "$work/flagos/model.py" --gems ;;
  esac
done
"$python" "$here/gpu_compare.py" "$work" --config "$config"
