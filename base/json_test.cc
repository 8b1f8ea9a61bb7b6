#include "base/json.h"

#include <gtest/gtest.h>

#include <cfloat>

namespace vexil {
namespace {

using Options = Json::ParseOptions;

Json MustParse(std::string_view text, Options options = {}) {
  auto json = Json::Parse(text, options);
  EXPECT_TRUE(json.ok()) << text << ": " << (json.ok() ? "" : json.status().message());
  return json.ok() ? *std::move(json) : Json();
}
std::string ErrorOf(std::string_view text, Options options = {}) {
  auto json = Json::Parse(text, options);
  return json.ok() ? "parsed" : std::string(json.status().message());
}
std::string Python(std::string_view text) {
  return MustParse(text, {.allow_duplicates = true, .allow_nan = true}).ToPythonText();
}

TEST(JsonParse, EveryKindOfValue) {
  const Json v = MustParse(" {\"a\" : [null, true, false, \"s\", -1.5e+3, {}, []]\r\n}\t");
  const Json::Array& a = *v.Find("a")->array();
  ASSERT_EQ(a.size(), 7u);
  EXPECT_TRUE(a[0].is_null());
  EXPECT_EQ(a[1].Bool(), true);
  EXPECT_EQ(a[2].Bool(), false);
  EXPECT_EQ(*a[3].string(), "s");
  EXPECT_EQ(a[4].number()->text, "-1.5e+3");
  EXPECT_TRUE(a[5].object()->empty());
  EXPECT_TRUE(a[6].array()->empty());
}

TEST(JsonParse, TypeNames) {
  const Json::Array a = *MustParse("[null,true,1,\"\",[],{}]").array();
  const char* names[] = {"null", "boolean", "number", "string", "array", "object"};
  for (size_t i = 0; i < a.size(); ++i) EXPECT_STREQ(a[i].TypeName(), names[i]);
}

TEST(JsonParse, AccessorsOfAnotherTypeGiveNothing) {
  const Json s("text"), n(1);
  EXPECT_EQ(n.string(), nullptr);
  EXPECT_EQ(s.array(), nullptr);
  EXPECT_EQ(s.object(), nullptr);
  EXPECT_EQ(s.number(), nullptr);
  EXPECT_EQ(s.Bool(), std::nullopt);
  EXPECT_EQ(s.Int(), std::nullopt);
  EXPECT_EQ(s.Double(), std::nullopt);
  EXPECT_EQ(s.Find("x"), nullptr);
}

TEST(JsonParse, MembersKeepTheirOrder) {
  const Json v = MustParse(R"({"z":1,"a":2,"m":{"y":3,"b":4}})");
  EXPECT_EQ(v.ToText(), R"({"z":1,"a":2,"m":{"y":3,"b":4}})");
}

TEST(JsonParse, StringEscapes) {
  EXPECT_EQ(*MustParse(R"("\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00")").string(),
            "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(*MustParse(R"("a\u0000b")").string(), std::string("a\0b", 3));
  EXPECT_EQ(*MustParse(R"("12 -3 NaN \" 4")").string(), "12 -3 NaN \" 4");
  EXPECT_EQ(*MustParse(R"("\\")").string(), "\\");
  EXPECT_EQ(MustParse(R"({"\\":1})").Find("\\")->Int(), 1);
}

TEST(JsonParse, NumbersKeepTheirLiteral) {
  for (const char* text :
       {"0", "-0", "-0.0", "1E5", "1e-5", "0.10", "123456789012345678901234567890", "1e400", "1e-400", "-1.0e+0099"}) {
    EXPECT_EQ(MustParse(text).number()->text, text);
    EXPECT_EQ(MustParse("[" + std::string(text) + "]").ToText(), "[" + std::string(text) + "]");
  }
  EXPECT_EQ(MustParse(std::string(1000, '9')).number()->text.size(), 1000u);
}

TEST(JsonParse, RejectsMalformedNumbers) {
  for (const char* text : {"01", "-", "+1", "1.", ".5", "1e", "1e+", "--1", "0x10", "1.e5", "-01", "1-2", "[1 2]",
                           "-NaN", "- 1", "Inf", "1NaN", "1_000"}) {
    EXPECT_NE(ErrorOf(text, {.allow_nan = true}), "parsed") << text;
  }
}

TEST(JsonParse, NanOnlyOnRequest) {
  for (const char* text : {"NaN", "Infinity", "-Infinity"}) {
    EXPECT_EQ(ErrorOf(text), "line 1, column 1: NaN and Infinity are not JSON");
    EXPECT_EQ(MustParse(text, {.allow_nan = true}).number()->text, text);
  }
  const Json list = MustParse("[NaN, -Infinity,Infinity]", {.allow_nan = true});
  EXPECT_TRUE(std::isnan(*(*list.array())[0].Double()));
  EXPECT_EQ((*list.array())[1].Double(), -HUGE_VAL);
  EXPECT_EQ((*list.array())[2].Double(), HUGE_VAL);
}

TEST(JsonParse, RejectsOtherSyntax) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[",
                           "[1",
                           "[1,",
                           "[1,]",
                           "[,1]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{1:2}",
                           "{'a':1}",
                           "\"",
                           "\"\\",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "tru",
                           "nul",
                           "True",
                           "[1}",
                           "{\"a\":1]",
                           "1 2",
                           "[] []",
                           "// c\n1",
                           "\xef\xbb\xbf"
                           "1",
                           "\"\n\"",
                           "\"\x01\"",
                           "\x7f",
                           "]",
                           "}",
                           ",",
                           ":"}) {
    EXPECT_NE(ErrorOf(text, {.allow_nan = true}), "parsed") << text;
  }
}

TEST(JsonParse, NulBytesAreNotTheEnd) {
  EXPECT_EQ(ErrorOf(std::string_view("1\0", 2)), "line 1, column 2: unexpected NUL byte");
  EXPECT_NE(ErrorOf(std::string_view("\0", 1)), "parsed");
  EXPECT_NE(ErrorOf(std::string_view("\"a\0b\"", 5)), "parsed");
  EXPECT_NE(ErrorOf(std::string_view("[1\0]", 4)), "parsed");
}

TEST(JsonParse, StringsAreUtf8) {
  for (const char* text : {"\"\x80\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xe0\x80\x80\"", "\"\xed\xa0\x80\"",
                           "\"\xf4\x90\x80\x80\"", "\"\xff\"", "{\"\xfe\":1}"}) {
    EXPECT_NE(ErrorOf(text), "parsed") << text;
  }
  EXPECT_EQ(*MustParse("\"\xed\x9f\xbf\xf4\x8f\xbf\xbf\"").string(), "\xed\x9f\xbf\xf4\x8f\xbf\xbf");
}

TEST(JsonParse, RejectsLoneSurrogates) {
  for (const char* text : {R"("\ud800")", R"("\ud800x")", R"("\ud800\n")", R"("\ud800\ud800")", R"("\udc00")",
                           R"("\ude00\ud83d")", R"({"\udfff":1})"}) {
    EXPECT_TRUE(ErrorOf(text).ends_with("a \\u escape of half a surrogate pair without the other half")) << text;
  }
  EXPECT_EQ(ErrorOf(R"(["a", "b\ud83dc"])").substr(0, 18), "line 1, column 9: ");  // the escape
  EXPECT_EQ(*MustParse(R"("\ud83d\ude00")").string(), "\xf0\x9f\x98\x80");
}

TEST(JsonParse, ErrorsNameTheLineAndColumn) {
  EXPECT_EQ(ErrorOf("{\n  \"a\": 1,\n  \"b\" 2}"), "line 3, column 7: missing a colon after a name of object member");
  EXPECT_EQ(ErrorOf("[1,\n\xc3\xa9]"), "line 2, column 1: invalid value");
  EXPECT_EQ(ErrorOf("[\"\xc3\xa9\", x]"), "line 1, column 7: invalid value");  // columns count characters
  EXPECT_EQ(ErrorOf("[\n\n 1.x]"), "line 3, column 2: invalid number");
  EXPECT_EQ(ErrorOf(""), "line 1, column 1: the document is empty");
  EXPECT_EQ(ErrorOf("1 x"), "line 1, column 3: the document root must not be followed by other values");
}

TEST(JsonParse, ErrorsInAPartOfAFileNameTheLineOfTheFile) {
  EXPECT_EQ(ErrorOf("[1, x]", {.first_line = 7}), "line 7, column 5: invalid value");
  EXPECT_EQ(ErrorOf("[1,\n x]", {.first_line = 7}), "line 8, column 2: invalid value");
}

TEST(JsonParse, RepeatedMembers) {
  const char* text = "{\"a\": 1,\n \"b\": 2, \"a\": [3], \"c\": 4, \"b\": 5}";
  EXPECT_EQ(ErrorOf(text), "line 2, column 12: the member \"a\" is repeated");
  EXPECT_EQ(MustParse(text, {.allow_duplicates = true}).ToText(), R"({"a":[3],"b":5,"c":4})");
  EXPECT_EQ(MustParse(R"({"a":{"a":{"a":1}}})").ToText(), R"({"a":{"a":{"a":1}}})");
  EXPECT_NE(ErrorOf(R"([{"x":1,"\u0078":2}])"), "parsed");
}

TEST(JsonParse, DepthIsLimited) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(ErrorOf(nested(3), {.max_depth = 3}), "parsed");
  EXPECT_EQ(ErrorOf(nested(4), {.max_depth = 3}), "line 1, column 4: nested deeper than 3 levels");
  EXPECT_EQ(ErrorOf(nested(200)), "parsed");
  EXPECT_EQ(ErrorOf(std::string(1'000'000, '[')), "line 1, column 201: nested deeper than 200 levels");
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += "{\"a\":";
  EXPECT_EQ(ErrorOf(objects), "line 1, column 1001: nested deeper than 200 levels");
}

// As large as a vocabulary; comparing all pairs of names would take minutes.
TEST(JsonParse, LargeObject) {
  std::string text = "{";
  for (int i = 0; i < 150'000; ++i) {
    text += (i ? ",\"token" : "\"token") + std::to_string(i) + "\":" + std::to_string(i);
  }
  text += "}";
  const Json v = MustParse(text);
  ASSERT_EQ(v.object()->size(), 150'000u);
  EXPECT_EQ(v.object()->back().second.Int(), 149'999);
}

TEST(Json, Int) {
  EXPECT_EQ(MustParse("-9223372036854775808").Int(), INT64_MIN);
  EXPECT_EQ(MustParse("9223372036854775807").Int(), INT64_MAX);
  EXPECT_EQ(MustParse("9223372036854775808").Int(), std::nullopt);
  EXPECT_EQ(MustParse("1.0").Int(), 1);
  EXPECT_EQ(MustParse("-1e3").Int(), -1000);
  EXPECT_EQ(MustParse("1.5").Int(), std::nullopt);
  EXPECT_EQ(MustParse("1e19").Int(), std::nullopt);
  EXPECT_EQ(MustParse("1e999").Int(), std::nullopt);
  EXPECT_EQ(MustParse("NaN", {.allow_nan = true}).Int(), std::nullopt);
}

TEST(Json, Double) {
  EXPECT_EQ(MustParse("0.1").Double(), 0.1);
  EXPECT_EQ(MustParse("1e999").Double(), HUGE_VAL);
  EXPECT_EQ(MustParse("-1e-999").Double(), 0.0);
  EXPECT_EQ(MustParse("2.2250738585072011e-308").Double(), 2.2250738585072011e-308);
  EXPECT_EQ(Json(0.1).number()->text, "0.1");
  EXPECT_EQ(Json(DBL_MAX).Double(), DBL_MAX);
  EXPECT_EQ(Json(DBL_TRUE_MIN).Double(), DBL_TRUE_MIN);
}

TEST(Json, SetReplacesOrAppends) {
  Json v;
  v.Set("a", 1);
  v.Set("b", "x");
  v.Set("a", true);
  EXPECT_EQ(v.ToText(), R"({"a":true,"b":"x"})");
}

TEST(Json, ToText) {
  const Json v = MustParse(R"({"a": [1, {"b": []}], "c": {}})");
  EXPECT_EQ(v.ToText(), R"({"a":[1,{"b":[]}],"c":{}})");
  EXPECT_EQ(v.ToText(2), "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ],\n  \"c\": {}\n}");
  EXPECT_EQ(MustParse(v.ToText(3)), v);
}

TEST(Json, PythonTextOfContainers) {
  EXPECT_EQ(Python(R"( {"a":[1,2,{}],"b":{"c":null,"d":true},"e":[]} )"),
            R"({"a": [1, 2, {}], "b": {"c": null, "d": true}, "e": []})");
  EXPECT_EQ(Python(R"({"a":1,"b":2,"a":3})"), R"({"a": 3, "b": 2})");
}

TEST(Json, PythonTextOfStrings) {
  std::string raw, want = "\"";
  for (int c = 0; c < 0x20; ++c) {
    raw += char(c);
    char buffer[8];
    std::snprintf(buffer, sizeof(buffer), "\\u%04x", c);
    want += c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : c == '\b' ? "\\b" : c == '\f' ? "\\f" : buffer;
  }
  EXPECT_EQ(QuoteJson(raw), want + "\"");
  EXPECT_EQ(QuoteJson("\"\\/\x7f\xc3\xa9\xe2\x80\xa8"), "\"\\\"\\\\/\x7f\xc3\xa9\xe2\x80\xa8\"");
}

TEST(Json, PythonTextOfNumbers) {
  const std::pair<const char*, const char*> cases[] = {
      {"0", "0"},
      {"-0", "0"},
      {"-7", "-7"},
      {"123456789012345678901234567890", "123456789012345678901234567890"},
      {"1.0", "1.0"},
      {"-0.0", "-0.0"},
      {"0e5", "0.0"},
      {"0.10", "0.1"},
      {"1E5", "100000.0"},
      {"1e15", "1000000000000000.0"},
      {"1e16", "1e+16"},
      {"1234567890123456.7", "1234567890123456.8"},
      {"12345678901234567.0", "1.2345678901234568e+16"},
      {"0.0001", "0.0001"},
      {"0.00012345", "0.00012345"},
      {"0.00001", "1e-05"},
      {"-1.5e-7", "-1.5e-07"},
      {"1.5e300", "1.5e+300"},
      {"5e-324", "5e-324"},
      {"1e400", "Infinity"},
      {"-1e400", "-Infinity"},
      {"1e-400", "0.0"},
      {"NaN", "NaN"},
      {"Infinity", "Infinity"},
      {"-Infinity", "-Infinity"},
      {"3.141592653589793238", "3.141592653589793"},
      {"100.0", "100.0"},
      {"123.456", "123.456"},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(Python(text), want) << text;
}

// Random values survive both writers.
TEST(Json, RoundTripOfRandomValues) {
  std::mt19937 rng(20240607);
  const auto below = [&](uint32_t n) { return rng() % n; };
  const std::function<Json(int)> make = [&](int depth) -> Json {
    switch (below(depth > 0 ? 7 : 5)) {
      case 0:
        return Json();
      case 1:
        return Json(below(2) == 0);
      case 2:
        return Json(int64_t(rng()) - int64_t(rng()));
      case 3:
        return Json(std::ldexp(double(rng()), int(below(200)) - 100));
      case 4: {
        std::string s;
        for (uint32_t i = below(12); i-- > 0;) s += below(4) ? std::string(1, char(below(128))) : "\xe2\x82\xac";
        return Json(s);
      }
      case 5: {
        Json::Array a;
        for (uint32_t i = below(5); i-- > 0;) a.push_back(make(depth - 1));
        return Json(std::move(a));
      }
      default: {
        Json o{Json::Object()};
        for (uint32_t i = below(5); i-- > 0;) o.Set("k" + std::to_string(below(100)), make(depth - 1));
        return o;
      }
    }
  };
  for (int i = 0; i < 500; ++i) {
    const Json v = make(4);
    ASSERT_EQ(MustParse(v.ToText()), v);
    ASSERT_EQ(MustParse(v.ToText(2)), v);
    ASSERT_EQ(MustParse(v.ToPythonText()), v);
  }
}

}  // namespace
}  // namespace vexil
