// SPDX-License-Identifier: MIT
// Models of one node, built with the library's own editor; y is written into the case's memory. No backward, channels
// first.
#include <fcntl.h>
#include <onnxruntime_cxx_api.h>
#include <unistd.h>

#include <cstdio>
#include <map>

#include "peers.hpp"

namespace bench {
namespace {

/// A process that has libtorch too registers ONNX's operators twice: a thousand harmless lines.
class SilentErrors {
 public:
  SilentErrors() : kept_(dup(STDERR_FILENO)) {
    std::fflush(stderr);
    const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nothing, STDERR_FILENO);
    close(nothing);
  }
  ~SilentErrors() {
    std::fflush(stderr);
    dup2(kept_, STDERR_FILENO);
    close(kept_);
  }
  SilentErrors(const SilentErrors&) = delete;
  SilentErrors& operator=(const SilentErrors&) = delete;

 private:
  int kept_;
};

Ort::Env& environment() {
  static Ort::Env env = [] {
    const SilentErrors silent;
    return Ort::Env(ORT_LOGGING_LEVEL_ERROR, "bench");
  }();
  return env;
}

const Ort::MemoryInfo& memory_info() {
  static const Ort::MemoryInfo cpu = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
  return cpu;
}

using Shape = std::vector<int64_t>;

Ort::Value value(const Buffer& buffer, const Shape& shape) {
  size_t count = 1;
  for (int64_t extent : shape) count *= static_cast<size_t>(extent);
  return Ort::Value::CreateTensor<float>(memory_info(), buffer.as<float>(), count, shape.data(), shape.size());
}

Ort::ValueInfo info(const char* name, const Shape& shape) {
  const Ort::TensorTypeAndShapeInfo tensor(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape);
  return Ort::ValueInfo(name, Ort::TypeInfo::CreateTensorInfo(tensor.GetConst()).GetConst());
}

Ort::OpAttr attribute(const char* name, float value) { return Ort::OpAttr(name, &value, 1, ORT_OP_ATTR_FLOAT); }
Ort::OpAttr attribute(const char* name, int64_t value) { return Ort::OpAttr(name, &value, 1, ORT_OP_ATTR_INT); }

/// ONNX's operator for a case, and what it takes and gives.
struct Operation {
  const char* name;
  int opset;
  std::vector<std::string> inputs, outputs = {"y"};
  std::vector<Ort::OpAttr> attributes = {};
};

Operation operation_of(const Case& c) {
  Operation operation;
  switch (c.layer) {
    case Layer::batch_norm:
      operation = {"BatchNormalization", 15, {"x", "weight", "bias", "running_mean", "running_variance"}};
      if (c.job == Job::forward) {
        operation.outputs = {"y", "new_mean", "new_variance"};
        operation.attributes.push_back(attribute("training_mode", int64_t{1}));
      }
      break;
    case Layer::layer_norm:
    case Layer::rms_norm:
      if (c.layer == Layer::layer_norm)
        operation = {"LayerNormalization", 17, {"x", "weight", "bias"}};
      else
        operation = {"SimplifiedLayerNormalization", 17, {"x", "weight"}};
      operation.attributes.push_back(attribute("axis", int64_t{-1}));
      break;
    case Layer::instance_norm:
      operation = {"InstanceNormalization", 17, {"x", "weight", "bias"}};
      break;
    case Layer::group_norm:
      operation = {"GroupNormalization", 21, {"x", "weight", "bias"}};
      operation.attributes.push_back(attribute("num_groups", int64_t{c.groups}));
      break;
  }
  operation.attributes.push_back(attribute("epsilon", static_cast<float>(kEps)));
  return operation;
}

Ort::Session session_of(const Case& c, const Tensors& t, const Shape& shape) {
  Operation operation = operation_of(c);
  const std::map<std::string, const Buffer*> parameters = {{"weight", &t.weight},
                                                           {"bias", &t.bias},
                                                           {"running_mean", &t.running_mean},
                                                           {"running_variance", &t.running_variance}};
  Ort::Graph graph;
  for (const std::string& input : operation.inputs) {
    const auto found = parameters.find(input);
    if (found == parameters.end()) continue;
    // A copy: memory of less than 128 bytes may not be the caller's.
    Ort::AllocatorWithDefaultOptions allocator;
    const Shape length = {c.shape[1]};
    Ort::Value copy = Ort::Value::CreateTensor<float>(allocator, length.data(), 1);
    std::copy_n(found->second->as<float>(), c.shape[1], copy.GetTensorMutableData<float>());
    graph.AddInitializer(input, copy, false);
  }
  std::vector<Ort::ValueInfo> inputs, outputs;
  inputs.push_back(info("x", shape));
  outputs.push_back(info("y", shape));
  graph.SetInputs(inputs);
  graph.SetOutputs(outputs);
  Ort::Node node(operation.name, "", "norm", operation.inputs, operation.outputs, operation.attributes);
  graph.AddNode(node);
  Ort::Model model({{"", operation.opset}});
  model.AddGraph(graph);

  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  options.SetInterOpNumThreads(1);
  options.SetGraphOptimizationLevel(ORT_ENABLE_ALL);
  return Ort::Session(environment(), model, options);
}

struct Run {
  Ort::Session session;
  Ort::Value x, y;

  void operator()() {
    constexpr const char* kX = "x";
    constexpr const char* kY = "y";
    session.Run(Ort::RunOptions{nullptr}, &kX, &x, 1, &kY, &y, 1);
  }
};

Contender contender_for(const Case& c, const Tensors& t) {
  if (c.job == Job::backward || c.channels == Channels::last) return {};
  const Shape shape(c.shape.begin(), c.shape.end());
  const auto run = std::make_shared<Run>(Run{session_of(c, t, shape), value(t.x, shape), value(t.result, shape)});
  return {.name = {}, .call = repeated([run] { (*run)(); })};
}

}  // namespace

Peer onnxruntime() { return {"ONNX Runtime", Ort::GetVersionString(), "not told by the library", contender_for}; }

}  // namespace bench
