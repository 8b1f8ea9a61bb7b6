#!/usr/bin/env python3
"""vexil make-checkpoint and vexil verify from the outside: exit statuses, lines, files. Usage: checkpoint_check.py VEXIL"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = os.path.join(ROOT, "models", "tiny")
VEXIL = ""


def vexil(*args):
    return subprocess.run([VEXIL, *args], text=True, capture_output=True)


class CheckpointTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp()
        cls.made = os.path.join(cls.work, "made")
        cls.make = ["make-checkpoint", "--config", os.path.join(TINY, "config.json"), "--seed", "3", "--max-shard-size", "3MB",
                    "--tokenizer", os.path.join(TINY, "tokenizer.json"), "--output"]
        start = time.monotonic()
        done = vexil(*cls.make, cls.made)
        cls.seconds = time.monotonic() - start
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def copy(self):
        folder = os.path.join(self.work, self.id())
        shutil.copytree(self.made, folder)
        return folder

    def expect_problem(self, folder, *parts):
        done = vexil("verify", folder)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertTrue(any(all(p in line for p in parts) for line in done.stdout.splitlines()), done.stdout)

    def test_good_ones(self):
        for folder in (self.made, TINY):
            done = vexil("verify", folder)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
            self.assertIn("no problem found", done.stdout)
        report = json.loads(vexil("verify", "--json", self.made).stdout)
        self.assertEqual((report["ok"], report["manifest"], report["problems"]), (True, "checked", []))
        self.assertEqual(sum(f["bytes"] for f in report["formats"].values()), report["bytes"])

    def test_a_flipped_bit_is_found_and_named(self):
        folder = self.copy()
        file = sorted(f for f in os.listdir(folder) if f.endswith(".safetensors"))[1]
        path = os.path.join(folder, file)
        with open(path, "r+b") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length))
            name = [n for n, e in header.items() if n != "__metadata__" and e["dtype"] == "I8"][0]
            f.seek(8 + length + header[name]["data_offsets"][0] + 5)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 0x10]))
        self.expect_problem(folder, file, f"'{name}'", "found checksum", "expected")

    def test_a_short_and_a_missing_file(self):
        folder = self.copy()
        files = sorted(f for f in os.listdir(folder) if f.endswith(".safetensors"))
        os.truncate(os.path.join(folder, files[0]), 100_000)
        os.remove(os.path.join(folder, files[2]))
        self.expect_problem(folder, files[0])
        self.expect_problem(folder, "model.safetensors.index.json", files[2])

    def test_against(self):
        bf16 = os.path.join(self.work, "bf16")
        self.assertEqual(vexil(*self.make, bf16, "--dtype-plan", "bf16").returncode, 0)
        done = vexil("verify", bf16, "--against", self.made, "--tolerance", "0")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("0 of them with other values", done.stdout)
        done = vexil("verify", TINY, "--against", self.made, "--tolerance", "0.5")
        self.assertEqual(done.returncode, 1)
        self.assertIn("found a relative rms of", done.stdout)

    def test_wrong_use(self):
        for args in (["verify"], ["verify", os.path.join(self.work, "absent")], ["verify", self.made, "--write-manifest"],
                     ["verify", self.made, "--against", os.path.join(self.work, "absent")], ["make-checkpoint"]):
            done = vexil(*args)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1), f"{args}: {done.stderr}")

    def test_the_same_command_again_changes_nothing(self):
        before = {f: os.stat(os.path.join(self.made, f)).st_mtime_ns for f in os.listdir(self.made) if f.endswith(".safetensors")}
        done = vexil(*self.make, self.made)
        self.assertEqual(done.returncode, 0, done.stderr)
        after = {f: os.stat(os.path.join(self.made, f)).st_mtime_ns for f in before}
        self.assertEqual(before, after)

    def test_killed_and_started_again(self):
        output = os.path.join(self.work, "killed")
        generator = random.Random(5)
        killed = 0
        for _ in range(4):
            process = subprocess.Popen([VEXIL, *self.make, output], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(generator.uniform(0, 0.6 * self.seconds))
            process.kill()
            killed += process.wait() != 0
        self.assertGreater(killed, 0, "every run ended before it was killed")
        self.assertEqual(vexil(*self.make, output).returncode, 0)
        self.assertEqual(sorted(os.listdir(output)), sorted(os.listdir(self.made)))
        for name in os.listdir(output):
            with open(os.path.join(output, name), "rb") as a, open(os.path.join(self.made, name), "rb") as b:
                self.assertEqual(a.read(), b.read(), name)

    def test_refuses_what_the_disk_cannot_hold(self):
        with open(os.path.join(TINY, "config.json"), encoding="utf-8") as f:
            config = json.load(f)
        config.update(vocab_size=1 << 24, hidden_size=1 << 19)  # 17 TB for the embedding alone
        path, output = os.path.join(self.work, "huge.json"), os.path.join(self.work, "huge")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        done = vexil("make-checkpoint", "--config", path, "--output", output)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("needs", done.stderr)
        self.assertFalse(os.path.exists(output) and os.listdir(output))

    def test_runs(self):
        done = vexil("generate", "--raw", "--ckpt-path", self.made, "--prompt", "abc", "--max-new-tokens", "4", "--temperature", "0")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    VEXIL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
