#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "io/test_files.h"

namespace vexil {
namespace {

// Memory of exactly the given bytes, aligned for every element type, so that a read past the end is seen.
class Exact {
 public:
  explicit Exact(std::string_view text) : bytes_(new uint8_t[text.size()]), size_(text.size()) {
    std::memcpy(bytes_.get(), text.data(), text.size());
  }
  std::span<const uint8_t> bytes() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_;
};

// 64 bytes of header (8 + 64 is a multiple of 8) and two tensors.
const char kSmallHeader[] = R"({"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},)"
                            R"("__metadata__":{"format":"pt","note":""},)"
                            R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}      )";

std::string SmallImage() {
  std::string data;
  for (int i = 0; i < 22; ++i) data += static_cast<char>('A' + i);
  return Image(kSmallHeader, data);
}

TEST(Safetensors, ReadsASmallFile) {
  static_assert((sizeof(kSmallHeader) - 1) % 8 == 0);
  const Exact image(SmallImage());
  const Result<SafetensorsFile> file = SafetensorsFile::Parse(image.bytes(), "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  EXPECT_EQ(file->names(), (std::vector<std::string_view>{"a", "b"}));  // in the order of the bytes
  EXPECT_EQ(file->path(), "f");
  EXPECT_EQ(file->data_bytes(), 22);
  EXPECT_EQ(file->metadata(), (SafetensorsMetadata{{"format", "pt"}, {"note", ""}}));
  EXPECT_EQ(file->Find("c"), nullptr);
  EXPECT_EQ(file->Find("__metadata__"), nullptr);

  const int64_t data_begin = 8 + int64_t{sizeof(kSmallHeader)} - 1;
  const TensorInfo* a = file->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_EQ(a->dims, (Dims{2, 2}));
  EXPECT_EQ(a->begin, data_begin);
  EXPECT_EQ(a->Bytes(), 16);
  EXPECT_EQ(a->view.raw(), image.bytes().data() + a->begin) << "views point into the file";
  EXPECT_EQ(a->view.dims(), a->dims);
  const TensorInfo* b = file->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->view.dtype(), DType::kBF16);
  EXPECT_EQ(b->begin, data_begin + 16);
  EXPECT_EQ(b->view.Data<BF16>()[2].bits, 'U' | 'V' << 8);
}

TEST(Safetensors, OpensFromDiskAndMoves) {
  TempDir dir;
  Put(dir / "f", SmallImage());
  Result<SafetensorsFile> file = SafetensorsFile::Open(dir / "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  const TensorInfo* a = file->Find("a");
  const SafetensorsFile moved = *std::move(file);
  EXPECT_EQ(moved.Find("a"), a);
  EXPECT_EQ(moved.path(), dir / "f");
  EXPECT_EQ(std::memcmp(a->view.raw(), "ABCD", 4), 0);
  moved.WillNeed(*a, 0, a->Bytes());
}

TEST(Safetensors, AFileWithoutTensors) {
  for (const char* header : {"{}", "{}   ", R"({"__metadata__":{}})"}) {
    const std::string image = Image(header, "");
    const Result<SafetensorsFile> file = SafetensorsFile::Parse(Bytes(image), "f");
    ASSERT_TRUE(file.ok()) << ErrorOf(file);
    EXPECT_TRUE(file->tensors().empty());
  }
}

TEST(Safetensors, EveryElementType){
#define X(e, text, bytes, type)                                                                                   \
  {                                                                                                               \
    const std::string header = std::string(R"({"t":{"dtype":")") + text + R"(","shape":[3],"data_offsets":[0,)" + \
                               std::to_string(3 * bytes) + "]}}";                                                 \
    const std::string image = Image(header, std::string(3 * bytes, 'x'));                                         \
    const Result<SafetensorsFile> file = SafetensorsFile::Parse(Bytes(image), "f");                               \
    ASSERT_EQ(file.ok(), ElementsOf(DType::e) != kBlockElements) << text; /* blocks are GGUF's */                 \
    if (file.ok()) {                                                                                              \
      EXPECT_EQ(file->Find("t")->dtype, DType::e);                                                                \
    }                                                                                                             \
  }
    VX_DTYPES(X)
#undef X
}

TEST(Safetensors, F4CountsCodesAndBecomesBytes) {
  const std::string image = Image(R"({"t":{"dtype":"F4","shape":[2,6],"data_offsets":[0,6]}})", "abcdef");
  const Result<SafetensorsFile> file = SafetensorsFile::Parse(Bytes(image), "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  EXPECT_EQ(file->Find("t")->dtype, DType::kE2M1x2);
  EXPECT_EQ(file->Find("t")->dims, (Dims{2, 3}));
}

TEST(Safetensors, ScalarsAndTensorsWithoutElements) {
  const std::string image = Image(R"({"full":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                  R"("last":{"dtype":"I64","shape":[0],"data_offsets":[4,4]},)"
                                  // Its strides would not fit int64 if the zero came last.
                                  R"("first":{"dtype":"F32","shape":[1099511627776,0,1024],"data_offsets":[0,0]}})",
                                  "abcd");
  const Result<SafetensorsFile> file = SafetensorsFile::Parse(Bytes(image), "f");
  ASSERT_TRUE(file.ok()) << ErrorOf(file);
  EXPECT_EQ(file->names(), (std::vector<std::string_view>{"first", "full", "last"}));
  EXPECT_EQ(file->Find("full")->dims.rank, 0);
  EXPECT_EQ(file->Find("full")->view.Bytes(), 4);
  EXPECT_EQ(file->Find("last")->view.Bytes(), 0);
  EXPECT_FALSE(file->Find("last")->view.empty());
}

TEST(Safetensors, CopiesWhatIsNotAligned) {
  // The format's own padding is a convention: older writers left data at any offset.
  for (size_t padding = 0; padding < 8; ++padding) {
    const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("b":{"dtype":"I8","shape":[3],"data_offsets":[8,11]},)"
                               R"("c":{"dtype":"I64","shape":[1],"data_offsets":[11,19]}})" +
                               std::string(padding, ' ');
    TempDir dir;
    Put(dir / "f", Image(header, "aaaabbbbxyzIIIIIIII"));
    Result<SafetensorsFile> opened = SafetensorsFile::Open(dir / "f");
    ASSERT_TRUE(opened.ok()) << ErrorOf(opened);
    const SafetensorsFile file = *std::move(opened);
    for (const TensorInfo& tensor : file.tensors()) {
      const auto address = reinterpret_cast<uintptr_t>(tensor.view.raw());
      EXPECT_EQ(address % static_cast<uintptr_t>(BytesOf(tensor.dtype)), 0u) << tensor.name << " +" << padding;
    }
    EXPECT_EQ(std::memcmp(file.Find("a")->view.raw(), "aaaabbbb", 8), 0);
    EXPECT_EQ(std::memcmp(file.Find("b")->view.raw(), "xyz", 3), 0);
    EXPECT_EQ(std::memcmp(file.Find("c")->view.raw(), "IIIIIIII", 8), 0);
  }
}

// --- damaged files -----------------------------------------------------------------------------------------------

struct Damage {
  std::string header;
  int data_bytes;
  Code code;
  std::string message;  // after "f: "
};

std::string Entry(std::string_view name, std::string_view rest) {
  return '"' + std::string(name) + "\":{" + std::string(rest) + '}';
}
// One tensor "t" with the given members.
std::string One(std::string_view rest) { return '{' + Entry("t", rest) + '}'; }

const Damage kDamages[] = {
    {"", 0, Code::kDataLoss, "header is empty, expected a JSON object"},
    {"[]", 0, Code::kDataLoss, "header begins with byte 0x5b, expected '{'"},
    {" {}", 0, Code::kDataLoss, "header begins with byte 0x20, expected '{'"},
    {R"({"t":7})", 0, Code::kDataLoss,
     R"(tensor "t": entry is 7, expected an object with dtype, shape and data_offsets)"},
    {R"({"t":null})", 0, Code::kDataLoss,
     R"(tensor "t": entry is null, expected an object with dtype, shape and data_offsets)"},

    {R"({"__metadata__":[]})", 0, Code::kDataLoss, "__metadata__ is a JSON array, expected an object of strings"},
    {R"({"__metadata__":{"n":1}})", 0, Code::kDataLoss, R"(__metadata__ "n" is 1, expected a string)"},

    {One(R"("shape":[1],"data_offsets":[0,1])"), 1, Code::kDataLoss, R"(tensor "t": key dtype is missing)"},
    {One(R"("dtype":"I8","data_offsets":[0,1])"), 1, Code::kDataLoss, R"(tensor "t": key shape is missing)"},
    {One(R"("dtype":"I8","shape":[1])"), 1, Code::kDataLoss, R"(tensor "t": key data_offsets is missing)"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[0,1],"x":0)"), 1, Code::kDataLoss,
     R"(tensor "t": unknown key "x", expected dtype, shape and data_offsets)"},

    {One(R"("dtype":3,"shape":[1],"data_offsets":[0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": dtype is 3, expected a string)"},
    {One(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"), 4, Code::kDataLoss,
     R"(tensor "t": unknown dtype "f32")"},
    {One(R"("dtype":"F64","shape":[1],"data_offsets":[0,8])"), 8, Code::kUnsupported,
     R"(tensor "t": dtype F64 is not supported)"},
    {One(R"("dtype":"BOOL","shape":[1],"data_offsets":[0,1])"), 1, Code::kUnsupported,
     R"(tensor "t": dtype BOOL is not supported)"},

    {One(R"("dtype":"I8","shape":"1","data_offsets":[0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": shape is "1", expected an array of integers)"},
    {One(R"("dtype":"I8","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1])"), 1, Code::kUnsupported,
     R"(tensor "t": shape has 7 dimensions, at most 6 are supported)"},
    {One(R"("dtype":"I8","shape":[1,-1],"data_offsets":[0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": shape[1] is -1, expected an integer from 0 to 2^63 - 1)"},
    {One(R"("dtype":"I8","shape":[1.0],"data_offsets":[0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": shape[0] is 1.0, expected an integer from 0 to 2^63 - 1)"},
    {One(R"("dtype":"I8","shape":[9223372036854775808],"data_offsets":[0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": shape[0] is 9223372036854775808, expected an integer from 0 to 2^63 - 1)"},
    {One(R"("dtype":"I8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0, Code::kDataLoss,
     R"(tensor "t": I8 [4294967296, 4294967296] takes more than 2^63 - 1 bytes)"},
    {One(R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])"), 0, Code::kDataLoss,
     R"(tensor "t": F32 [4611686018427387904] takes more than 2^63 - 1 bytes)"},
    {One(R"("dtype":"I8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"), 0, Code::kDataLoss,
     R"(tensor "t": I8 [0, 4294967296, 4294967296] takes more than 2^63 - 1 bytes)"},
    {One(R"("dtype":"F4","shape":[2,3],"data_offsets":[0,3])"), 3, Code::kDataLoss,
     R"(tensor "t": dtype F4 packs pairs, the last dimension is 3, an odd number)"},
    {One(R"("dtype":"F4","shape":[],"data_offsets":[0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": dtype F4 needs a last dimension to pack, the shape is [])"},

    {One(R"("dtype":"I8","shape":[1],"data_offsets":1)"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets is 1, expected [begin, end])"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[0,1,2])"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets is an array of 3, expected [begin, end])"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[0,true])"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets[1] is a JSON boolean, expected an integer from 0 to 2^63 - 1)"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[-0,1])"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets[0] is -0, expected an integer from 0 to 2^63 - 1)"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[1,0])"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets [1, 0] end before they begin)"},
    {One(R"("dtype":"I8","shape":[2],"data_offsets":[0,2])"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets [0, 2] reach past the end of the data (1 bytes))"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807])"), 1, Code::kDataLoss,
     R"(tensor "t": data_offsets [9223372036854775806, 9223372036854775807] reach past the end of the data (1 bytes))"},
    {One(R"("dtype":"BF16","shape":[2,2],"data_offsets":[0,16])"), 16, Code::kDataLoss,
     R"(tensor "t": data_offsets [0, 16] hold 16 bytes, BF16 [2, 2] takes 8)"},

    {'{' + Entry("a", R"("dtype":"I8","shape":[4],"data_offsets":[0,4])") + ',' +
         Entry("b", R"("dtype":"I8","shape":[3],"data_offsets":[3,6])") + '}',
     6, Code::kDataLoss, R"(tensor "b" begins at data offset 3, inside tensor "a", which ends at 4)"},
    {'{' + Entry("a", R"("dtype":"I8","shape":[4],"data_offsets":[0,4])") + ',' +
         Entry("b", R"("dtype":"I8","shape":[4],"data_offsets":[0,4])") + '}',
     4, Code::kDataLoss, R"(tensor "b" begins at data offset 0, inside tensor "a", which ends at 4)"},
    {'{' + Entry("a", R"("dtype":"I8","shape":[4],"data_offsets":[0,4])") + ',' +
         Entry("b", R"("dtype":"I8","shape":[0],"data_offsets":[2,2])") + '}',
     4, Code::kDataLoss, R"(tensor "b" begins at data offset 2, inside tensor "a", which ends at 4)"},
    {'{' + Entry("a", R"("dtype":"I8","shape":[1],"data_offsets":[0,1])") + ',' +
         Entry("b", R"("dtype":"I8","shape":[1],"data_offsets":[3,4])") + '}',
     4, Code::kDataLoss, R"(2 bytes at data offset 1, before tensor "b", belong to no tensor)"},
    {One(R"("dtype":"I8","shape":[1],"data_offsets":[0,1])"), 3, Code::kDataLoss,
     "the last 2 of 3 data bytes belong to no tensor"},
    {"{}", 1, Code::kDataLoss, "the last 1 of 1 data bytes belong to no tensor"},
};

TEST(Safetensors, DamagedHeaders) {
  for (const Damage& damage : kDamages) {
    const Exact image(Image(damage.header, std::string(static_cast<size_t>(damage.data_bytes), 'x')));
    const Result<SafetensorsFile> file = SafetensorsFile::Parse(image.bytes(), "f");
    EXPECT_EQ(ErrorOf(file), "f: " + damage.message) << damage.header;
    EXPECT_EQ(CodeOf(file), damage.code) << damage.header;
  }
}

// Where the text breaks is the JSON reader's to say.
TEST(Safetensors, HeadersThatAreNotJson) {
  const struct {
    std::string header, message;
  } kCases[] = {
      {"{\"a\"", "missing a colon"},
      {"{}{}", "must not be followed by other values"},
      {"{\"\xff\":1}", "invalid encoding in string"},
      {R"({"t":0,"t":0})", R"(the member "t" is repeated)"},
      {One(R"("dtype":"I8","dtype":"I8","shape":[0],"data_offsets":[0,0])"), R"(the member "dtype" is repeated)"},
      {R"({"__metadata__":{"k":"","k":""}})", R"(the member "k" is repeated)"},
  };
  for (const auto& c : kCases) {
    const std::string image = Image(c.header, "");
    const Result<SafetensorsFile> file = SafetensorsFile::Parse(Bytes(image), "f");
    EXPECT_EQ(CodeOf(file), Code::kDataLoss) << c.header;
    EXPECT_TRUE(ErrorOf(file).starts_with("f: header: line 1, column ")) << ErrorOf(file);
    EXPECT_NE(ErrorOf(file).find(c.message), std::string::npos) << ErrorOf(file);
  }
}

TEST(Safetensors, HeaderLength) {
  const auto parse = [](uint64_t length, size_t rest) {
    std::string image;
    for (int shift = 0; shift < 64; shift += 8) image += static_cast<char>(length >> shift);
    image += std::string(rest, ' ');
    return ErrorOf(SafetensorsFile::Parse(Bytes(image), "f"));
  };
  EXPECT_EQ(ErrorOf(SafetensorsFile::Parse({}, "f")), "f: file has 0 bytes, a safetensors file has at least 8");
  EXPECT_EQ(parse(3, 2), "f: header of 3 bytes runs past the end of the file (10 bytes)");
  EXPECT_EQ(parse(100'000'000, 2), "f: header of 100000000 bytes runs past the end of the file (10 bytes)");
  EXPECT_EQ(parse(100'000'001, 2), "f: header length is 100000001, a safetensors header has at most 100000000 bytes");
  EXPECT_EQ(parse(UINT64_MAX, 2),
            "f: header length is 18446744073709551615, a safetensors header has at most 100000000 bytes");
}

TEST(Safetensors, MessagesStayOneShortLine) {
  const std::string name = "a\\n\\u001b" + std::string(1000, 'x');
  const std::string image = Image("{\"" + name + "\":1}", "");
  const std::string message = ErrorOf(SafetensorsFile::Parse(Bytes(image), "f"));
  EXPECT_TRUE(message.starts_with("f: tensor \"a\\n\\u001bxxx")) << message;
  EXPECT_TRUE(message.ends_with("xx\"...: entry is 1, expected an object with dtype, shape and data_offsets"))
      << message;
  EXPECT_LT(message.size(), 300u);
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string whole = SmallImage();
  for (size_t size = 0; size < whole.size(); ++size) {
    const Exact image(std::string_view(whole).substr(0, size));
    const Result<SafetensorsFile> file = SafetensorsFile::Parse(image.bytes(), "f");
    EXPECT_EQ(CodeOf(file), Code::kDataLoss) << size;
  }
  TempDir dir;
  for (const size_t size : {size_t{0}, size_t{7}, whole.size() - 1}) {
    Put(dir / "f", std::string_view(whole).substr(0, size));
    EXPECT_EQ(CodeOf(SafetensorsFile::Open(dir / "f")), Code::kDataLoss) << size;
  }
}

// Whatever the bytes, views stay inside the file.
TEST(Safetensors, ChangedBytesNeverReachOutside) {
  std::mt19937_64 random(7);
  const std::string whole = SmallImage();
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string changed = whole;
    for (uint64_t n = 1 + random() % 3; n > 0; --n) {
      changed[random() % changed.size()] =
          random() % 2 ? static_cast<char>(random()) : "0123456789[]{},\": "[random() % 18];
    }
    const Exact image(changed);
    const Result<SafetensorsFile> file = SafetensorsFile::Parse(image.bytes(), "f");
    if (!file.ok()) continue;
    ++accepted;
    for (const TensorInfo& tensor : file->tensors()) {
      ASSERT_GE(tensor.begin, 8);
      ASSERT_LE(tensor.end, static_cast<int64_t>(changed.size()));
      ASSERT_EQ(tensor.view.Bytes(), tensor.Bytes());
      ASSERT_EQ(std::memcmp(tensor.view.raw(), changed.data() + tensor.begin, static_cast<size_t>(tensor.Bytes())), 0);
    }
  }
  EXPECT_GT(accepted, 100) << "the changes are too coarse to test anything but the JSON reader";
}

}  // namespace
}  // namespace vexil
