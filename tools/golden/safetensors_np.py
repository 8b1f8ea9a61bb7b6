"""Strict reading and writing of safetensors files, including the types that NumPy does not have.

A tensor is returned as its stored bytes in the nearest NumPy type (BF16 as uint16, F8_E4M3 and F8_E8M0 as uint8)
together with the name of its type; Tensor.decode() gives float64 values.
"""
import json
import os
from dataclasses import dataclass

import numpy as np

import formats

_STORAGE = {
    "BOOL": np.uint8,
    "U8": np.uint8,
    "I8": np.int8,
    "F8_E4M3": np.uint8,
    "F8_E8M0": np.uint8,
    "I16": np.int16,
    "BF16": np.uint16,
    "F16": np.float16,
    "I32": np.int32,
    "F32": np.float32,
    "I64": np.int64,
    "F64": np.float64,
}
_DECODE = {"BF16": formats.decode_bf16, "F8_E4M3": formats.decode_e4m3, "F8_E8M0": formats.decode_e8m0}
NAME_OF = {np.dtype(t): n for n, t in _STORAGE.items() if n in ("F32", "F64", "I32", "I64")}  # of NumPy types that need no label
_MAX_HEADER_BYTES = 100 * 1024 * 1024
_DATA_ALIGNMENT = 8


@dataclass(frozen=True)
class Tensor:
    """One stored tensor: the type's name in the file and the raw elements."""

    dtype: str
    data: np.ndarray

    @property
    def shape(self):
        return self.data.shape

    @property
    def logical_shape(self):
        """As the header has it: F4 counts elements, of which a byte holds two."""
        return (*self.shape[:-1], 2 * self.shape[-1]) if self.dtype == "F4" else self.shape

    def decode(self):
        """The elements as float64. Refuses I8, whose meaning (E2M1 pairs or integers) the caller must know."""
        if self.dtype == "I8":
            raise ValueError("an I8 tensor has no single meaning; decode it explicitly")
        decode = _DECODE.get(self.dtype)
        return decode(self.data) if decode else self.data.astype(np.float64)


class File:
    """A read-only safetensors file; tensors are read on demand."""

    def __init__(self, path):
        self.path = path
        self._entries, self._data_start = _read_header(path)

    def names(self):
        return self._entries.keys()

    def __contains__(self, name):
        return name in self._entries

    def read(self, name):
        dtype, shape, begin, end = self._entries[name]
        with open(self.path, "rb") as f:
            f.seek(self._data_start + begin)
            raw = f.read(end - begin)
        return Tensor(dtype, np.frombuffer(raw, _STORAGE[dtype]).reshape(shape))


def _read_header(path):
    file_bytes = os.path.getsize(path)
    with open(path, "rb") as f:
        prefix = f.read(8)
        header_bytes = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or header_bytes > min(file_bytes - 8, _MAX_HEADER_BYTES):
            raise ValueError(f"{path}: header length {header_bytes} does not fit a file of {file_bytes} bytes")
        try:
            header = json.loads(f.read(header_bytes), object_pairs_hook=_unique_keys)
        except ValueError as error:
            raise ValueError(f"{path}: bad header: {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header is not a JSON object")
    data_start = 8 + header_bytes
    entries = {name: _entry(path, name, e) for name, e in header.items() if name != "__metadata__"}
    _check_layout(path, entries, file_bytes - data_start)
    return entries, data_start


def _unique_keys(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _entry(path, name, entry):
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{path}: tensor '{name}' needs dtype, shape and two data_offsets") from None
    if dtype not in _STORAGE:
        raise ValueError(f"{path}: tensor '{name}' has the unknown dtype {dtype!r}")
    if not all(type(v) is int and v >= 0 for v in (*shape, begin, end)):
        raise ValueError(f"{path}: tensor '{name}' has a shape or an offset that is not a natural number")
    expected = np.dtype(_STORAGE[dtype]).itemsize
    for extent in shape:
        expected *= extent
    if end - begin != expected:
        raise ValueError(f"{path}: tensor '{name}' has {end - begin} bytes, its shape needs {expected}")
    return dtype, shape, begin, end


def _check_layout(path, entries, data_bytes):
    """The tensors must cover the data area exactly: no gap, no overlap, nothing left over."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise ValueError(f"{path}: tensor '{name}' starts at byte {begin}, expected {position}")
        position = end
    if position != data_bytes:
        raise ValueError(f"{path}: tensors cover {position} bytes of {data_bytes}")


def read_all(path):
    """{name: array} of a file whose tensors are plain numbers (no I8)."""
    file = File(path)
    tensors = {name: file.read(name) for name in file.names()}
    return {name: t.decode() if t.dtype in _DECODE else t.data for name, t in tensors.items()}


def save(path, tensors, metadata=None):
    """Writes {name: array or Tensor}; arrays must be F32, F64, I32 or I64."""
    tensors = {n: t if isinstance(t, Tensor) else Tensor(NAME_OF[t.dtype], t) for n, t in tensors.items()}
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.data.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.logical_shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _DATA_ALIGNMENT)
    with open(path, "wb") as f:
        f.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors.values():
            f.write(np.ascontiguousarray(tensor.data).tobytes())
