#!/usr/bin/env python3
"""Tests vexil.sh against stand-ins for apt-get, cmake and the other programs that it calls."""
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BORROWED = "bash cat cmp cp dirname env head mkdir nproc readlink sed tail tee tr true".split()
PACKAGES = "[build]\ncompiler  # why\nlibrary\n[test]\nrunner\n[python]\nnumbers\n[optional]\nnicety\n"

# Every stand-in notes its command line. dpkg-query knows the packages in the file `installed`.
NOTE = 'echo "$(basename "$0") $*" >> "$STATE/calls"\n'
STAND_INS = {
    "basename": 'echo "${1##*/}"',
    "id": 'cat "$STATE/uid"',
    "dpkg-query": 'while read -r p; do [[ $p == "${@: -1}" ]] && echo installed; done < "$STATE/installed"; true',
    "apt-get": NOTE + 'echo "apt says something"; [[ $DEBIAN_FRONTEND == noninteractive ]]',
    "sudo": NOTE + '[[ $1 != -n ]] || shift; exec "$@"',
    "python3": NOTE + 'mkdir -p build/python/bin; cp "$STATE/../bin/pip" build/python/bin/pip',
    "pip": NOTE + '[[ ! -e $STATE/offline ]]',
    "cmake": NOTE + '[[ ! -e $STATE/broken ]] || { echo "FAILED: x.o"; echo "x.cc:1: error: oops"; exit 1; }',
    "ctest": NOTE + 'echo "Total Test time (real) = 0.01 sec"; exit "$(cat "$STATE/ctest_status")"',
}


class VexilShTest(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        self.bin = os.path.join(self.root, "bin")
        for folder in ("bin", "state", "tools"):
            os.mkdir(os.path.join(self.root, folder))
        shutil.copy(os.path.join(ROOT, "vexil.sh"), self.root)
        self.write("tools/packages.txt", PACKAGES)
        for name in BORROWED:
            os.symlink(shutil.which(name), os.path.join(self.bin, name))
        for name, body in STAND_INS.items():
            self.write("bin/" + name, "#!/usr/bin/env bash\n" + body + "\n")
            os.chmod(os.path.join(self.bin, name), 0o755)
        self.write("tools/python-packages.txt", "one==1.0\ntwo==2.0\n")
        self.write("state/uid", "0\n")
        self.write("state/installed", "compiler\nlibrary\nrunner\n")
        self.write("state/ctest_status", "0\n")

    def write(self, path, text):
        with open(os.path.join(self.root, path), "w") as f:
            f.write(text)

    def run_script(self, *args):
        env = {"PATH": self.bin, "STATE": os.path.join(self.root, "state"), "CI": "true"}
        return subprocess.run([os.path.join(self.root, "vexil.sh"), *args], env=env, text=True, cwd="/",
                              stdin=subprocess.DEVNULL, capture_output=True)

    def calls(self, *programs):
        path = os.path.join(self.root, "state/calls")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return [line.rstrip() for line in f if line.split()[0] in programs]

    def test_installs_nothing_when_nothing_is_missing(self):
        done = self.run_script("test")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.calls("apt-get", "sudo"), [])
        self.assertNotIn("install", done.stdout)

    def test_root_installs_only_what_is_missing_and_says_so(self):
        self.write("state/installed", "compiler\nrunner\n")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.calls("apt-get", "sudo"),
                         ["apt-get -q update", "apt-get -q install -y --no-install-recommends library"])
        self.assertTrue(done.stdout.startswith("==> installing Debian packages: library\n"), done.stdout)

    def test_each_command_needs_its_own_groups(self):
        self.write("state/installed", "")
        for args, wanted in ((["build"], "compiler library"), (["test"], "compiler library runner")):
            first_line = self.run_script(*args).stdout.splitlines()[0]
            self.assertEqual(first_line, "==> installing Debian packages: " + wanted)

    def test_python_packages_go_into_their_own_environment_once(self):
        self.write("state/installed", "compiler\nlibrary\nrunner\nnumbers\n")
        done = self.run_script("test", "--with-python")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("installing Python packages: one==1.0 two==2.0", done.stdout)
        calls = ["python3 -m venv build/python", "pip install --disable-pip-version-check -r tools/python-packages.txt"]
        self.assertEqual(self.calls("python3", "pip"), calls)
        self.run_script("test", "--with-python")
        self.assertEqual(self.calls("python3", "pip"), calls, "nothing changed, so nothing to do")
        self.write("tools/python-packages.txt", "one==1.1\n")
        self.run_script("test", "--with-python", "--no-install")
        self.assertEqual(len(self.calls("pip")), 1)
        self.run_script("test", "--with-python")
        self.assertEqual(len(self.calls("pip")), 2)

    def test_failed_python_packages_end_the_run(self):
        self.write("state/installed", "compiler\nlibrary\nrunner\nnumbers\n")
        self.write("state/offline", "")
        self.assertEqual(self.run_script("test", "--with-python").returncode, 1)
        self.assertEqual(self.calls("ctest"), [])

    def test_other_users_install_through_sudo(self):
        self.write("state/uid", "1000\n")
        self.write("state/installed", "compiler\n")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.calls("apt-get")), 2)
        self.assertIn("sudo env DEBIAN_FRONTEND=noninteractive apt-get -q update", self.calls("sudo"))

    def check_says_what_to_run(self):
        self.write("state/installed", "compiler\n")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr.splitlines()[-1],
                         "apt-get update && apt-get install -y --no-install-recommends library")
        self.assertEqual(self.calls("cmake", "apt-get"), [])

    def test_without_root_or_sudo_says_what_to_run(self):
        self.write("state/uid", "1000\n")
        os.remove(os.path.join(self.bin, "sudo"))
        self.check_says_what_to_run()

    def test_without_apt_says_what_to_run(self):
        os.remove(os.path.join(self.bin, "apt-get"))
        self.check_says_what_to_run()

    def test_no_install_does_not_look_at_packages(self):
        os.remove(os.path.join(self.bin, "dpkg-query"))
        self.assertEqual(self.run_script("build", "--no-install").returncode, 0)
        self.assertEqual(self.run_script("build").returncode, 2)

    def test_a_failed_installation_ends_the_run(self):
        self.write("state/installed", "")
        self.write("bin/apt-get", "#!/usr/bin/env bash\necho no network; exit 100\n")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no network", done.stderr)
        self.assertEqual(self.calls("cmake"), [])

    def test_a_failed_build_shows_the_error_and_the_log(self):
        self.write("state/broken", "")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 1)
        self.assertIn("x.cc:1: error: oops", done.stderr)
        self.assertIn("build/logs/release.log", done.stderr)

    def test_the_test_runner_has_the_last_word(self):
        self.write("state/ctest_status", "8\n")
        done = self.run_script("test")
        self.assertEqual(done.returncode, 8)
        self.assertEqual(done.stdout.splitlines()[-1], "Total Test time (real) = 0.01 sec")
        self.assertIn("--preset dev", self.calls("ctest")[0])

    def test_fast_runs_the_fast_tests_of_the_same_build(self):
        self.assertEqual(self.run_script("test", "--fast").returncode, 0)
        self.assertIn("--preset fast", self.calls("ctest")[0])
        self.assertEqual([c for c in self.calls("cmake") if "--build" in c][0].split()[:4],
                         ["cmake", "--build", "--preset", "dev"])

    def test_wrong_use_is_an_error(self):
        for args in (["frob"], ["build", "--fast"], ["demo", "extra"]):
            done = self.run_script(*args)
            self.assertEqual(done.returncode, 2, args)
            self.assertEqual(len(done.stderr.splitlines()), 1, args)
        self.assertEqual(self.calls("cmake"), [])


if __name__ == "__main__":
    unittest.main()
