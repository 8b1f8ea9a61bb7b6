"""Unit checks of the number formats, the RoPE table and the Sinkhorn iteration against recorded vectors."""
import json
import os
import tempfile
import unittest

import numpy as np

import formats
import safetensors_np
from v4_attention import Rope, rope_frequencies
from v4_config import Yarn
from v4_model import hyper_coefficients
from v4_numerics import Numerics, hadamard

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../testdata/formats")
FLASH_YARN = Yarn(factor=16.0, original_length=65536, beta_fast=32, beta_slow=1)
ROPE_DIM = 64


def load(name):
    with open(os.path.join(VECTORS, name), encoding="utf-8") as f:
        return json.load(f)


def from_hex(words):
    return formats.decode_bf16([int(w, 16) for w in words])


def all_finite_bf16():
    bits = np.arange(1 << 16)
    return formats.decode_bf16(bits[bits & 0x7F80 != 0x7F80])


class RoundingTest(unittest.TestCase):
    def test_f32_and_bf16_agree_with_integer_arithmetic_on_ties(self):
        values = all_finite_bf16()
        positive = values[values > 0]
        middles = (positive[:-1] + positive[1:]) / 2  # exact in float64
        even = np.where(np.arange(len(middles)) % 2 == 1, positive[:-1], positive[1:])
        np.testing.assert_array_equal(formats.round_bf16(middles), even)
        np.testing.assert_array_equal(formats.round_f32_to_bf16(middles), even)
        np.testing.assert_array_equal(formats.round_bf16(np.nextafter(middles, 0)), positive[:-1])
        np.testing.assert_array_equal(formats.round_bf16(np.nextafter(middles, np.inf)), positive[1:])

    def test_bf16_keeps_its_own_values_and_overflows_to_infinity(self):
        values = all_finite_bf16()
        np.testing.assert_array_equal(formats.round_bf16(values), values)
        np.testing.assert_array_equal(formats.round_f32_to_bf16(values), values)
        self.assertEqual(formats.round_bf16(3.4e38), np.inf)
        self.assertEqual(formats.round_f32_to_bf16(np.array([-3.4e38]))[0], -np.inf)
        self.assertTrue(np.isnan(formats.round_f32_to_bf16(np.array([np.nan]))[0]))

    def test_double_rounding_happens_only_in_the_two_step_function(self):
        just_above_a_tie = np.array([1.0 + 2.0**-8 + 2.0**-40])
        self.assertEqual(formats.round_bf16(just_above_a_tie)[0], 1.0 + 2.0**-7)
        self.assertEqual(formats.round_f32_to_bf16(just_above_a_tie)[0], 1.0)

    def test_small_formats_round_to_the_nearest_value_ties_to_even_code(self):
        for round_to, table in (
            (formats.round_e4m3, np.array(load("quant.json")["e4m3fn_decode"][:127])),
            (formats.round_e2m1, formats.E2M1_VALUES[:8]),
        ):
            middles = (table[:-1] + table[1:]) / 2
            even = np.where(np.arange(len(middles)) % 2 == 0, table[:-1], table[1:])
            np.testing.assert_array_equal(round_to(middles), even)
            np.testing.assert_array_equal(round_to(-middles), -even)
            np.testing.assert_array_equal(round_to(np.nextafter(middles, 0)), table[:-1])
            np.testing.assert_array_equal(round_to(np.nextafter(middles, 8192)), table[1:])
            np.testing.assert_array_equal(round_to(table), table)


class QuantVectorsTest(unittest.TestCase):
    def setUp(self):
        self.vectors = load("quant.json")

    def test_decode_tables(self):
        e4m3 = np.array([np.nan if v is None else v for v in self.vectors["e4m3fn_decode"]])
        np.testing.assert_array_equal(formats.decode_e4m3(np.arange(256)), e4m3)
        np.testing.assert_array_equal(formats.E2M1_VALUES, self.vectors["e2m1_decode"])
        np.testing.assert_array_equal(formats.decode_e8m0([0, 127, 254]), [2.0**-127, 1.0, 2.0**127])
        self.assertTrue(np.isnan(formats.decode_e8m0([255])[0]))

    def test_fp8_blocks(self):
        self._check_blocks(self.vectors["act_fp8"], formats.quantize_fp8_blocks, formats.encode_e4m3)

    def test_fp4_blocks(self):
        self._check_blocks(self.vectors["act_fp4"], formats.quantize_fp4_blocks, formats.encode_e2m1)

    def _check_blocks(self, cases, quantize, encode):
        self.assertTrue(cases)
        for case in cases:
            x = from_hex(case["x"])
            values, scales = quantize(x, len(x))
            np.testing.assert_array_equal(scales, np.full(len(x), 2.0 ** case["scale_exp"]))
            np.testing.assert_array_equal(encode(values), case["codes"])
            np.testing.assert_array_equal(values * scales, from_hex(case["dequant"]))

    def test_packed_fp4_row(self):
        row = self.vectors["fp4_weight_row"]
        values = formats.decode_packed_e2m1(np.array([row["packed_bytes"]], np.uint8))[0]
        scales = np.repeat(formats.decode_e8m0(row["e8m0_scale_bytes"]), 32)
        np.testing.assert_array_equal(values * scales, from_hex(row["dequant_bf16"]))

    def test_the_block_exponent_equals_the_f32_bit_formula_for_every_bf16_amax(self):
        amax = all_finite_bf16()
        for floor, largest in ((formats.FP8_AMAX_FLOOR, formats.E4M3_MAX), (formats.FP4_AMAX_FLOOR, formats.E2M1_MAX)):
            floored = np.maximum(amax, floor)
            scaled = floored.astype(np.float32) * np.float32(1.0 / largest)
            bits = scaled.view(np.uint32).astype(np.int64)
            by_bits = ((bits >> 23) & 255) - 127 + ((bits & 0x7FFFFF) != 0)
            np.testing.assert_array_equal(formats.block_exponent(floored, largest), by_bits)

    def test_a_short_last_block_has_its_own_scale(self):
        x = np.concatenate([np.full(64, 448.0), np.full(16, 0.4375)])
        _, scales = formats.quantize_fp8_blocks(x, 64)
        np.testing.assert_array_equal(scales, np.repeat([1.0, 2.0**-10], [64, 16]))


class RopeVectorsTest(unittest.TestCase):
    def setUp(self):
        self.vectors = load("rope.json")

    def test_frequencies_bit_for_bit(self):
        plain = rope_frequencies(ROPE_DIM, 10000, None)
        yarn = rope_frequencies(ROPE_DIM, 160000, FLASH_YARN)
        np.testing.assert_array_equal(plain, np.float32(self.vectors["plain_theta10000"]))
        np.testing.assert_array_equal(yarn, np.float32(self.vectors["yarn_theta160000"]))

    def test_the_ramp_is_clamped_to_the_rotary_width_not_to_the_number_of_pairs(self):
        # The correction of beta_slow is 11.2 here: the ramp runs from pair 0 to 7 although there are 4 pairs.
        yarn = Yarn(factor=2.0, original_length=2**40, beta_fast=1e12, beta_slow=1)
        ratio = rope_frequencies(8, 10000, yarn) / rope_frequencies(8, 10000, None)
        np.testing.assert_allclose(ratio, 1 - 0.5 * np.arange(4) / 7, rtol=1e-6)

    def test_cos_sin(self):
        for kind, compressed in (("plain", False), ("yarn", True)):
            for position, expected in self.vectors["cos_sin"][kind].items():
                cos, sin = Rope(_FlashRope, compressed, Numerics.of("fp8")).cos_sin([int(position)])
                expected = np.float32(expected)
                np.testing.assert_allclose(np.stack([cos[0], sin[0]], axis=1), expected, rtol=0, atol=6e-8)

    def test_the_inverse_undoes_the_rotation_of_the_last_channels_only(self):
        rope = Rope(_FlashRope, True, Numerics.of("f32"))
        x = np.random.default_rng(1).standard_normal((5, 3, 80))
        rotated = rope.apply(x, np.arange(5))
        np.testing.assert_array_equal(rotated[..., :16], x[..., :16])
        self.assertGreater(np.abs(rotated[1:, :, 16:] - x[1:, :, 16:]).max(), 0.1)
        np.testing.assert_allclose(rope.apply(rotated, np.arange(5), inverse=True), x, atol=1e-6)


class _FlashRope:
    rope_dim, rope_theta, compress_rope_theta, yarn = ROPE_DIM, 10000, 160000, FLASH_YARN


class SinkhornVectorsTest(unittest.TestCase):
    def test_coefficients(self):
        for case in load("sinkhorn.json")["cases"]:
            mixes, scale, base = (np.array(case[k]) for k in ("mixes", "scale", "base"))
            pre, post, comb = hyper_coefficients(mixes[None], scale, base, num_streams=4, iterations=20, eps=1e-6)
            np.testing.assert_allclose(pre[0], case["pre"], rtol=1e-12)
            np.testing.assert_allclose(post[0], case["post"], rtol=1e-12)
            np.testing.assert_allclose(comb[0], case["comb"], rtol=1e-12)


class IndexVectorTest(unittest.TestCase):
    def test_hadamard_is_the_sylvester_matrix(self):
        index = np.arange(Numerics.index_block)
        popcount = np.array([[bin(i & j).count("1") for j in index] for i in index])
        np.testing.assert_array_equal(hadamard(Numerics.index_block), (-1.0) ** popcount)


class SafetensorsTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.path = os.path.join(self._folder.name, "t.safetensors")

    def test_round_trip(self):
        tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([-1, 2], np.int32)}
        safetensors_np.save(self.path, tensors)
        read = safetensors_np.read_all(self.path)
        for name, array in tensors.items():
            np.testing.assert_array_equal(read[name], array)

    def test_bad_files_are_refused(self):
        entry = '{"a":{"dtype":"%s","shape":[2],"data_offsets":[%d,%d]}}'
        for header, data, message in (
            (entry % ("F32", 0, 8), b"\0" * 9, "cover 8 bytes of 9"),
            (entry % ("F32", 0, 8), b"\0" * 7, "cover 8 bytes of 7"),
            (entry % ("F32", 1, 9), b"\0" * 9, "starts at byte 1"),
            (entry % ("F32", 0, 4), b"\0" * 4, "its shape needs 8"),
            (entry % ("F33", 0, 8), b"\0" * 8, "unknown dtype"),
            ('{"a":1}', b"", "needs dtype"),
            ('{"a":{},"a":{}}', b"", "twice"),
            ("[]", b"", "not a JSON object"),
            ("{", b"", "bad header"),
        ):
            with open(self.path, "wb") as f:
                f.write(len(header).to_bytes(8, "little") + header.encode() + data)
            with self.assertRaisesRegex(ValueError, message):
                safetensors_np.File(self.path)
        with open(self.path, "wb") as f:
            f.write((1 << 40).to_bytes(8, "little"))
        with self.assertRaisesRegex(ValueError, "does not fit"):
            safetensors_np.File(self.path)


if __name__ == "__main__":
    unittest.main()
