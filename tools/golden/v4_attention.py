"""Attention of a DeepSeek-V4 layer: shared-KV window, compressor, indexer, sparse attention (spec: model, 6 to 8).

A whole sequence is processed at once, positions 0 .. s-1; arrays are float64 and hold rounded values.
"""
import math

import numpy as np

from v4_config import CSA_RATIO

SOFTMAX_BLOCK = 64  # slots whose probabilities are rounded against one running maximum
_QUERY_CHUNK = 64  # queries handled together, to bound memory


def rms_norm(x, weight, eps, numerics):
    """y = w * (x / sqrt(mean(x^2) + eps)), one bf16 rounding (spec: model, section 6)."""
    r = numerics.f32(1.0 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps))
    return numerics.bf16(numerics.f32(x * r) * weight)


def rope_frequencies(rope_dim, theta, yarn):
    """The f32 frequency of every rotary pair (spec: model, section 7.1)."""
    f32 = np.float32
    exponents = f32(np.arange(0, rope_dim, 2)) / f32(rope_dim)
    frequencies = f32(1.0) / f32(np.power(float(theta), exponents.astype(np.float64)))
    if yarn is None:
        return frequencies

    def correction(rotations):
        return rope_dim * math.log(yarn.original_length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(correction(yarn.beta_fast)), 0)
    high = min(math.ceil(correction(yarn.beta_slow)), rope_dim - 1)
    span = f32(high - low) if high != low else f32(0.001)
    ramp = np.clip((f32(np.arange(rope_dim // 2)) - f32(low)) / span, f32(0), f32(1))
    smooth = f32(1) - ramp
    return frequencies / f32(yarn.factor) * (f32(1) - smooth) + frequencies * smooth


class Rope:
    """Rotation of the last rope_dim channels of vectors; the table is f32 in every mode."""

    def __init__(self, cfg, compressed, numerics):
        theta, yarn = (cfg.compress_rope_theta, cfg.yarn) if compressed else (cfg.rope_theta, None)
        self._frequencies = rope_frequencies(cfg.rope_dim, theta, yarn)
        self._dim = cfg.rope_dim
        self._numerics = numerics

    def cos_sin(self, positions):
        angles = np.asarray(positions, np.float32)[:, None] * self._frequencies
        cos, sin = np.cos(angles.astype(np.float64)), np.sin(angles.astype(np.float64))
        return cos.astype(np.float32).astype(np.float64), sin.astype(np.float32).astype(np.float64)

    def apply(self, x, positions, inverse=False):
        """x [position, ..., channel]; the inverse rotation negates the sine."""
        cos, sin = self.cos_sin(positions)
        shape = (len(positions), *[1] * (x.ndim - 2), self._dim // 2)
        cos, sin = cos.reshape(shape), sin.reshape(shape) * (-1.0 if inverse else 1.0)
        out = x.copy()
        a, b = x[..., -self._dim :: 2], x[..., -self._dim + 1 :: 2]
        out[..., -self._dim :: 2] = self._numerics.bf16(a * cos - b * sin)
        out[..., -self._dim + 1 :: 2] = self._numerics.bf16(a * sin + b * cos)
        return out


class Compressor:
    """Pools every complete block of `ratio` tokens into one entry, up to the rotation (spec: model, section 8.4)."""

    def __init__(self, checkpoint, prefix, cfg, ratio, dim, rope, numerics):
        width = (2 if ratio == CSA_RATIO else 1) * dim
        self._wkv = checkpoint.plain(f"{prefix}.wkv.weight", (width, cfg.hidden_size))
        self._wgate = checkpoint.plain(f"{prefix}.wgate.weight", (width, cfg.hidden_size))
        self._ape = checkpoint.plain(f"{prefix}.ape", (ratio, width))
        self._norm = checkpoint.plain(f"{prefix}.norm.weight", (dim,))
        self._eps = cfg.norm_eps
        self._ratio, self._dim, self._rope, self._numerics = ratio, dim, rope, numerics

    def entries(self, x):
        """[s, D] -> [s // ratio, dim], bf16, not yet quantised."""
        n, ratio, numerics = len(x) // self._ratio, self._ratio, self._numerics
        shape = (n, ratio, len(self._wkv))
        x = x[: n * ratio]
        values = numerics.f32(numerics.matmul(x, self._wkv.T)).reshape(shape)
        scores = numerics.f32(numerics.matmul(x, self._wgate.T)).reshape(shape)
        scores = numerics.f32(scores + self._ape)
        if ratio == CSA_RATIO:
            values, scores = self._overlap(values, 0.0), self._overlap(scores, -np.inf)
        pooled = self._pool(values, scores)
        normed = rms_norm(numerics.bf16(pooled), self._norm, self._eps, numerics)
        return self._rope.apply(normed, np.arange(n) * ratio)

    def _overlap(self, blocks, missing):
        """First-half channels of the preceding block, then second-half channels of the block itself."""
        first = np.concatenate([np.full_like(blocks[:1], missing), blocks[:-1]])[..., : self._dim]
        return np.concatenate([first, blocks[..., self._dim :]], axis=1)

    def _pool(self, values, scores):
        if not len(values):
            return values.reshape(0, self._dim)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (weights * values).sum(axis=1) / weights.sum(axis=1)


class Indexer:
    """Chooses the compressed entries that a CSA query sees (spec: model, section 8.5)."""

    def __init__(self, checkpoint, prefix, cfg, rope, numerics):
        heads, dim = cfg.num_index_heads, cfg.index_dim
        self._wq_b = checkpoint.linear(f"{prefix}.wq_b.weight", (heads * dim, cfg.q_rank))
        self._weights_proj = checkpoint.linear(f"{prefix}.weights_proj.weight", (heads, cfg.hidden_size))
        self._compressor = Compressor(checkpoint, f"{prefix}.compressor", cfg, CSA_RATIO, dim, rope, numerics)
        self._heads, self._dim, self._topk = heads, dim, cfg.index_topk
        self._rope, self._numerics = rope, numerics

    def picks(self, x, qr):
        """[s, min(topk, s // 4)] entries by descending score, the lower index first among equals, -1 for none; and by
        how much [s] the last pick beats the best entry left out (infinite where none is)."""
        s = len(x)
        scores = self._scores(x, qr)
        candidates = (np.arange(s) + 1) // CSA_RATIO
        scores = np.where(np.arange(scores.shape[1]) < candidates[:, None], scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")
        margin = selection_margin(np.take_along_axis(scores, order, axis=1), self._topk)
        order = order[:, : self._topk]
        return np.where(np.arange(order.shape[1]) < candidates[:, None], order, -1), margin

    def _scores(self, x, qr):
        numerics = self._numerics
        q = numerics.linear(qr, self._wq_b).reshape(len(x), self._heads, self._dim)
        q = numerics.index_vector(self._rope.apply(q, np.arange(len(x))))
        keys = numerics.index_vector(self._compressor.entries(x))
        factor = float(numerics.f32(np.float64(self._dim**-0.5 * self._heads**-0.5)))
        weights = numerics.bf16(numerics.linear(x, self._weights_proj) * factor)
        total = np.zeros((len(x), len(keys)))
        for head in range(self._heads):
            dots = numerics.bf16(numerics.matmul(q[:, head], keys.T))
            total += numerics.bf16(np.maximum(dots, 0.0) * weights[:, head : head + 1])
        return numerics.bf16(total)


def selection_margin(descending, count):
    """[rows]: the gap between the last of the `count` largest scores and the next one; infinite where all are taken."""
    if descending.shape[1] <= count:
        return np.full(len(descending), np.inf)
    following = descending[:, count]
    gap = np.full(len(descending), np.inf)
    np.subtract(descending[:, count - 1], following, out=gap, where=np.isfinite(following))
    return gap


class Attention:
    def __init__(self, checkpoint, prefix, cfg, ratio, numerics):
        heads, dim, groups = cfg.num_heads, cfg.head_dim, cfg.num_o_groups
        self._wq_a = checkpoint.linear(f"{prefix}.wq_a.weight", (cfg.q_rank, cfg.hidden_size))
        self._q_norm = checkpoint.plain(f"{prefix}.q_norm.weight", (cfg.q_rank,))
        self._wq_b = checkpoint.linear(f"{prefix}.wq_b.weight", (heads * dim, cfg.q_rank))
        self._wkv = checkpoint.linear(f"{prefix}.wkv.weight", (dim, cfg.hidden_size))
        self._kv_norm = checkpoint.plain(f"{prefix}.kv_norm.weight", (dim,))
        self._sink = checkpoint.plain(f"{prefix}.attn_sink", (heads,))
        wo_a = checkpoint.linear(f"{prefix}.wo_a.weight", (groups * cfg.o_rank, heads // groups * dim)).weight
        self._wo_a = wo_a.reshape(groups, cfg.o_rank, -1)
        self._wo_b = checkpoint.linear(f"{prefix}.wo_b.weight", (cfg.hidden_size, groups * cfg.o_rank))
        self._rope = Rope(cfg, ratio != 0, numerics)
        self._cfg, self._ratio, self._numerics = cfg, ratio, numerics
        self._compressor = self._indexer = None
        if ratio:
            self._compressor = Compressor(
                checkpoint, f"{prefix}.compressor", cfg, ratio, dim, self._rope, numerics
            )
        if ratio == CSA_RATIO:
            self._indexer = Indexer(checkpoint, f"{prefix}.indexer", cfg, self._rope, numerics)

    def forward(self, x):
        """[s, D] -> ([s, D], the indexer's picks or None, their margins or None)."""
        cfg, numerics, positions = self._cfg, self._numerics, np.arange(len(x))
        qr = rms_norm(numerics.linear(x, self._wq_a), self._q_norm, cfg.norm_eps, numerics)
        q = self._rope.apply(self._query(qr), positions)
        rows = rms_norm(numerics.linear(x, self._wkv), self._kv_norm, cfg.norm_eps, numerics)
        rows = numerics.kv_row(self._rope.apply(rows, positions), cfg.rope_dim)
        columns, picks, margin = window_columns(len(x), cfg.window), None, None
        if self._ratio:
            entries = numerics.kv_row(self._compressor.entries(x), cfg.rope_dim)
            if self._indexer:
                picks, margin = self._indexer.picks(x, qr)
            visible = picks if self._indexer else complete_blocks(len(x), self._ratio)
            columns = np.concatenate([columns, np.where(visible >= 0, visible + len(rows), -1)], axis=1)
            rows = np.concatenate([rows, entries])
        o = sparse_attention(q, rows, columns, self._sink, numerics)
        return self._output(self._rope.apply(o, positions, inverse=True)), picks, margin

    def _query(self, qr):
        """The heads' queries, each normalised in steps of one bf16 operation (spec: model, section 8.1)."""
        numerics = self._numerics
        q = numerics.linear(qr, self._wq_b).reshape(len(qr), self._cfg.num_heads, self._cfg.head_dim)
        squares = numerics.bf16(q * q)
        mean = numerics.bf16(squares.mean(axis=-1, keepdims=True))
        mean = numerics.bf16(mean + self._cfg.norm_eps)
        return numerics.bf16(q * numerics.bf16(1.0 / np.sqrt(mean)))

    def _output(self, o):
        numerics = self._numerics
        grouped = o.reshape(len(o), len(self._wo_a), -1)
        z = [numerics.bf16(numerics.matmul(grouped[:, g], w.T)) for g, w in enumerate(self._wo_a)]
        return numerics.linear(np.concatenate(z, axis=1), self._wo_b)


def window_columns(length, window):
    """Row t: the positions max(0, t-window+1) .. t ascending, then -1 up to `window` columns."""
    t = np.arange(length)[:, None]
    columns = np.maximum(0, t - window + 1) + np.arange(window)
    return np.where(columns <= t, columns, -1)


def complete_blocks(length, ratio):
    """Row t: the entries 0 .. (t+1) // ratio - 1 ascending, then -1."""
    entries = np.arange(length // ratio)
    return np.where(entries < (np.arange(length)[:, None] + 1) // ratio, entries, -1)


def sparse_attention(q, rows, columns, sink, numerics):
    """Attention of q [s, H, dh] over rows [r, dh], both keys and values, listed in columns [s, slots] (-1: none).

    Online softmax over blocks of 64 slots; the probabilities of a block are rounded to bf16 for the product with the
    values only, the sink joins the denominator only (spec: model, section 8.7).
    """
    out = np.empty_like(q)
    for start in range(0, len(q), _QUERY_CHUNK):
        part = slice(start, start + _QUERY_CHUNK)
        out[part] = _attend(q[part], rows, columns[part], sink, numerics)
    return out


def _attend(q, rows, columns, sink, numerics):
    scale = float(numerics.f32(np.float64(q.shape[-1] ** -0.5)))
    values = rows[columns]
    logits = numerics.f32(numerics.matmul(q, values.swapaxes(1, 2)) * scale)
    logits = np.where(columns[:, None, :] >= 0, logits, -np.inf)
    running_max = np.full(q.shape[:2] + (1,), -np.inf)
    total, acc = np.zeros_like(running_max), np.zeros_like(q)
    for start in range(0, columns.shape[1], SOFTMAX_BLOCK):
        block = slice(start, start + SOFTMAX_BLOCK)
        new_max = np.maximum(running_max, logits[..., block].max(axis=-1, keepdims=True))
        keep = np.exp(running_max - new_max)
        p = numerics.f32(np.exp(logits[..., block] - new_max))
        total = total * keep + p.sum(axis=-1, keepdims=True)
        acc = acc * keep + numerics.matmul(numerics.bf16(p), values[:, block])
        running_max = new_max
    total = total + np.exp(sink[:, None] - running_max)
    return numerics.bf16(acc / total)
