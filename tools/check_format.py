#!/usr/bin/env python3
"""Fails when clang-format would change a C++ file of a folder in tools/layers.txt. Skipped (status 77) without
clang-format 14, Debian 12's: other versions break lines elsewhere. Usage: check_format.py [ROOT]"""
import os
import re
import shutil
import subprocess
import sys

from check_layers import read_layers

VERSION = 14
SOURCES = (".h", ".cc", ".cu", ".cuh")
SKIPPED = 77
FILES_PER_RUN = 64


def clang_format():
    """The program, or None and the reason why there is none."""
    reasons = []
    for name in (f"clang-format-{VERSION}", "clang-format"):
        if not shutil.which(name):
            reasons.append(f"{name} is not installed")
            continue
        text = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"version (\d+)", text)
        if version and int(version[1]) == VERSION:
            return name, None
        reasons.append(f"{name} is another version: {text.strip()}")
    return None, "; ".join(reasons)


def sources(root):
    for folder in read_layers(root):
        for directory, _, files in os.walk(os.path.join(root, folder)):
            yield from (os.path.join(directory, name) for name in sorted(files) if name.endswith(SOURCES))


def main(root):
    program, reason = clang_format()
    if program is None:
        print(f"skipped: {reason}")
        return SKIPPED
    files = list(sources(root))
    wrong = False
    for i in range(0, len(files), FILES_PER_RUN):
        run = subprocess.run([program, "--dry-run", "-Werror", *files[i:i + FILES_PER_RUN]])
        wrong = wrong or run.returncode != 0
    print(f"{len(files)} files, {'not ' if wrong else ''}as clang-format {VERSION} writes them")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "."))
