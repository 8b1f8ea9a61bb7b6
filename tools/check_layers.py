#!/usr/bin/env python3
"""Fails when a folder includes a folder that tools/layers.txt does not list for it, or when a folder with
sources is missing from that list. Tests and cases.h may also include testing/. Usage: check_layers.py [ROOT]"""
import os
import re
import sys

SOURCES = (".h", ".cc", ".cu", ".cuh", ".inc")


def read_layers(root):
    allowed = {}
    with open(os.path.join(root, "tools/layers.txt")) as f:
        for line in f:
            line = line.split("#")[0].strip()
            if line:
                name, deps = line.split(":")
                allowed[name] = set(deps.split()) | {name}
    return allowed


def main(root):
    allowed = read_layers(root)
    bad = 0
    for folder, may in allowed.items():
        for directory, _, files in os.walk(os.path.join(root, folder)):
            for name in files:
                if not name.endswith(SOURCES):
                    continue
                extra = {"testing"} if name.endswith("_test.cc") or name == "cases.h" else set()
                path = os.path.join(directory, name)
                for number, text in enumerate(open(path, errors="replace"), 1):
                    m = re.match(r'\s*#\s*include\s*"([^"/]+)/', text)
                    if m and m[1] in allowed and m[1] not in may | extra:
                        print(f"{os.path.relpath(path, root)}:{number}: {folder} may not include {m[1]}")
                        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "."))
