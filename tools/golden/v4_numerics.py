"""Which rounding points a run applies. The arithmetic between two rounding points is float64.

Three modes: `fp8` is the published numerics, `bf16` keeps the bf16 and f32 rounding points but quantises no
activation (and so needs no Hadamard rotation), `f32` rounds nothing at all.
"""
from dataclasses import dataclass, replace

import numpy as np

import formats


@dataclass(frozen=True)
class Numerics:
    round_results: bool  # bf16 and f32 results, the softmax probabilities included
    quantize_linear_input: bool  # E4M3, blocks of 128, before E4M3 and E2M1 weights
    quantize_kv: bool  # E4M3, blocks of 64, window and compressed rows without their rotary channels
    quantize_indexer: bool  # Hadamard rotation, then E2M1, blocks of 32, indexer queries and keys
    accumulate_f32: bool = False  # products of matrices in f32: another summation order, for noise measurements
    linear_block: int = 128  # channels that share a scale; other lengths only to see whether a check can tell
    kv_block: int = 64
    index_block: int = 32

    @classmethod
    def of(cls, data_format):
        quantize = data_format == "fp8"
        return cls(data_format != "f32", quantize, quantize, quantize)

    def without(self, names):
        """A variant with some roundings left out, for sensitivity measurements."""
        return replace(self, **{f"quantize_{name}": False for name in names})

    def with_blocks(self, **blocks):
        """A variant with other block lengths, for sensitivity measurements."""
        return replace(self, **blocks)

    def with_f32_accumulation(self):
        return replace(self, accumulate_f32=True)

    def f32(self, x):
        return formats.round_f32(x) if self.round_results else x

    def bf16(self, x):
        """A bf16 result of f32 arithmetic."""
        return formats.round_f32_to_bf16(x) if self.round_results else x

    def matmul(self, a, b):
        if self.accumulate_f32:
            return (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float64)
        return a @ b

    def linear(self, x, linear):
        """A weight's product with its input, bf16 (spec: quantization, section 5)."""
        if linear.quantized and self.quantize_linear_input:
            x = formats.fake_quantize_fp8(x, self.linear_block)
        return self.bf16(self.matmul(x, linear.weight.T))

    def kv_row(self, row, rope_dim):
        """The stored form of a window or compressed row (spec: model, section 8.2)."""
        if not self.quantize_kv:
            return row
        split = row.shape[-1] - rope_dim
        if split == 0:
            return row
        return np.concatenate([formats.fake_quantize_fp8(row[..., :split], self.kv_block), row[..., split:]], axis=-1)

    def index_vector(self, x):
        """The rotated and rounded form of indexer queries and keys (spec: model, sections 8.4 and 8.5)."""
        if not self.quantize_indexer:
            return x
        rotated = self.bf16(x @ hadamard(x.shape[-1]) * x.shape[-1] ** -0.5)
        return formats.fake_quantize_fp4(rotated, self.index_block)


def hadamard(size):
    """The Sylvester matrix H[i][j] = (-1)^popcount(i & j)."""
    matrix = np.ones((1, 1))
    while matrix.shape[0] < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    if matrix.shape[0] != size:
        raise ValueError(f"index_head_dim {size} is not a power of two")
    return matrix
