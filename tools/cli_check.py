#!/usr/bin/env python3
"""What a user meets around the model: pipes that close, full disks, wrong paths, small terminals, results for machines.
Usage: cli_check.py VEXIL"""
import csv
import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = os.path.join(ROOT, "models/tiny")
VEXIL = None  # set by main


def run(*arguments, stdin="", cwd=None, **options):
    return subprocess.run([VEXIL, *arguments], input=stdin.encode(), capture_output=True, timeout=100, cwd=cwd, **options)


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def refused(self, *arguments, says, status=2):
        result = run(*arguments)
        message = result.stderr.decode()
        self.assertEqual(result.returncode, status, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertIn(says, message)
        self.assertEqual(result.stdout, b"")

    def test_a_pipe_that_closes_ends_the_program_without_a_word(self):
        words = " ".join(map(str, range(3000)))
        process = subprocess.Popen([VEXIL, "tokenize", words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        self.assertEqual(process.wait(), -signal.SIGPIPE)

    def test_a_full_disk_is_an_error(self):
        for arguments in (["--help"], ["--version"], ["inspect"], ["generate", "--prompt", "hi"]):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([VEXIL, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=100)
            self.assertEqual(result.returncode, 1, arguments)
            self.assertIn(b"standard output: cannot write", result.stderr)

    def test_every_command_explains_itself(self):
        commands = [line.split()[0] for line in run("--help").stdout.decode().split("Subcommands:")[1].splitlines() if line.strip()]
        self.assertGreater(len(commands), 12)
        for command in commands:
            result = run(command, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertIn(b"Usage:", result.stdout)

    def test_results_for_machines_are_json(self):
        with open(os.path.join(TINY, "eval.jsonl"), "rb") as f:
            suite = self.file("suite.jsonl", b"".join(f.readlines()[:5]))
        for arguments in (["inspect", "--json"], ["plan", "--json"], ["devices", "--json"], ["tokenize", "--json", "a b"],
                          ["detokenize", "--json", "5", "6"], ["verify", TINY, "--json"], ["generate", "--prompt", "hi", "--json"],
                          ["eval", "--suite", suite, "--json"],
                          ["convert", "dequantize", "--ckpt-path", TINY, "--output", os.path.join(self.folder, "o"), "--json"]):  # fmt: skip
            result = run(*arguments)
            self.assertEqual(result.returncode, 0, result.stderr)
            json.loads(result.stdout)

    def test_no_prompt_is_answered_when_one_is_too_long(self):
        prompts = self.file("prompts.txt", b"hi\n\n" + b"word " * 100)
        self.refused("generate", "--input-file", prompts, "--max-context", "50", says="prompt 2: the prompt has")
        result = run("generate", "--input-file", prompts, "--max-context", "50", "--json")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(["error" in line for line in lines], [False, True])

    def test_files_from_other_systems(self):
        plain = self.file("plain.txt", b"Compute 1 + 2.")
        other = self.file("other.txt", b"\xef\xbb\xbfCompute 1 + 2.\r\n\r\n")
        answers = [run("generate", "--input-file", path, "--temperature", "0").stdout for path in (plain, other)]
        self.assertEqual(answers[0], answers[1])
        self.refused("encode", self.file("m.json", b"\xef\xbb\xbf[]"), says="line 1, column 1: a byte order mark")

    def test_the_same_seed_gives_the_same_text_with_any_number_of_threads(self):
        arguments = ("generate", "--prompt", "Tell me a story.", "--seed", "5", "--max-new-tokens", "40", "--threads")
        self.assertEqual(run(*arguments, "1").stdout, run(*arguments, "2").stdout)
        self.assertNotEqual(run(*arguments, "1").stdout, run(*arguments, "1", "--seed", "6").stdout)

    def test_a_progress_line_fits_the_terminal(self):
        long = self.file("long.txt", b"word " * 1000)
        pid, terminal = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
            os.execv(VEXIL, [VEXIL, "generate", "--input-file", long, "--max-new-tokens", "1"])
        shown = b""
        try:
            while chunk := os.read(terminal, 4096):
                shown += chunk
        except OSError:
            pass  # its end
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        drawn = [part.split(b"\r")[0] for part in shown.split(b"\r\x1b[K")[1:-1]]
        self.assertTrue(any(line.startswith(b"reading the prompt") for line in drawn), shown)
        self.assertLess(max(map(len, drawn)), 20)

    def test_bench_model_has_the_grid_that_it_is_asked_for(self):
        grid = ["bench", "model", "--batch", "1,3", "--context", "40,1K", "--prompt", "16", "--steps", "2"]
        rows = list(csv.DictReader(io.StringIO(run(*grid, "--csv", "-").stdout.decode())))
        self.assertEqual([(r["what"], r["batch"], r["context"]) for r in rows],
                         [("decode", "1", "40"), ("decode", "3", "40"), ("decode", "1", "1024"), ("decode", "3", "1024"), ("prefill", "1", "16")])  # fmt: skip
        self.assertTrue(all(float(r["tokens_per_s"]) > 0 for r in rows))
        config = os.path.join(TINY, "config.json")
        synthetic = run(*grid, "--synthetic", "1", "--config", config, "--layers", "2", "--json", "-")
        rows = [json.loads(line) for line in synthetic.stdout.splitlines()]
        self.assertEqual([r["layers"] for r in rows], [2] * 5)
        self.refused(*grid, "--csv", os.path.join(self.folder, "no/such"), says="cannot write")
        self.refused("bench", "model", "--context", "32K", says="expected at most 4096, which the model allows")
        self.refused("bench", "model", "--context", "0.5K", says="512 or 4K")
        self.refused(*grid, "--max-context", "1027", says="need a context of 1031 tokens, expected at most 1027, which --max-context allows")
        self.assertEqual(run(*grid, "--max-context", "1031").returncode, 0)

    def test_plan_names_every_kernel(self):
        for tokens in ("1", "300"):
            calls = json.loads(run("plan", "--json", "--tokens", tokens).stdout)["calls"]
            ops = {call["kernel"].split("/")[0] for call in calls}
            with open(os.path.join(ROOT, "ops/ops.inc"), encoding="utf-8") as f:
                known = {line.split()[1].rstrip(")") for line in f if line.startswith("VX_OP(")}
            inside = {call["kernel"].split("/")[0] for call in calls if call.get("inside", "").startswith("indexer_top_k/")}
            self.assertEqual(known - ops, {"argmax", "sample", "top_k", "quantize_int8"})  # of the sampler; of other kernels and formats
            self.assertEqual(inside, {"indexer_scores"})
        self.assertNotIn("indexer_top_k", run("plan", "--context", "0").stdout.decode())

    def test_plan_needs_no_checkpoint(self):
        published = ["plan", "--config", os.path.join(ROOT, "models/v4-flash/config.json")]
        plan = json.loads(run(*published, "--gpu-memory", "134", "--json").stdout)
        self.assertEqual(plan["placement"]["slots"], 256)
        self.assertEqual(plan["calls"][-1]["where"], "head")
        self.assertIn(b"routed experts on the device", run(*published, "--gpu-memory", "134").stdout)
        self.refused(*published, "--gpu-memory", "10", says="--gpu-memory: the weights may take 10.00 GiB of device memory, expected at least")
        self.refused("inspect", "--gpu-memory", "0.001", says="--gpu-memory: the weights may take 1.02 MiB")

    def test_mistakes_are_one_line(self):
        utf16 = self.file("utf16.txt", b"fine\n\xff\xfeh\0i\0")
        odd = self.file("odd.json", b'[{"name": "f"}]')
        for arguments, says in (
            (["generate", "--promt", "x"], "unknown argument '--promt'"),
            (["generate", "--interactive", "--raw"], "--interactive excludes --raw"),
            (["generate", "--input-file", utf16], "utf16.txt: line 2: found byte 0xff, expected UTF-8"),
            (["generate", "--prompt", "x", "--tools", odd], "odd.json: messages[0].tools[0].function: expected an object"),
            (["generate", "--prompt", "x", "--ckpt-path", self.folder], "no config.json beside the weights"),
            (["encode", "--args", '{"x": 1}', odd], '--args: unknown option "x"'),
            (["verify", TINY, "--tolerance", "1"], "--tolerance requires --against"),
            (["bench", "model", "--layers", "2"], "--layers requires --synthetic"),
            (["bench", "ops", "--op", "rms"], "--op: found rms, expected one of rms_norm linear"),
            (["bench", "ops", "--seconds", "-1"], "--seconds"),
            (["bench", "ops", "--rate", "1"], "unknown argument '--rate'"),
            (["tokenize", "--tokenizer", "/no/such", "x"], "/no/such: cannot open: No such file or directory"),
        ):
            with self.subTest(arguments=arguments):
                self.refused(*arguments, says=says)

    def test_a_context_that_is_too_short(self):
        tokens = self.file("tokens.json", b"[[5], [1, 2, 3]]")
        logits = ["logits", "--tokens", tokens, "--output", os.path.join(self.folder, "logits")]
        self.refused(*logits, "--max-context", "2", says="found a list of 3 tokens, expected at most 2, which --max-context allows")
        self.assertEqual(run(*logits, "--max-context", "3").returncode, 0)
        self.file("tokens.json", json.dumps([[7] * 4097]).encode())
        self.refused(*logits, says="found a list of 4097 tokens, expected at most 4096, which the model allows")

    def test_a_suite_with_an_error_names_its_place(self):
        good = b'{"kind": "a", "text": "\xef\xbd\x9c"}\n\n'
        for line, says in ((b'{"kind": 1,,}', "s.jsonl: line 3, column 12: "), (b'"x"', "s.jsonl: line 3: expected an object"),
                           (b'{"kind": "\\ud83d"}', "s.jsonl: line 3, column 11: a \\u escape of half")):  # fmt: skip
            suite = self.file("s.jsonl", good.replace(b"\xef\xbd\x9c", "<｜Assistant｜></think>x".encode()) + line)
            self.refused("eval", "--suite", suite, says=says)

    def test_a_program_that_was_installed_finds_its_model(self):
        os.makedirs(os.path.join(self.folder, "bin"))
        os.makedirs(os.path.join(self.folder, "share/vexil/models"))
        subprocess.run(["cp", VEXIL, os.path.join(self.folder, "bin/vexil")], check=True)
        os.symlink(TINY, os.path.join(self.folder, "share/vexil/models/tiny"))
        installed = os.path.join(self.folder, "bin/vexil")
        result = subprocess.run([installed, "inspect"], capture_output=True, cwd="/", timeout=100)
        self.assertTrue(result.stdout.startswith(self.folder.encode()), result)


if __name__ == "__main__":
    VEXIL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
