// A model of DeepSeek-V4-Flash's own widths with random weights in the published formats, for timing without a
// checkpoint. Every weight has memory of its own (a layer takes 3.6 GB), so that nothing is in a cache by accident.
#pragma once

#include <memory>

#include "model/v4/model.h"
#include "testing/conformance.h"

namespace vexil {

// The kinds of layer, by what their attention sees besides the window.
struct LayerKind {
  std::string_view name;
  int64_t ratio;
  int64_t layers;  // of this kind in the 43-layer model
};
inline constexpr LayerKind kLayerKinds[] = {{"window", 0, 2}, {"ratio 4", 4, 21}, {"ratio 128", 128, 20}};

// V4-Flash's configuration (models/v4-flash/config.json; spec: model, 2) with one layer of that ratio, without the
// embeddings and the head, whose size a layer does not notice.
ModelConfig LayerConfig(int64_t ratio);
// The same without layers, with the head.
ModelConfig HeadConfig();

class SyntheticModel {
 public:
  // One layer with that ratio, or none (for the head).
  static std::unique_ptr<SyntheticModel> WithLayer(int64_t ratio);
  static std::unique_ptr<SyntheticModel> WithHead();
  const Model& model() const { return *model_; }

 private:
  SyntheticModel();
  void Finish(ModelConfig config, ModelWeights weights);

  TestArena arena_;  // owns the weights
  std::unique_ptr<Model> model_;
};

}  // namespace vexil
