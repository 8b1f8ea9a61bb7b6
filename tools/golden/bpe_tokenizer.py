"""Byte-level BPE of a tokenizer.json of the DeepSeek-V3 family (spec: tokenizer), for preparing test inputs.

Only what these files use: added tokens, Split pre-tokenizers with Unicode category classes, ByteLevel, merges.
"""
import functools
import json
import re
import sys
import unicodedata

_WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


class Tokenizer:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
        added = {t["content"]: t["id"] for t in config["added_tokens"]}
        longest_first = sorted(map(re.escape, added), key=len, reverse=True)
        self._added, self._added_pattern = added, re.compile("|".join(longest_first) or "(?!)")
        self._splits = [
            re.compile(_translate(p["pattern"]["Regex"]))
            for p in config["pre_tokenizer"]["pretokenizers"]
            if p["type"] == "Split"
        ]
        self._vocab = config["model"]["vocab"]
        merges = (tuple(m.split(" ") if isinstance(m, str) else m) for m in config["model"]["merges"])
        self._rank = {pair: rank for rank, pair in enumerate(merges)}
        self._byte_symbols = _byte_symbols()

    def encode(self, text):
        """Token ids; added tokens are recognised anywhere in the text."""
        ids, position = [], 0
        for match in self._added_pattern.finditer(text):
            ids += self._encode_segment(text[position : match.start()])
            ids.append(self._added[match[0]])
            position = match.end()
        return ids + self._encode_segment(text[position:])

    def _encode_segment(self, text):
        pieces = [text] if text else []
        for pattern in self._splits:
            pieces = [part for piece in pieces for part in _isolate(pattern, piece)]
        return [i for piece in pieces for i in self._encode_piece(piece)]

    def _encode_piece(self, piece):
        symbols = [self._byte_symbols[b] for b in piece.encode("utf-8", "surrogatepass")]
        while len(symbols) > 1:
            ranks = [self._rank.get(pair, sys.maxsize) for pair in zip(symbols, symbols[1:])]
            best = min(ranks)
            if best == sys.maxsize:
                break
            at = ranks.index(best)
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        return [self._vocab[s] for s in symbols]


def _isolate(pattern, piece):
    """Matches and the stretches between them, in order."""
    parts, position = [], 0
    for match in pattern.finditer(piece):
        parts += [piece[position : match.start()], match[0]]
        position = match.end()
    return [p for p in (*parts, piece[position:]) if p]


def _byte_symbols():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {b: chr(b) for b in printable}
    others = (b for b in range(256) if b not in symbols)
    return symbols | {b: chr(256 + n) for n, b in enumerate(others)}


def _translate(pattern):
    r"""Spells out \p{X} and \s, which Python's re lacks or defines differently, as character ranges."""
    out, in_class, position = [], False, 0
    for match in re.finditer(r"\\p\{(\w)\}|\\.|[\[\]]", pattern):
        out.append(pattern[position : match.start()])
        position, token = match.end(), match[0]
        if match[1] or token in (r"\s", r"\S"):
            ranges = _category_ranges(match[1]) if match[1] else _WHITE_SPACE
            out.append(ranges if in_class else f"[{'^' if token == chr(92) + 'S' else ''}{ranges}]")
            continue
        in_class = token == "[" or (in_class and token != "]")
        out.append(token)
    return "".join(out) + pattern[position:]


@functools.cache
def _category_ranges(major):
    """The characters of a general category's major class as ranges of a regex class."""
    ranges = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == major:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
