#!/usr/bin/env python3
"""Fails when a document quotes what a file does not say or names a file that is not there. Usage: check_docs.py [ROOT]

Read are the *.md files of the root and of docs/ and models/. A block that opens with ```LANGUAGE file=PATH must stand
in PATH word for word. Links to files, and `paths` in back quotes that begin with a folder of the repository, must
exist; those with <, *, { or a space are patterns and are left alone."""
import glob
import os
import re
import sys

QUOTE = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`([\w.-]+/[\w./-]+)`")


def faults_of(root, document):
    with open(os.path.join(root, document), encoding="utf-8") as f:
        text = f.read()
    here = os.path.dirname(document)
    for path, quoted in QUOTE.findall(text):
        with open(os.path.join(root, path), encoding="utf-8") as f:
            if quoted not in f.read():
                yield f"quotes {path}, which does not say: {quoted.splitlines()[0]}"
    for link in LINK.findall(text):
        if not os.path.exists(os.path.join(root, here, link)):
            yield f"links to {link}, which is not there"
    for path in PATH.findall(text):
        top = path.split("/")[0]
        if top != "build" and os.path.isdir(os.path.join(root, top)) and not os.path.exists(os.path.join(root, path)):
            yield f"names {path}, which is not there"


def main(root):
    documents = []
    for pattern in ("*.md", "docs/**/*.md", "models/**/*.md"):
        documents += glob.glob(pattern, root_dir=root, recursive=True)
    faults = [f"{d}: {fault}" for d in sorted(documents) for fault in faults_of(root, d)]
    print("\n".join(faults) if faults else f"{len(documents)} documents agree with the files they name")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "."))
