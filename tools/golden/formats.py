"""Exact rounding to the number formats of a DeepSeek-V4 checkpoint (spec: quantization, sections 1, 2, 4).

Every function takes and returns float64 arrays, so that the arithmetic of the formats themselves is exact. Rounding is
to nearest, ties to even. Decoders take the bytes of a file.
"""
import numpy as np

E4M3_MAX = 448.0
E2M1_MAX = 6.0
FP8_AMAX_FLOOR = float(np.float32(1e-4))
FP4_AMAX_FLOOR = 6.0 * 2.0**-126

E2M1_VALUES = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def round_f32(x):
    """Nearest binary32."""
    return np.asarray(x, np.float64).astype(np.float32).astype(np.float64)


def round_bf16(x):
    """Nearest bfloat16 of the float64 value, in one rounding."""
    x = np.asarray(x, np.float64)
    # bf16 has 8 significant bits and the exponent range of binary32: normal numbers start at 2^-126.
    rounded = _round_to_grid(x, mantissa_bits=7, min_exponent=-126)
    return np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, x), rounded)


def round_f32_to_bf16(x):
    """Nearest bfloat16 of the nearest binary32: what arithmetic in f32 followed by one rounding of the result gives."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nan = np.isnan(x)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    rounded = bits.view(np.float32).astype(np.float64).reshape(np.shape(x))
    return np.where(nan, np.nan, rounded) if nan.any() else rounded


def round_e4m3(x):
    """Nearest E4M3FN value of numbers already clamped to [-448, 448]."""
    return _round_to_grid(np.asarray(x, np.float64), mantissa_bits=3, min_exponent=-6)


def round_e2m1(x):
    """Nearest E2M1 value of numbers already clamped to [-6, 6]."""
    return _round_to_grid(np.asarray(x, np.float64), mantissa_bits=1, min_exponent=0)


def _round_to_grid(x, mantissa_bits, min_exponent):
    """Rounds to multiples of 2^(exponent - mantissa_bits), the exponent being at least min_exponent (subnormals).

    The multiple's parity is the parity of the format's code, also where rounding reaches the next power of two, so
    np.rint's ties-to-even is the format's.
    """
    _, exponent = np.frexp(x)  # |x| in [2^(exponent-1), 2^exponent)
    shift = np.maximum(exponent - 1, min_exponent) - mantissa_bits
    return np.ldexp(np.rint(np.ldexp(x, -shift)), shift)


def decode_bf16(bits):
    return (np.asarray(bits, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def decode_e4m3(codes):
    return _E4M3_VALUES[np.asarray(codes, np.uint8)]


def decode_e8m0(codes):
    codes = np.asarray(codes, np.uint8).astype(np.int32)
    return np.where(codes == 255, np.nan, np.ldexp(1.0, codes - 127))


def decode_packed_e2m1(packed):
    """[rows, columns / 2] bytes -> [rows, columns]; the element with the even index is in the low nibble."""
    packed = np.asarray(packed).view(np.uint8)
    nibbles = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    return E2M1_VALUES[nibbles.reshape(*packed.shape[:-1], -1)]


def encode_e4m3(values):
    """Bytes of values that are on the E4M3 grid."""
    codes = np.searchsorted(_E4M3_VALUES[:127], np.abs(values)).astype(np.uint8)
    return codes | (np.signbit(values).astype(np.uint8) << 7)


def encode_e2m1(values):
    """Codes 0..15 of values that are on the E2M1 grid."""
    codes = np.searchsorted(E2M1_VALUES[:8], np.abs(values)).astype(np.uint8)
    return codes | (np.signbit(values).astype(np.uint8) << 3)


def _e4m3_table():
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    magnitude = np.where(exponent == 0, np.ldexp(mantissa / 8.0, -6), np.ldexp(1.0 + mantissa / 8.0, exponent - 7))
    magnitude = np.where((codes & 127) == 127, np.nan, magnitude)
    return np.where(codes >= 128, -magnitude, magnitude)


_E4M3_VALUES = _e4m3_table()


def block_exponent(amax, largest):
    """The smallest integer e with amax <= largest * 2^e."""
    mantissa, exponent = np.frexp(amax / largest)
    return exponent - (mantissa == 0.5)


def quantize_fp8_blocks(x, block):
    """E4M3 values and power-of-two scales of blocks of the last axis (spec: quantization, 4.1).

    Returns (values, scales), both of x's shape, with x ~ values * scales. A last block may be shorter.
    """
    return _quantize_blocks(x, block, FP8_AMAX_FLOOR, E4M3_MAX, round_e4m3)


def quantize_fp4_blocks(x, block):
    """E2M1 values and power-of-two scales of blocks of the last axis (spec: quantization, 4.2)."""
    return _quantize_blocks(x, block, FP4_AMAX_FLOOR, E2M1_MAX, round_e2m1)


def _quantize_blocks(x, block, amax_floor, largest, round_element):
    x = np.asarray(x, np.float64)
    starts = np.arange(0, x.shape[-1], block)
    amax = np.maximum(np.maximum.reduceat(np.abs(x), starts, axis=-1), amax_floor)
    exponents = block_exponent(amax, largest)
    lengths = np.diff(np.append(starts, x.shape[-1]))
    exponents = np.repeat(exponents, lengths, axis=-1)
    values = round_element(np.clip(np.ldexp(x, -exponents), -largest, largest))
    return values, np.ldexp(1.0, exponents)


def fake_quantize_fp8(x, block):
    """x rounded to the grid of block-scaled E4M3."""
    values, scales = quantize_fp8_blocks(x, block)
    return values * scales


def fake_quantize_fp4(x, block):
    """x rounded to the grid of block-scaled E2M1."""
    values, scales = quantize_fp4_blocks(x, block)
    return values * scales
