#!/usr/bin/env bash
# Everything that needs a GPU, in one go of a few minutes: conformance, goldens, invariance, graphs, eval scores, speed.
# Usage: scripts/gpu-check.sh [--build FOLDER] [--report FILE] [--no-build]
#   --build FOLDER   of a CUDA build (default build/cuda); made with the preset cuda unless --no-build
#   --report FILE    JSON: per step whether it passed, its seconds and its figures (default gpu-check.json)
set -uo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/cuda report=gpu-check.json make=1
while [[ $# -gt 0 ]]; do
  case $1 in
    --build) build=$2; shift 2 ;;
    --report) report=$2; shift 2 ;;
    --no-build) make=0; shift ;;
    *) echo "gpu-check.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
if [[ $make = 1 ]]; then
  (cd "$root" && cmake --preset cuda -B "$build" && cmake --build "$build" --target conformance ops_test model_test engine_test vexil) || exit 1
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
steps=() failed=0
program() { local p; for p in "$build/$1" "$build/${1##*/}"; do [[ -x $p ]] && { echo "$p"; return; }; done; }

# step NAME COMMAND...: runs it and keeps its output, seconds and status.
step() {
  local name=$1 begin=$SECONDS
  shift
  "$@" > "$logs/$name" 2>&1
  local status=$?
  steps+=("$name:$status:$((SECONDS - begin))")
  printf '%-24s %s  %s\n' "$name" "$([[ $status = 0 ]] && echo passed || echo "FAILED ($status)")" "$(grep -v '^$' "$logs/$name" | tail -1 | cut -c1-120)"
  if [[ $status != 0 ]]; then failed=1; tail -40 "$logs/$name"; fi
}

vexil=$(program vexil) conformance=$(program testing/conformance) tests=$(program model/model_test) engine=$(program engine/engine_test) ops=$(program ops/ops_test)
tiny=$root/models/tiny
step devices "$vexil" devices --json
grep -q '"cuda:' "$logs/devices" || { echo "gpu-check.sh: no CUDA device: $(cat "$logs/devices")" >&2; exit 1; }
step conformance "$conformance" --gtest_filter='*/cuda.*' --gtest_brief=1
step ops "$ops" --gtest_filter='*/Cuda' --gtest_brief=1
step model env VEXIL_TEST_DEVICE=cuda "$tests" --gtest_filter='*Golden*:*Invariance*-*PlainAndBest*' --gtest_brief=1
step engine env VEXIL_TEST_DEVICE=cuda "$engine" --gtest_brief=1
for mode in f32 bf16 fp8; do
  step "eval_$mode" "$vexil" eval --ckpt-path "$tiny" --suite "$tiny/eval.jsonl" --data-format $mode --device cuda --json
done
flash=$root/models/v4-flash/config.json
step bench_layer_decode "$vexil" bench layer --device cuda --json -
step bench_layer_prompt "$vexil" bench layer --device cuda --tokens 8192 --context 0 --json -
step bench_model "$vexil" bench model --synthetic 1 --config "$flash" --layers 4 --device cuda --batch 1,8,32 --context 512,4K --prompt 2K,8K --steps 32 --json -
step bench_tiny "$vexil" bench model --ckpt-path "$tiny" --device cuda --batch 1,8 --context 512 --prompt 2048 --json -
if command -v compute-sanitizer > /dev/null; then
  step memcheck compute-sanitizer --tool memcheck --error-exitcode 1 "$conformance" --tier=smoke --gtest_filter='*/cuda.*' --gtest_brief=1
  step racecheck compute-sanitizer --tool racecheck --error-exitcode 1 "$conformance" --tier=smoke --gtest_filter='*/cuda.*' --gtest_brief=1
fi

python3 - "$report" "$logs" "${steps[@]}" <<'PYTHON'
import json, os, sys
report, logs, steps = sys.argv[1], sys.argv[2], sys.argv[3:]
out = {"steps": {}}


def figures(text):
    """A JSON document, or one per line."""
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


for step in steps:
    name, status, seconds = step.split(":")
    text = open(os.path.join(logs, name), errors="replace").read()
    entry = {"passed": status == "0", "seconds": int(seconds)}
    try:
        entry["figures"] = figures(text)
    except ValueError:
        entry["output"] = text[-2000:]
    out["steps"][name] = entry
out["passed"] = all(s["passed"] for s in out["steps"].values())
with open(report, "w") as f:
    json.dump(out, f, indent=1)
PYTHON
echo "report: $report"
exit $failed
