"""Unit checks of compare_logits.py: the figures, the bounds and the refusals."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

import numpy as np

import safetensors_np

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compare_logits.py")


class CompareLogitsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self._paths = [os.path.join(folder.name, n) for n in ("ref.safetensors", "got.safetensors")]
        generator = np.random.default_rng(7)
        self.reference = {
            "logits.0": generator.standard_normal((10, 6)).astype(np.float32),
            "hidden.0.0": generator.standard_normal((10, 4, 3)).astype(np.float32),
            "hidden.0.1": generator.standard_normal((10, 4, 3)).astype(np.float32),
        }
        self.got = {name: array.copy() for name, array in self.reference.items()}

    def compare(self, *options):
        for path, tensors in zip(self._paths, (self.reference, self.got)):
            safetensors_np.save(path, tensors)
        command = [sys.executable, SCRIPT, "--json", *self._paths, *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.returncode, json.loads(result.stdout) if result.returncode != 2 else result.stderr

    def test_equal_files_meet_the_tightest_bounds(self):
        bounds = ("--max-median", "0", "--max-p90", "0", "--min-argmax", "1", "--min-layer0", "1")
        code, figures = self.compare(*bounds)
        self.assertEqual(code, 0)
        self.assertEqual((figures["positions"], figures["layers_equal"]), (10, [1.0, 1.0]))

    def test_figures_of_a_known_difference(self):
        self.got["logits.0"][:6] *= 1.5
        self.got["hidden.0.0"][2, 3, 1] = np.nextafter(self.got["hidden.0.0"][2, 3, 1], np.float32(9))
        code, figures = self.compare("--max-median", "0.49")
        self.assertEqual(code, 1)
        self.assertAlmostEqual(figures["median"], 0.5)
        self.assertEqual(figures["argmax"], 1.0)
        self.assertEqual(figures["layers_equal"], [0.9, 1.0])

    def test_each_bound_is_applied(self):
        self.got["logits.0"] = -self.got["logits.0"]
        self.got["hidden.0.0"] += 1
        for bound in (("--max-p90", "1.9"), ("--min-argmax", "0.1"), ("--min-layer0", "0.1")):
            self.assertEqual(self.compare(*bound)[0], 1, bound)

    def test_a_nan_misses_the_bounds(self):
        self.got["logits.0"][:] = np.nan
        self.assertEqual(self.compare("--max-median", "1e9")[0], 1)

    def test_a_layer_bound_without_streams_is_missed(self):
        self.got = {"logits.0": self.got["logits.0"]}
        self.assertEqual(self.compare()[0], 0)
        self.assertEqual(self.compare("--min-layer0", "0.6")[0], 1)

    def test_files_that_do_not_fit_are_refused(self):
        self.got["logits.0"] = self.got["logits.0"][:9]
        code, message = self.compare()
        self.assertEqual(code, 2)
        self.assertIn("tensor 'logits.0': F32 [10, 6] against F32 [9, 6]", message)


if __name__ == "__main__":
    unittest.main()
