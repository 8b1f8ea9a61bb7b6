#!/usr/bin/env python3
"""Compiles the GPU kernels (ops/**/*.cu) without a GPU, as a test: for NVIDIA with nvcc, or the same files for AMD with a
plain clang, to assembled device code. That they compile says nothing about running.
Usage: compile_kernels.py cuda|hip [ROOT]
Exit status: 0 all compiled, 1 some did not, 77 the compiler is not here."""
import concurrent.futures
import glob
import os
import shutil
import subprocess
import sys
import tempfile

SKIP = 77
HIP_CHIPS = ("gfx906", "gfx90a", "gfx942")
CLANGS = ("clang-19", "clang-16", "clang-15", "clang-14", "clang")
WAVEFRONT_64 = "every one of these chips runs 64 lanes together"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIP)


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if done.returncode == 0 else done.stdout


def compile_cuda(nvcc, root, source, folder):
    command = [nvcc, "-std=c++20", "-O1", "-I", root, "-gencode", "arch=compute_90a,code=sm_90a", "--expt-relaxed-constexpr",
               "-Werror=all-warnings", "-diag-suppress=177", "-c", source, "-o", os.path.join(folder, "out.o")]
    return run(command)


def compile_hip(clang, chip, root, source, folder):
    assembly = os.path.join(folder, "out.s")
    device_code = [clang, "-x", "hip", "--cuda-device-only", f"--offload-arch={chip}", "-nogpulib", "-nogpuinc", "-std=c++20", "-O1",
                   "-I", root, "-Wall", "-Werror", "-Wno-unused-function", "-Wno-pass-failed", "-S", source, "-o", assembly]
    assemble = [clang, "-target", "amdgcn-amd-amdhsa", f"-mcpu={chip}", "-c", "-x", "assembler", assembly, "-o",
                os.path.join(folder, "out.o")]
    return run(device_code) or run(assemble)


def knows(clang, chip):
    with tempfile.TemporaryDirectory() as folder:
        empty = os.path.join(folder, "empty.s")
        open(empty, "w").close()
        return run([clang, "-target", "amdgcn-amd-amdhsa", f"-mcpu={chip}", "-c", "-x", "assembler", empty, "-o",
                    os.path.join(folder, "empty.o")]) is None


def jobs(kind, root, sources):
    if kind == "cuda":
        nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
        if not os.path.exists(nvcc):
            skip("no nvcc")
        return [(os.path.relpath(s, root), lambda folder, s=s: compile_cuda(nvcc, root, s, folder)) for s in sources]
    clang = next((c for c in CLANGS if shutil.which(c)), None)
    if clang is None:
        skip("no clang")
    chips = [c for c in HIP_CHIPS if knows(clang, c)]
    for chip in set(HIP_CHIPS) - set(chips):
        print(f"{chip}: {clang} does not know it, skipped")
    if not chips:
        skip(f"{clang} knows no AMD chip")
    print(f"{clang} for {', '.join(chips)}: {len(sources)} files each ({WAVEFRONT_64})")
    return [(f"{os.path.relpath(s, root)} for {chip}", lambda folder, s=s, chip=chip: compile_hip(clang, chip, root, s, folder))
            for chip in chips for s in sources]


def main(kind, root):
    sources = sorted(glob.glob(os.path.join(root, "ops/**/*.cu"), recursive=True))
    if kind == "hip":
        sources = [s for s in sources if os.path.basename(s).startswith("gpu")]  # cuda_*.cu are for NVIDIA alone

    def attempt(job):
        with tempfile.TemporaryDirectory() as folder:
            return job[0], job[1](folder)

    failures = 0
    work = jobs(kind, root, sources)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, error in pool.map(attempt, work):
            if error:
                failures += 1
                print(f"{name}:\n{error}")
    print(f"{len(work) - failures} of {len(work)} compiled")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("cuda", "hip"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else "."))
