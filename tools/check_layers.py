#!/usr/bin/env python3
"""Fails when a folder includes a folder that tools/layers.txt does not list for it, or when a folder with
sources is missing from that list. Tests, and the cases.h and reference.h of ops, may also include testing/.
Usage: check_layers.py [ROOT]"""
import os
import re
import sys

SOURCES = (".h", ".cc", ".cu", ".cuh", ".inc")
TEST_ONLY = ("cases.h", "reference.h")


def read_layers(root):
    allowed = {}
    with open(os.path.join(root, "tools/layers.txt")) as f:
        for line in f:
            line = line.split("#")[0].strip()
            if line:
                name, deps = line.split(":")
                allowed[name] = set(deps.split()) | {name}
    return allowed


def sources(folder):
    for directory, _, files in os.walk(folder):
        for name in sorted(files):
            if name.endswith(SOURCES):
                yield os.path.join(directory, name)


def wrong_includes(root, allowed):
    for folder, may in allowed.items():
        for path in sources(os.path.join(root, folder)):
            is_test = path.endswith("_test.cc") or os.path.basename(path) in TEST_ONLY
            extra = {"testing"} if is_test else set()
            with open(path, errors="replace") as f:
                for number, text in enumerate(f, 1):
                    m = re.match(r'\s*#\s*include\s*"([^"/]+)/', text)
                    if m and m[1] in allowed and m[1] not in may | extra:
                        yield f"{os.path.relpath(path, root)}:{number}: {folder} may not include {m[1]}"


def unlisted_folders(root, allowed):
    for folder in sorted(os.listdir(root)):
        if folder in allowed or folder == "build" or folder.startswith("."):
            continue
        if any(sources(os.path.join(root, folder))):
            yield f"{folder}: has sources and is not in tools/layers.txt"


def main(root):
    allowed = read_layers(root)
    faults = [*wrong_includes(root, allowed), *unlisted_folders(root, allowed)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "."))
