#include "base/float_formats.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "base/json.h"

namespace vexil {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

uint32_t Bits(float f) { return std::bit_cast<uint32_t>(f); }
float FromBits(uint32_t u) { return std::bit_cast<float>(u); }

// The value of a code with `exponent_bits` and `mantissa_bits`, from the definition.
double Decode(uint32_t code, int exponent_bits, int mantissa_bits, int bias) {
  const int e = int(code >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int m = int(code) & ((1 << mantissa_bits) - 1);
  const bool negative = code >> (exponent_bits + mantissa_bits) & 1;
  const double fraction = std::ldexp(double(m), -mantissa_bits);
  const double value = e == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, e - bias);
  return negative ? -value : value;
}

// Rounding, checked for every pair of neighbouring codes `lower`, `lower + 1` with finite values: the codes'
// own values, their midpoint (to the even code), and the floats on both sides of the midpoint.
template <class ToCode, class ToValue>
void ExpectNearestEven(uint32_t lower, ToCode code, ToValue value) {
  const float a = value(lower), b = value(lower + 1);
  const float middle = float((double(a) + double(b)) / 2);
  const uint32_t even = lower % 2 == 0 ? lower : lower + 1;
  EXPECT_EQ(code(a), lower) << a;
  EXPECT_EQ(code(b), lower + 1) << b;
  EXPECT_EQ(code(middle), even) << middle;
  EXPECT_EQ(code(std::nextafter(middle, a)), lower) << middle;
  EXPECT_EQ(code(std::nextafter(middle, b)), lower + 1) << middle;
}

TEST(BF16, EveryCodeSurvives) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float f = BF16{uint16_t(code)}.ToFloat();
    EXPECT_EQ(Bits(f), code << 16);
    if (!std::isnan(f)) {
      EXPECT_EQ(BF16::From(f).bits, code);
    }
  }
}

TEST(BF16, RoundsToNearestEven) {
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t code = sign; code < sign + 0x7f80; ++code) {
      const uint32_t half = code << 16 | 0x8000;
      ASSERT_EQ(BF16::From(FromBits(half)).bits, code + (code & 1)) << code;
      ASSERT_EQ(BF16::From(FromBits(half - 1)).bits, code) << code;
      ASSERT_EQ(BF16::From(FromBits(half + 1)).bits, code + 1) << code;
    }
  }
}

TEST(BF16, NanStaysNan) {
  for (uint32_t u : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu, 0x7fc00000u}) {
    EXPECT_TRUE(std::isnan(BF16::From(FromBits(u)).ToFloat())) << std::hex << u;
    EXPECT_EQ(BF16::From(FromBits(u)).bits >> 15, u >> 31) << std::hex << u;
  }
}

TEST(F16, EveryCodeDecodesAndSurvives) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float f = F16{uint16_t(code)}.ToFloat();
    if ((code & 0x7c00) == 0x7c00) {
      EXPECT_TRUE((code & 0x3ff) == 0 ? std::isinf(f) : std::isnan(f)) << code;
    } else {
      EXPECT_EQ(Bits(f), Bits(float(Decode(code, 5, 10, 15)))) << code;
    }
    if (!std::isnan(f)) {
      EXPECT_EQ(F16::From(f).bits, code);
    }
  }
}

TEST(F16, RoundsToNearestEven) {
  const auto code = [](float f) { return uint32_t(F16::From(f).bits); };
  const auto value = [](uint32_t c) { return F16{uint16_t(c)}.ToFloat(); };
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t c = sign; c < sign + 0x7bff; ++c) ExpectNearestEven(c, code, value);
  }
}

TEST(F16, BeyondTheRange) {
  EXPECT_EQ(F16::From(65519.996f).bits, 0x7bff);
  EXPECT_EQ(F16::From(65520.0f).bits, 0x7c00);  // the midpoint between 65504 and 2^16
  EXPECT_EQ(F16::From(-1e30f).bits, 0xfc00);
  EXPECT_EQ(F16::From(kInf).bits, 0x7c00);
  EXPECT_EQ(F16::From(0x1p-25f).bits, 0);  // ties to zero
  EXPECT_EQ(F16::From(std::nextafter(0x1p-25f, 1.0f)).bits, 1);
  EXPECT_EQ(F16::From(-1e-40f).bits, 0x8000);
  EXPECT_TRUE(std::isnan(F16::From(kNan).ToFloat()));
}

TEST(E4M3, EveryCodeDecodesAndSurvives) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float f = E4M3{uint8_t(code)}.ToFloat();
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(f)) << code;
      EXPECT_EQ(E4M3::From(f).bits, code);
    } else {
      EXPECT_EQ(Bits(f), Bits(float(Decode(code, 4, 3, 7)))) << code;
      EXPECT_EQ(E4M3::From(f).bits, code);
    }
  }
  EXPECT_EQ(E4M3{0x7e}.ToFloat(), E4M3::kMax);
  EXPECT_EQ(E4M3{0x01}.ToFloat(), 0x1p-9f);
}

TEST(E4M3, RoundsToNearestEven) {
  const auto code = [](float f) { return uint32_t(E4M3::From(f).bits); };
  const auto value = [](uint32_t c) { return E4M3{uint8_t(c)}.ToFloat(); };
  for (uint32_t sign : {0u, 0x80u}) {
    for (uint32_t c = sign; c < sign + 0x7e; ++c) ExpectNearestEven(c, code, value);
  }
}

TEST(E4M3, Saturates) {
  for (float f : {449.0f, 463.99f, 464.0f, 465.0f, 1e30f, kInf}) {
    EXPECT_EQ(E4M3::From(f).bits, 0x7e) << f;
    EXPECT_EQ(E4M3::From(-f).bits, 0xfe) << f;
  }
  EXPECT_EQ(E4M3::From(-1e-40f).bits, 0x80);
}

TEST(E8M0, EveryCodeIsAPowerOfTwo) {
  for (int code = 0; code < 255; ++code) {
    EXPECT_EQ(Bits(E8M0{uint8_t(code)}.ToFloat()), Bits(float(std::ldexp(1.0, code - 127)))) << code;
    EXPECT_EQ(E8M0::FromExponent(code - 127).bits, code);
  }
  EXPECT_TRUE(std::isnan(E8M0{255}.ToFloat()));
}

TEST(E2M1, EveryCodeDecodesAndSurvives) {
  for (uint32_t code = 0; code < 16; ++code) {
    EXPECT_EQ(Bits(E2M1x2::kValues[code]), Bits(float(Decode(code, 2, 1, 1)))) << code;
    EXPECT_EQ(E2M1x2::Code(E2M1x2::kValues[code]), code);
  }
}

TEST(E2M1, RoundsToNearestEvenAndSaturates) {
  const auto code = [](float f) { return uint32_t(E2M1x2::Code(f)); };
  const auto value = [](uint32_t c) { return E2M1x2::kValues[c]; };
  for (uint32_t sign : {0u, 8u}) {
    for (uint32_t c = sign; c < sign + 7; ++c) ExpectNearestEven(c, code, value);
  }
  for (float f : {6.01f, 100.0f, kInf}) {
    EXPECT_EQ(E2M1x2::Code(f), 7);
    EXPECT_EQ(E2M1x2::Code(-f), 15);
  }
}

TEST(E2M1, EvenElementIsInTheLowNibble) {
  const E2M1x2 pair{0xe3};
  EXPECT_EQ(pair.Low(), 1.5f);
  EXPECT_EQ(pair.High(), -4.0f);
}

// ---- against numbers that were computed independently ---------------------------------------------------

class GoldenFormats : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(VEXIL_SOURCE_DIR "/testdata/formats/quant.json", std::ios::binary);
    auto json = Json::Parse(std::string(std::istreambuf_iterator<char>(file), {}));
    ASSERT_TRUE(json.ok()) << json.status().message();
    data_ = *std::move(json);
  }
  const Json::Array& List(const Json& of, std::string_view key) { return *of.Find(key)->array(); }
  static float Bf16(const Json& hex) { return BF16{uint16_t(std::stoul(*hex.string(), nullptr, 16))}.ToFloat(); }

  // Each x / 2^scale_exp, clamped as the model does, must round to its code.
  template <class ToCode>
  void ExpectCodes(std::string_view key, float max, ToCode code) {
    int count = 0;
    for (const Json& row : List(data_, key)) {
      const float scale = std::ldexp(1.0f, int(*row.Find("scale_exp")->Int()));
      const Json::Array &x = List(row, "x"), &codes = List(row, "codes");
      ASSERT_EQ(x.size(), codes.size());
      for (size_t i = 0; i < x.size(); ++i, ++count) {
        EXPECT_EQ(code(std::clamp(Bf16(x[i]) / scale, -max, max)), *codes[i].Int()) << key << " element " << i;
      }
    }
    EXPECT_GT(count, 100);
  }

  Json data_;
};

TEST_F(GoldenFormats, DecodeTables) {
  const Json::Array& e4m3 = List(data_, "e4m3fn_decode");
  ASSERT_EQ(e4m3.size(), 256u);
  for (size_t i = 0; i < 256; ++i) {
    const float f = E4M3{uint8_t(i)}.ToFloat();
    if (e4m3[i].is_null()) {
      EXPECT_TRUE(std::isnan(f)) << i;
    } else {
      EXPECT_EQ(Bits(f), Bits(float(*e4m3[i].Double()))) << i;
    }
  }
  const Json::Array& e2m1 = List(data_, "e2m1_decode");
  ASSERT_EQ(e2m1.size(), 16u);
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(Bits(E2M1x2::kValues[i]), Bits(float(*e2m1[i].Double()))) << i;
}

TEST_F(GoldenFormats, E4M3Codes) {
  ExpectCodes("act_fp8", E4M3::kMax, [](float f) { return int64_t(E4M3::From(f).bits); });
}

TEST_F(GoldenFormats, E2M1Codes) {
  ExpectCodes("act_fp4", E2M1x2::kMax, [](float f) { return int64_t(E2M1x2::Code(f)); });
}

TEST_F(GoldenFormats, PackedWeightRow) {
  const Json& row = *data_.Find("fp4_weight_row");
  const Json::Array &packed = List(row, "packed_bytes"), &scales = List(row, "e8m0_scale_bytes");
  const Json::Array& values = List(row, "dequant_bf16");
  ASSERT_EQ(values.size(), 2 * packed.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const E2M1x2 pair{uint8_t(*packed[i / 2].Int())};
    const float scale = E8M0{uint8_t(*scales[i / 32].Int())}.ToFloat();
    EXPECT_EQ(Bits((i % 2 == 0 ? pair.Low() : pair.High()) * scale), Bits(Bf16(values[i]))) << i;
  }
}

}  // namespace
}  // namespace vexil
