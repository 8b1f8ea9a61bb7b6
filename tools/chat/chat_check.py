#!/usr/bin/env python3
"""Random conversations and completions through `vexil encode` and `vexil parse`, compared with chat_reference.py.

Usage: chat_check.py VEXIL [--seed N] [--encode N] [--parse N]
Both must give the same text, or both refuse; a refusal is one line and status 2. Each case has a seed of its own, and
`--seed N --encode 1 --parse 0` runs one encoding again."""
import argparse
import concurrent.futures
import json
import os
import random
import subprocess
import sys

import chat_reference as reference

TOKENS = reference.TOKENS
TEXTS = ["", "", "hi", "2 + 2?", "中国首都是哪里？", "line\nline", " \n\n ", "tab\t", "\r\n", "a\u0000b", "\x1b[31m", "\x7f",
         "e\u0301 \u2028\u2029 \u00a0 \ufeff", "👩‍👩‍👧 \U0001F1E9\U0001F1EA", 'quote " \\ / </s>', "{name} {arguments} {tool_schemas} {schema}", "}{",
         "<tool_result>no</tool_result>", *[v for v in TOKENS.values() if isinstance(v, str)], *TOKENS["tasks"].values(),
         reference.OPEN_CALLS + ">\n", reference.OPEN_INVOKE + ' name="f">', reference.CLOSE_CALLS,
         reference.OPEN_PARAMETER + ' name="x" string="true">', "<" + reference.CLOSE_PARAMETER + ">", reference.CLOSE_INVOKE + ">\n",
         "null", "None", "true", "[1]", "{}", '{"a": 1}']  # fmt: skip
NUMBERS = ["0", "-0", "-0.0", "1", "-17", "1.0", "1.50", "0.1", "1e5", "1E+2", "1e-5", "0.0001", "0.00001234", "1e16", "1e15", "123456789012345680.0",
           "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623157e308", "12345678901234567890123", "-9223372036854775809",
           "2.5e-7", "0.30000000000000004", "9007199254740993.0", "1e22", "1e23", "NaN", "Infinity", "-Infinity", "100000000000000000000000.5"]  # fmt: skip
NO_JSON = ["", " ", "{", '{"a": 1,}', "{'a': 1}", '{"a": "x\ny"}', '{"a": 01}', '{"a": .5}', '{"a": 1.}', '{"a": +1}', "nonsense", '{"a": 1} x', '{"a": -NaN}',
           '{"a": Inf}', '{"a": nan}', '\ufeff{"a": 1}', '{"a": 1e}', '{"a" 1}', '{"a": "\\x"}', '{"a": "\\u12g4"}', '{"a": tru}', "[1", '{"a": /* */ 1}',
           '\u00a0{"a": 1}', '\x0b{}', '{a: 1}']  # fmt: skip
NO_OBJECT = ["[]", "1", "null", '"text"', "true", "NaN"]


class Raw(str):
    """JSON text that stands in the document as it is."""


class Cases:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def text(self):
        return "".join(self.r.choice(TEXTS) for _ in range(self.r.choice((1, 1, 1, 2, 3))))

    def spell(self, value):
        """JSON text of a value, with free white space and escapes."""
        r = self.r
        space = lambda: r.choice(("", "", "", " ", "\n", "\t", "\r\n "))  # noqa: E731
        if isinstance(value, Raw):
            return str(value)
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=r.random() < 0.3)
        if isinstance(value, list):
            return "[" + ",".join(space() + self.spell(v) + space() for v in value) + "]"
        if isinstance(value, dict):
            members = list(value.items())
            if members and r.random() < 0.05:  # the last value counts, at the first place
                members.insert(0, (r.choice(members)[0], self.text()))
            return "{" + ",".join(space() + self.spell(k) + space() + ":" + space() + self.spell(v) for k, v in members) + space() + "}"
        return json.dumps(value)

    def value(self, depth=0):
        r = self.r
        kind = r.randrange(7 if depth < 4 else 4)
        if kind == 0:
            return Raw(r.choice(NUMBERS))
        if kind == 1:
            return r.choice((None, True, False))
        if kind < 4:
            return self.text()
        if kind == 4:
            return [self.value(depth + 1) for _ in range(r.randrange(4))]
        return self.object(depth + 1)

    def object(self, depth=0):
        return {self.text() if self.r.random() < 0.5 else self.r.choice("abc"): self.value(depth) for _ in range(self.r.randrange(4))}

    def arguments(self):
        kind = self.r.randrange(20)
        if kind == 0:
            return self.value()
        if kind == 1:
            return self.r.choice(NO_OBJECT)
        if kind < 5:
            return self.r.choice(NO_JSON)
        return self.r.choice(("", " ", "\n")) + self.spell(self.object()) + self.r.choice(("", " ", "\r\n"))

    def maybe(self, message, key, probability, make):
        """Sets the member, or null, or an empty value, or leaves it out."""
        x = self.r.random()
        if x < probability:
            message[key] = make()
        elif x < probability + 0.04:
            message[key] = None

    def content(self):
        if self.r.random() < 0.85:
            return self.text()
        parts = [{"type": "text", "text": self.text()}, {"type": "image_url", "image_url": {}}, {"type": "text"},
                 {"type": self.text() or "x"}]  # fmt: skip
        return [self.r.choice(parts) for _ in range(self.r.randrange(4))]

    def tool(self):
        function = {"name": self.r.choice("fgh"), "description": self.text(), "parameters": self.object()}
        if self.r.random() < 0.2:
            function = self.object()
        return {"type": "function", "function": function} if self.r.random() < 0.99 else {"type": "function"}

    def call(self):
        call = {"type": "function", "function": {"name": self.text(), "arguments": self.arguments()}}
        self.maybe(call, "id", 0.8, lambda: self.r.choice(("", "c1", "c2", "c3")))
        self.maybe(call["function"], "id", 0.1, lambda: self.r.choice(("c1", "c4")))
        return call

    def message(self, role):
        r, m = self.r, {"role": role}
        # Lists are defined for what users and tools say.
        self.maybe(m, "content", 0.93, self.content if role in ("user", "tool") else self.text)
        self.maybe(m, "tools", 0.3 if role in ("system", "developer") else 0.02, lambda: [self.tool() for _ in range(r.randrange(4))])
        self.maybe(m, "response_format", 0.2 if role in ("system", "developer") else 0.02, self.object)
        self.maybe(m, "tool_calls", 0.5 if role == "assistant" else 0, lambda: [self.call() for _ in range(r.randrange(4))])
        self.maybe(m, "tool_call_id", 0.9 if role == "tool" else 0, lambda: r.choice(("", "c1", "c2", "c3", "c4")))
        self.maybe(m, "reasoning_content", 0.7 if role == "assistant" else 0.02, self.text)
        self.maybe(m, "task", 0.1 if role in ("user", "developer") else 0.02, lambda: r.choice([*TOKENS["tasks"], *TOKENS["tasks"], "nothing"]))
        self.maybe(m, "wo_eos", 0.1, lambda: r.random() < 0.5)
        self.maybe(m, "mask", 0.05, lambda: r.randrange(2))
        return m

    def conversation(self):
        r = self.r
        roles = ["user", "assistant", "tool", "user", "assistant", "tool", "system", "developer", "latest_reminder"]
        rare = ["direct_search_results", "nobody", "", "System"]
        out = [self.message("system")] if r.random() < 0.5 else []
        for _ in range(r.choice((0, 1, 2, 3, 5, 8, 12))):
            out.append(self.message(r.choice(rare) if r.random() < 0.01 else r.choice(roles)))
            if out[-1].get("tool_calls") and r.random() < 0.6:  # their results, in any order
                out += [self.message("tool") for _ in range(r.randrange(1, 4))]
        return out

    def options(self):
        r, o = self.r, {"thinking_mode": self.r.choice(("chat", "thinking", "thinking"))}
        if r.random() < 0.01:
            o["thinking_mode"] = "deep"
        self.maybe(o, "reasoning_effort", 0.4, lambda: r.choice(("high", "max", "max", "low", "", "none")))
        if r.random() < 0.3:
            o["drop_thinking"] = r.random() < 0.5
        if r.random() < 0.2:
            o["add_default_bos_token"] = r.random() < 0.5
        if r.random() < 0.3:
            o["context"] = self.conversation()
        return o

    def encode_case(self):
        return self.spell(self.conversation()), self.spell(self.options()), self.r.choice(("april", "0731"))

    def well_formed(self):
        """A completion that a model might write."""
        r = self.r
        plain = lambda: r.choice([t for t in TEXTS if reference.DSML not in t and t not in TOKENS.values()])  # noqa: E731
        text = plain() + reference.END_THINK + plain()
        if r.random() < 0.8:
            text += reference.OPEN_CALLS + ">\n"
            for _ in range(r.randrange(3)):
                text += f'{reference.OPEN_INVOKE} name="{plain()}">\n'
                keys = r.sample("abcd", r.randrange(4))
                text += "" if keys else r.choice(("", "\n"))  # the encoder leaves an empty line
                for key in keys:
                    is_string = r.random() < 0.5
                    value = plain() if is_string else self.spell(self.value())
                    text += f'{reference.OPEN_PARAMETER} name="{key}" string="{str(is_string).lower()}">{value}<{reference.CLOSE_PARAMETER}>\n'
                text += reference.CLOSE_INVOKE + ">\n"
            text += reference.CLOSE_CALLS
        return text + reference.EOS

    def parse_case(self):
        r = self.r
        mode = r.choice(("chat", "thinking", "thinking"))
        text = self.well_formed()
        if mode == "chat":
            text = text.split(reference.END_THINK, 1)[1]
        for _ in range(r.choice((0, 0, 1, 1, 1, 2))):  # faults
            a = r.randrange(len(text) + 1)
            b = min(len(text), a + r.choice((0, 1, 1, 2, 5, 20)))
            kind = r.randrange(5)
            if kind == 0:
                text = text[:a]
            elif kind == 1:
                text = text[:a] + text[b:]
            elif kind == 2:
                text = text[:a] + r.choice(["\n", ">", "<", '"', " ", reference.DSML, *TEXTS]) + text[a:]
            elif kind == 3:
                text = text[:b] + text[a:b] + text[b:]
            else:
                text = text.replace("\n\n", "\n", 1)
        return text, mode


def run(vexil, arguments, text):
    result = subprocess.run([vexil, *arguments], input=text.encode(), capture_output=True, timeout=60)
    if result.returncode == 2 and result.stderr.count(b"\n") == 1 and not result.stdout:
        return None, result.stderr.decode()
    if result.returncode != 0 or result.stderr:
        return f"status {result.returncode}", result.stderr.decode(errors="replace")
    return result.stdout.decode(), ""


def attempt(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except reference.ChatError:
        return None


def check_encode(vexil, seed):
    document, options, table = Cases(f"encode {seed}").encode_case()
    expected = attempt(reference.encode, json.loads(document), table=table, **json.loads(options))
    found, error = run(vexil, ["encode", "--args", options, "--effort-table", table, "-"], document)
    return expected, found, error, f"{options}\n{document}"


def check_parse(vexil, seed):
    text, mode = Cases(f"parse {seed}").parse_case()
    expected = attempt(reference.parse, text, mode)
    found, error = run(vexil, ["parse", "--thinking", mode, "-"], text)
    if found is not None and not error:
        found = json.loads(found)
    return expected, found, error, f"{mode} {text!r}"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("vexil")
    p.add_argument("--seed", type=int, default=0, help="the first seed")
    p.add_argument("--encode", type=int, default=300, help="conversations")
    p.add_argument("--parse", type=int, default=300, help="completions")
    flags = p.parse_args()
    faults = 0
    for name, check, count in (("encode", check_encode, flags.encode), ("parse", check_parse, flags.parse)):
        refused = 0
        seeds = range(flags.seed, flags.seed + count)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for seed, (expected, found, error, case) in zip(seeds, pool.map(lambda s: check(flags.vexil, s), seeds)):
                refused += expected is None
                if expected != found:
                    faults += 1
                    print(f"--- {name}, seed {seed}:\n{case}\nexpected {expected!r}\nfound    {found!r} {error}")
        print(f"{name}: {count} cases, {refused} to be refused")
    print(f"{faults} differences")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
