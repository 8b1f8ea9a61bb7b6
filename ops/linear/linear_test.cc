// What the conformance cases of Linear and GroupedLinear cannot see: which bits a result has.
#include "ops/linear/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/grouped_linear/grouped_linear.h"
#include "ops/linear/cases.h"
#include "testing/conformance_run.h"

namespace vexil {
namespace {

constexpr int64_t kTokens = 39, kOut = 300, kWidth = 1090;

struct Formats {
  DType x, w, y;
};
const Formats kFormats[] = {{DType::kF32, DType::kF32, DType::kF32},     {DType::kBF16, DType::kBF16, DType::kF32},
                            {DType::kBF16, DType::kF16, DType::kBF16},   {DType::kE4M3, DType::kE4M3, DType::kF32},
                            {DType::kE4M3, DType::kE2M1x2, DType::kF32}, {DType::kBF16, DType::kI8, DType::kBF16},
                            {DType::kI8, DType::kI8, DType::kF32}};

void ExpectSameBits(const TensorView& a, const TensorView& b) {
  ASSERT_EQ(a.dims(), b.dims());
  const size_t row_bytes = size_t(a.dim(1) * BytesOf(a.dtype()));
  for (int64_t i = 0; i < a.dim(0); ++i) {
    const char* row_a = static_cast<const char*>(a.raw()) + i * a.stride(0) * BytesOf(a.dtype());
    const char* row_b = static_cast<const char*>(b.raw()) + i * b.stride(0) * BytesOf(b.dtype());
    ASSERT_EQ(std::memcmp(row_a, row_b, row_bytes), 0) << "row " << i;
  }
}

QuantView InputRows(const QuantView& x, int64_t begin, int64_t end) {
  QuantView rows = x;
  rows.data = x.data.Rows(begin, end);
  if (!x.scale.empty()) rows.scale = x.scale.Rows(begin, end);
  return rows;
}

// Rows [begin, end) of a weight; `begin` is a multiple of the rows of a scale.
QuantView WeightRows(const QuantView& w, int64_t begin, int64_t end) {
  QuantView rows = w;
  rows.data = w.data.Rows(begin, end);
  if (!w.scale.empty()) rows.scale = w.scale.Rows(begin / w.block_rows, CeilDiv(end, w.block_rows));
  return rows;
}

class LinearBits : public testing::Test {
 protected:
  template <class Op>
  void RunOn(const Kernel<Op>& kernel, const typename Op::Args& args, int threads = 1) {
    ThreadPool pool(threads);
    Context ctx;
    ctx.threads = &pool;
    ctx.workspace = &workspace_;
    Status s = Op::Check(args);
    ASSERT_TRUE(s.ok()) << s.message();
    s = kernel.run(ctx, args);
    ASSERT_TRUE(s.ok()) << s.message();
  }
  // f(kernel, x, w, whole): `whole` is the product of all rows with all of w.
  template <class F>
  void ForEachKernelAndFormat(F f) {
    for (const Kernel<Linear>& kernel : Kernels<Linear>()) {
      if (kernel.device != DeviceKind::kCpu) continue;
      for (const Formats& formats : kFormats) {
        SCOPED_TRACE(std::string(kernel.id) + " " + NameOf(formats.x) + " " + NameOf(formats.w));
        const QuantView x = linear_cases::Input(m_, formats.x, kTokens, kWidth, 0, 1);
        const QuantView w = linear_cases::Weight(m_, formats.w, kOut, kWidth);
        const MutTensorView whole = m_.Poison(formats.y, {kTokens, kOut});
        Context ctx;
        ctx.workspace = &workspace_;
        if (!kernel.supports(ctx, {.x = x, .w = w, .y = whole})) continue;
        RunOn<Linear>(kernel, {.x = x, .w = w, .y = whole});
        f(kernel, x, w, whole);
      }
    }
  }

  TestArena m_{1};
  Arena workspace_;
};

TEST_F(LinearBits, ARowDoesNotDependOnTheBatch) {
  ForEachKernelAndFormat(
      [&](const Kernel<Linear>& kernel, const QuantView& x, const QuantView& w, MutTensorView whole) {
        for (int64_t begin : {0, 1, 17, 38}) {
          for (int64_t rows : {1, 2, 3, 7, 19}) {
            const int64_t end = std::min(begin + rows, kTokens);
            const MutTensorView y = m_.Poison(whole.dtype(), {end - begin, kOut});
            RunOn<Linear>(kernel, {.x = InputRows(x, begin, end), .w = w, .y = y});
            ExpectSameBits(y, whole.Rows(begin, end));
          }
        }
      });
}

TEST_F(LinearBits, AColumnDoesNotDependOnTheOtherColumns) {
  ForEachKernelAndFormat(
      [&](const Kernel<Linear>& kernel, const QuantView& x, const QuantView& w, MutTensorView whole) {
        for (int64_t begin : {0, 128, 256}) {
          for (int64_t columns : {1, 5, 44}) {
            const MutTensorView y = m_.Poison(whole.dtype(), {kTokens, columns});
            RunOn<Linear>(kernel, {.x = x, .w = WeightRows(w, begin, begin + columns), .y = y});
            ExpectSameBits(y, whole.Columns(begin, begin + columns));
          }
        }
      });
}

TEST_F(LinearBits, ThreadsAndStridesDoNotMatter) {
  ForEachKernelAndFormat(
      [&](const Kernel<Linear>& kernel, const QuantView& x, const QuantView& w, MutTensorView whole) {
        for (int threads : {2, 3, 8}) {
          const MutTensorView y = m_.Padded(whole.dtype(), {kTokens, kOut}, threads);
          RunOn<Linear>(kernel, {.x = x, .w = w, .y = y}, threads);
          ExpectSameBits(y, whole);
        }
      });
  EXPECT_TRUE(m_.GuardsIntact());
}

// More rows and columns than one of a kernel's largest blocks have: an item of AMX has 512 x 256, a tile of the others
// at most 128 x 16.
struct Size {
  int64_t rows, columns;
};
Size ManyRowsFor(std::string_view kernel) {
  return kernel.find(".amx") != kernel.npos ? Size{550, kOut} : Size{290, 44};
}

// Kernels cut many rows into blocks of several sizes: the bits are those of a row alone in each of them.
TEST_F(LinearBits, ManyRowsEqualRowsAlone) {
  for (const Kernel<Linear>& kernel : Kernels<Linear>()) {
    if (kernel.device != DeviceKind::kCpu || std::string_view(kernel.id).ends_with("plain")) continue;
    for (const Formats& formats : kFormats) {
      SCOPED_TRACE(std::string(kernel.id) + " " + NameOf(formats.x) + " " + NameOf(formats.w));
      const auto [many, columns] = ManyRowsFor(kernel.id);
      const QuantView x = linear_cases::Input(m_, formats.x, many, kWidth, 0, 1);
      const QuantView w = linear_cases::Weight(m_, formats.w, columns, kWidth);
      const MutTensorView whole = m_.Poison(formats.y, {many, columns});
      Context ctx;
      ctx.workspace = &workspace_;
      if (!kernel.supports(ctx, {.x = x, .w = w, .y = whole})) continue;
      RunOn<Linear>(kernel, {.x = x, .w = w, .y = whole});
      for (int64_t i : {0, 15, 16, 31, 32, 127, 128, 287, 288, 543, 544, 549}) {
        if (i >= many) break;
        const MutTensorView y = m_.Poison(formats.y, {1, columns});
        RunOn<Linear>(kernel, {.x = InputRows(x, i, i + 1), .w = w, .y = y});
        ExpectSameBits(y, whole.Rows(i, i + 1));
      }
      for (int64_t n : {20, 40, 65, 96, 97, 200}) {
        const MutTensorView y = m_.Padded(formats.y, {n, columns}, 3);
        RunOn<Linear>(kernel, {.x = InputRows(x, many - n, many), .w = w, .y = y}, 3);
        ExpectSameBits(y, whole.Rows(many - n, many));
      }
    }
  }
  EXPECT_TRUE(m_.GuardsIntact());
}

TEST_F(LinearBits, GroupedLinearEqualsLinear) {
  const std::span<const Kernel<GroupedLinear>> grouped = Kernels<GroupedLinear>();
  const auto of_cpu = [](const auto& k) { return k.device == DeviceKind::kCpu; };
  ASSERT_EQ(std::ranges::count_if(grouped, of_cpu), std::ranges::count_if(Kernels<Linear>(), of_cpu));
  size_t kernel_index = 0;
  const Kernel<Linear>* last = Kernels<Linear>().data();
  ForEachKernelAndFormat(
      [&](const Kernel<Linear>& kernel, const QuantView& x, const QuantView& w, MutTensorView whole) {
        if (&kernel != last) ++kernel_index, last = &kernel;
        // The same weight for experts with few and with many pairs, which are in another order than the rows of x.
        std::vector<int32_t> rows = {38, 3, 3, 0, 20, 21, 22, 1};
        for (int32_t i = 0; i < 140; ++i) rows.push_back(i * 7 % int32_t(kTokens));
        const QuantView experts[] = {w, w, w, w, w};
        const MutTensorView y = m_.Poison(whole.dtype(), {int64_t(rows.size()), kOut});
        RunOn<GroupedLinear>(grouped[kernel_index],
                             {.x = x,
                              .rows = m_.Values<int32_t>({int64_t(rows.size())}, rows),
                              .offsets = m_.Values<int32_t>({6}, {0, 3, 3, 43, 44, 148}),
                              .w = experts,
                              .y = y},
                             2);
        for (size_t p = 0; p < rows.size(); ++p) {
          ExpectSameBits(y.Rows(int64_t(p), int64_t(p) + 1), whole.Rows(rows[p], rows[p] + 1));
        }
      });
}

// Kernels that compute values of E4M3 codes do so for rows of codes that are all normal; the last two rows of w have
// zeros and subnormals, and the last has NaN: all its sums are NaN. A row of x that is 1 in one place picks one value
// of each row of w, exact in every order of sums.
TEST_F(LinearBits, EveryE4M3CodeWithEveryScale) {
  constexpr int64_t kRows = 32, kColumns = 256;
  std::vector<uint8_t> normal;
  for (int c = 0; c < 256; ++c) {
    if (c % 128 >= 8 && c % 128 != 127) normal.push_back(uint8_t(c));
  }
  const MutTensorView codes = m_.Poison(DType::kE4M3, {kRows, kColumns});
  const MutTensorView scales = m_.Poison(DType::kE8M0, {1, kColumns / kE4M3Block});
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t k = 0; k < kColumns; ++k) {
      const size_t i = size_t(r * kColumns + k);
      codes.MutRow<E4M3>(r)[k].bits = r < kRows - 2 ? normal[i % normal.size()] : uint8_t(i);
      if (r == kRows - 2 && k % 128 == 127) codes.MutRow<E4M3>(r)[k].bits = 0;
    }
  }
  const MutTensorView x = m_.Poison(DType::kBF16, {kRows, kColumns});
  for (const Kernel<Linear>& kernel : Kernels<Linear>()) {
    if (kernel.device != DeviceKind::kCpu) continue;
    const MutTensorView y = m_.Poison(DType::kF32, {kRows, kRows});
    const Linear::Args args = {.x = x, .w = QuantView(codes, scales, 128, 128), .y = y};
    Context ctx;
    ctx.workspace = &workspace_;
    if (!kernel.supports(ctx, args)) continue;
    for (int scale = 7; scale <= 246; ++scale) {
      std::fill_n(scales.MutRow<E8M0>(0), kColumns / kE4M3Block, E8M0{uint8_t(scale)});
      for (int64_t k = scale % 2 * kRows; k < kColumns; k += 2 * kRows) {
        for (int64_t i = 0; i < kRows; ++i) {
          std::fill_n(x.MutRow<BF16>(i), kColumns, BF16{});
          x.MutRow<BF16>(i)[k + i] = BF16::From(1);
        }
        RunOn<Linear>(kernel, args);
        for (int64_t i = 0; i < kRows; ++i) {
          for (int64_t j = 0; j < kRows; ++j) {
            const float want = codes.Row<E4M3>(j)[k + i].ToFloat() * E8M0{uint8_t(scale)}.ToFloat(),
                        got = y.Row<float>(i)[j];
            const bool flushed = std::abs(want) < 0x1p-126f && got == 0;
            ASSERT_TRUE(j == kRows - 1 ? std::isnan(got) : got == want || flushed)
                << kernel.id << " code " << int(codes.Row<E4M3>(j)[k + i].bits) << " scale " << scale << ": " << got;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace vexil
