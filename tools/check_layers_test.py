#!/usr/bin/env python3
"""Plants violations in a small tree and sees tools/check_layers.py fail on each."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check_layers.py")


class CheckLayersTest(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        self.write("tools/layers.txt", "base:  # the lowest\nops: base\ntesting: base ops\n")
        self.write("base/a.h", "#pragma once\n#include <vector>\n")
        self.write("ops/b.h", '#include "base/a.h"\n')
        self.write("ops/scale/scale.cc", '#include "ops/b.h"\n')

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def check(self):
        done = subprocess.run([sys.executable, CHECK, self.root], capture_output=True, text=True)
        return done.returncode, done.stdout

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.check(), (0, ""))

    def test_an_upward_include_fails_and_is_named(self):
        self.write("base/a.h", '#pragma once\n  #  include "ops/b.h"\n')
        self.assertEqual(self.check(), (1, "base/a.h:2: base may not include ops\n"))

    def test_lists_and_nested_folders_are_read_too(self):
        self.write("ops/scale/kernels.inc", '#include "testing/c.h"\n')
        self.assertEqual(self.check()[0], 1)

    def test_tests_cases_and_references_may_include_testing(self):
        self.write("ops/scale/scale_test.cc", '#include "testing/c.h"\n')
        self.write("ops/scale/cases.h", '#include "testing/c.h"\n')
        self.write("ops/scale/reference.h", '#include "testing/c.h"\n')
        self.assertEqual(self.check()[0], 0)

    def test_tests_may_not_include_upwards_otherwise(self):
        self.write("base/a_test.cc", '#include "ops/b.h"\n')
        self.assertEqual(self.check()[0], 1)

    def test_a_folder_with_sources_must_be_listed(self):
        self.write("extra/d.cc", "int x;\n")
        code, output = self.check()
        self.assertEqual(code, 1)
        self.assertIn("extra", output)


if __name__ == "__main__":
    unittest.main()
