#include "bench/op_bench.h"

#include <algorithm>

namespace vexil {

Json OpBenchRow::ToJson() const {
  Json limit_json(Json::Object{});
  limit_json.Set("name", limit);
  limit_json.Set("value", limit_value);
  Json j(Json::Object{});
  j.Set("op", op);
  j.Set("kernel", kernel);
  j.Set("dtype", cost.dtype);
  j.Set("shape", shape);
  j.Set("rows", cost.rows);
  j.Set("threads", threads);
  j.Set("time_us", timing.median_s * 1e6);
  j.Set("spread", timing.spread);
  j.Set("runs", timing.runs);
  j.Set("copies", copies);
  j.Set("bytes", cost.bytes);
  j.Set("flops", cost.flops);
  j.Set("limit", std::move(limit_json));
  j.Set("ratio", ratio);
  return j;
}

void SetLimit(OpBenchRow& row, double read_bandwidth, double peak, std::string_view peak_name) {
  const double by_bytes = row.cost.bytes / read_bandwidth, by_flops = row.cost.flops / peak;
  const bool reading = by_bytes >= by_flops;
  row.limit = reading ? "read" : std::string(peak_name);
  row.limit_value = reading ? read_bandwidth : peak;
  row.ratio = row.timing.median_s > 0 ? std::max(by_bytes, by_flops) / row.timing.median_s : 0;
}

void OpBench::Finish(OpBenchRow& row, double read_before, double peak_before) {
  const double read = (read_before + limits_.ReadBandwidth()) / 2;
  const MachineLimits::ComputePeak peak = limits_.Peak(row.cost.unit);
  SetLimit(row, read, (peak_before + peak.flops) / 2, peak.name);
  on_row_(row);
}

Status OpBench::RunAll() {
#define VX_OP(Op, folder)                                                             \
  if ((options_.op.empty() || options_.op == NameOfOp##Op()) && !cancelled_.load()) { \
    BenchOp##Op(*this);                                                               \
  }
#include "ops/ops.inc"
#undef VX_OP
  if (cancelled_.load()) return Cancelled("interrupted");
  if (matched_ == 0) return NotFound("no case matches --op, --kernel and --case");
  return {};
}

size_t BytesOfArgs(std::string_view op) {
#define VX_OP(Op, folder) \
  if (op == NameOfOp##Op()) return BytesOfOp##Op();
#include "ops/ops.inc"
#undef VX_OP
  return 0;
}

OpCost CostOfCall(std::string_view op, const void* args) {
#define VX_OP(Op, folder) \
  if (op == NameOfOp##Op()) return CostOfOp##Op(args);
#include "ops/ops.inc"
#undef VX_OP
  return {};
}

}  // namespace vexil
