#!/usr/bin/env python3
"""`vexil chat` on a terminal: text outside ASCII, Ctrl-C and Ctrl-D while a line is edited.

usage: chat_terminal_test.py VEXIL
"""
import os
import pty
import select
import sys
import time

PROMPT = "> "
DEADLINE_SECONDS = 60


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            for name in ("LANG", "LC_ALL", "LC_CTYPE"):  # a locale that cannot hold the text must not matter
                os.environ.pop(name, None)
            os.execv(command[0], command)
        self.unread = b""

    def write(self, text):
        os.write(self.fd, text.encode())

    def read_until(self, wanted):
        """Takes what the program writes, up to and with `wanted`."""
        wanted = wanted.encode()
        end = time.monotonic() + DEADLINE_SECONDS
        while wanted not in self.unread:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                sys.exit(f"waited {DEADLINE_SECONDS} s for {wanted!r}; saw {self.unread!r}")
            try:
                self.unread += os.read(self.fd, 65536)
            except OSError:
                sys.exit(f"the program ended before {wanted!r}; saw {self.unread!r}")
        self.unread = self.unread.split(wanted, 1)[1]

    def wait(self):
        """The program's wait status."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.05)
        sys.exit(f"the program still runs after {DEADLINE_SECONDS} s")


def check_editing(vexil):
    chat = Terminal(vexil, "chat", "--temperature", "0", "--threads", "1")
    chat.read_until(PROMPT)
    chat.write("中国首都是哪里？\n")
    chat.read_until("中国的首都是北京。\r\n")
    chat.read_until(PROMPT)
    chat.write("a line that is thrown away")
    chat.read_until("thrown away")
    chat.write("\x03")
    time.sleep(0.2)  # the key is handled before the next ones arrive
    chat.write("What is the capital of France?\n")
    chat.read_until("The capital of France is Paris.\r\n")
    chat.read_until(PROMPT)
    chat.write("\x04")
    if (status := chat.wait()) != 0:
        sys.exit(f"Ctrl-D: found wait status {status}, expected 0")


def check_end_during_answer(vexil):
    """Ctrl-D while the terminal is not the line editor's ends the program once the answer is complete."""
    chat = Terminal(vexil, "chat", "--temperature", "0", "--threads", "1")
    chat.read_until(PROMPT)
    chat.write("What is the capital of France?\n")
    chat.read_until("The")
    chat.write("\x04")
    if (status := chat.wait()) != 0:
        sys.exit(f"Ctrl-D during an answer: found wait status {status}, expected 0")


def main():
    check_editing(sys.argv[1])
    check_end_during_answer(sys.argv[1])


if __name__ == "__main__":
    main()
