#include "convert/quantize_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace vexil::convert {
namespace {

struct Row {
  std::string name, format;
  double max_error = 0, rms_error = 0, rms = 0, cosine = 1;
  const Json* notes = nullptr;
  double relative() const { return rms > 0 ? rms_error / rms : 0; }
};

double Number(const Json& notes, std::string_view key) {
  const Json* v = notes.Find(key);
  return v == nullptr ? 0 : v->Double().value_or(0);
}

std::vector<Row> RowsOf(std::span<const FileRecord> records) {
  std::vector<Row> rows;
  for (const FileRecord& r : records) {
    for (size_t i = 0; i < r.notes.size(); ++i) {
      const Json& n = r.notes[i];
      const Json* format = n.Find("format");
      if (format == nullptr || format->string() == nullptr) continue;
      rows.push_back({r.manifest.tensors[i].name, *format->string(), Number(n, "max_error"), Number(n, "rms_error"),
                      Number(n, "rms"), Number(n, "cosine"), &n});
    }
  }
  return rows;
}

struct Summary {
  int64_t tensors = 0;
  double sum = 0, max = 0, cosine = 1;
};

std::map<std::string, Summary> Summaries(const std::vector<Row>& rows) {
  std::map<std::string, Summary> out;
  for (const Row& r : rows) {
    Summary& s = out[r.format];
    s.tensors += 1;
    s.sum += r.relative();
    s.max = std::max(s.max, r.relative());
    s.cosine = std::min(s.cosine, r.cosine);
  }
  return out;
}

// "layers.3.ffn.experts.7.w1.weight" -> 3 and "experts.w1". -1: outside the layers.
struct Place {
  int64_t layer = -1;
  std::string kind;
};

Place PlaceOf(const std::string& name) {
  Place p;
  std::string stem = name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name;
  if (stem.starts_with("layers.")) {
    const size_t dot = stem.find('.', 7);
    p.layer = std::atoll(stem.c_str() + 7);
    stem = dot == stem.npos ? "" : stem.substr(dot + 1);
  }
  if (stem.starts_with("ffn.")) stem.erase(0, 4);
  constexpr std::string_view kExperts = "experts.";
  if (stem.starts_with(kExperts))
    stem = "experts" + stem.substr(std::min(stem.find('.', kExperts.size()), stem.size()));
  p.kind = stem;
  return p;
}

constexpr const char* kColours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e",
                                    "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"};
constexpr int kWidth = 860, kHeight = 300, kLeft = 70, kBottom = 40, kTop = 15, kRight = 20;

std::string Axes(std::string_view x_label, std::string_view y_label, double y_max) {
  std::string out = fmt::format("<svg viewBox='0 0 {} {}' role='img'>", kWidth, kHeight);
  const int base = kHeight - kBottom;
  for (int i = 0; i <= 4; ++i) {
    const double y = base - (base - kTop) * i / 4.0;
    out += fmt::format(
        "<line x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}' class='g'/><text x='{}' y='{:.1f}' "
        "text-anchor='end'>{:.3g}</text>",
        kLeft, kWidth - kRight, y, y, kLeft - 6, y + 4, y_max * i / 4);
  }
  out += fmt::format("<text x='{}' y='{}' text-anchor='middle'>{}</text>", (kLeft + kWidth - kRight) / 2, kHeight - 6,
                     x_label);
  out += fmt::format("<text transform='translate(14 {}) rotate(-90)' text-anchor='middle'>{}</text>", (kTop + base) / 2,
                     y_label);
  return out;
}

// Mean relative error per layer, a line per kind of tensor.
std::string LayerPlot(const std::vector<Row>& rows) {
  struct Mean {
    double sum = 0;
    int64_t count = 0;
  };
  std::map<std::string, std::map<int64_t, Mean>> kinds;
  int64_t layers = 1;
  double top = 0;
  for (const Row& r : rows) {
    const Place p = PlaceOf(r.name);
    if (p.layer < 0) continue;
    Mean& m = kinds[p.kind][p.layer];
    m.sum += r.relative();
    m.count += 1;
    layers = std::max(layers, p.layer + 1);
  }
  for (const auto& [kind, line] : kinds) {
    for (const auto& [layer, m] : line) top = std::max(top, 1.1 * m.sum / double(m.count));
  }
  if (top <= 0) return "<p>no error in any layer</p>";
  std::string out = Axes("layer", "rms error / rms", top), legend = "<p class='legend'>";
  size_t colour = 0;
  for (const auto& [kind, line] : kinds) {
    const char* c = kColours[colour++ % std::size(kColours)];
    legend += fmt::format("<span style='color:{}'>&#9679; {}</span> ", c, kind);
    std::string points;
    for (const auto& [layer, m] : line) {
      const double x = kLeft + (kWidth - kLeft - kRight) * (double(layer) + 0.5) / double(layers);
      const double mean = m.sum / double(m.count), y = kHeight - kBottom - (kHeight - kBottom - kTop) * mean / top;
      points += fmt::format("{:.1f},{:.1f} ", x, y);
      out += fmt::format(
          "<circle cx='{:.1f}' cy='{:.1f}' r='3' fill='{}'><title>layer {} {}: {:.4f} (mean of {})</title></circle>", x,
          y, c, layer, kind, mean, m.count);
    }
    out += fmt::format("<polyline points='{}' fill='none' stroke='{}'/>", points, c);
  }
  for (int64_t l = 0; l < layers; l += std::max<int64_t>(1, layers / 12)) {
    const double x = kLeft + (kWidth - kLeft - kRight) * (double(l) + 0.5) / double(layers);
    out += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", x, kHeight - kBottom + 16, l);
  }
  return out + "</svg>" + legend + "</p>";
}

// How many tensors have which relative error.
std::string Histogram(const std::vector<Row>& rows) {
  constexpr int kBins = 40;
  double low = INFINITY, high = 0;
  for (const Row& r : rows) {
    low = std::min(low, r.relative());
    high = std::max(high, r.relative());
  }
  if (!(high > low)) return fmt::format("<p>{} tensors, all at {:.4g}</p>", rows.size(), high);
  std::vector<int64_t> bins(kBins);
  for (const Row& r : rows) bins[size_t(std::min(kBins - 1, int((r.relative() - low) / (high - low) * kBins)))] += 1;
  const double top = double(*std::ranges::max_element(bins));
  std::string out = Axes("rms error / rms", "tensors", top);
  const double step = double(kWidth - kLeft - kRight) / kBins;
  for (int b = 0; b < kBins; ++b) {
    const double height = (kHeight - kBottom - kTop) * double(bins[size_t(b)]) / top;
    const double from = low + (high - low) * b / kBins, to = low + (high - low) * (b + 1) / kBins;
    out += fmt::format(
        "<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}'><title>{:.4f} to {:.4f}: {}</title></rect>",
        kLeft + b * step, kHeight - kBottom - height, step - 1, height, from, to, bins[size_t(b)]);
    if (b % 10 == 0)
      out += fmt::format("<text x='{:.1f}' y='{}'>{:.3g}</text>", kLeft + b * step, kHeight - kBottom + 16, from);
  }
  return out + "</svg>";
}

std::string Table(std::vector<Row> rows) {
  constexpr size_t kRows = 30;
  std::ranges::stable_sort(rows, std::greater(), &Row::relative);
  std::string out =
      "<table><tr><th>tensor<th>format<th>max error<th>rms error<th>rms<th>rms error / rms<th>cosine</tr>";
  for (size_t i = 0; i < std::min(rows.size(), kRows); ++i) {
    const Row& r = rows[i];
    out += fmt::format("<tr><td>{}<td>{}<td>{:.4g}<td>{:.4g}<td>{:.4g}<td>{:.4f}<td>{:.6f}</tr>", r.name, r.format,
                       r.max_error, r.rms_error, r.rms, r.relative(), r.cosine);
  }
  return out + "</table>";
}

constexpr std::string_view kStyle =
    "body{font:15px/1.5 sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}svg{width:100%}"
    "svg text{font-size:12px;fill:#444}svg .g{stroke:#ddd}svg rect{fill:#1f77b4}polyline{stroke-width:1.2}"
    "table{border-collapse:collapse;font-size:13px;width:100%}td,th{padding:3px 8px;border-bottom:1px solid "
    "#ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left;font-family:monospace}.legend "
    "span{margin-right:1em;white-space:nowrap}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}svg text{fill:#bbb}svg .g{stroke:#444}}";

}  // namespace

Result<std::string> QuantizeReportJson(std::span<const FileRecord> records) {
  const std::vector<Row> rows = RowsOf(records);
  Json::Object formats, tensors;
  for (const auto& [format, s] : Summaries(rows)) {
    formats.emplace_back(format, Json(Json::Object{{"tensors", s.tensors},
                                                   {"mean_relative_rms_error", s.sum / double(s.tensors)},
                                                   {"max_relative_rms_error", s.max},
                                                   {"min_cosine", s.cosine}}));
  }
  for (const Row& r : rows) tensors.emplace_back(r.name, *r.notes);
  return Json(Json::Object{{"formats", std::move(formats)}, {"tensors", std::move(tensors)}}).ToText(1) + "\n";
}

Result<std::string> QuantizeReportHtml(std::span<const FileRecord> records) {
  const std::vector<Row> rows = RowsOf(records);
  std::string out = fmt::format(
      "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
      "<title>Quantisation error</title><style>{}</style><h1>Quantisation error</h1>"
      "<p>Stored values against the source's, per tensor. Errors are absolute unless divided by the rms of "
      "the source's values; cosine is between both as vectors.</p><table><tr><th>format<th>tensors"
      "<th>mean rms error / rms<th>largest<th>least cosine</tr>",
      kStyle);
  for (const auto& [format, s] : Summaries(rows)) {
    out += fmt::format("<tr><td>{}<td>{}<td>{:.4f}<td>{:.4f}<td>{:.6f}</tr>", format, s.tensors,
                       s.sum / double(s.tensors), s.max, s.cosine);
  }
  out += "</table><h2>By layer</h2>" + LayerPlot(rows) + "<h2>All tensors</h2>" + Histogram(rows) +
         "<h2>Largest errors</h2>" + Table(rows) + "</html>\n";
  return out;
}

}  // namespace vexil::convert
