// SPDX-License-Identifier: MIT
// Forward only, channels first, no batch norm. Written as its users do, norm * weight + bias; the graph is built once
// and its operations write one over the other's result, as its own allocator has them do.
#include <ggml-backend.h>
#include <ggml.h>

#include <stdexcept>

#include "peers.hpp"

namespace bench {
namespace {

ggml_backend_t backend() {
  static const ggml_backend_t cpu = [] {
    ggml_backend_load_all();
    return ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
  }();
  if (!cpu) throw std::runtime_error("no processor backend");
  return cpu;
}

ggml_backend_reg_t registration() { return ggml_backend_dev_backend_reg(ggml_backend_get_device(backend())); }

template <class Function>
Function function(const char* name) {
  return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(registration(), name));
}

/// A graph over the case's own memory.
class Graph {
 public:
  Graph(const Case& c, const Tensors& t)
      : context_(ggml_init({ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true}), ggml_free) {
    const bool rows = c.shape.size() == 2;
    ggml_tensor* x = rows ? tensor(c.shape[1], c.shape[0]) : tensor(c.shape[3], c.shape[2], c.shape[1], c.shape[0]);
    ggml_tensor* weight = rows ? tensor(c.shape[1]) : tensor(1, 1, c.shape[1]);
    ggml_tensor* bias = ggml_dup_tensor(context_.get(), weight);
    place(x, t.x);
    place(weight, t.weight);
    place(bias, t.bias);
    ggml_tensor* y = place(norm(c, x), t.result);
    y = place(ggml_mul(context_.get(), y, weight), t.result);
    if (c.layer != Layer::rms_norm) y = place(ggml_add(context_.get(), y, bias), t.result);
    graph_ = ggml_new_graph_custom(context_.get(), 8, false);
    ggml_build_forward_expand(graph_, y);
  }
  void compute() const { ggml_backend_graph_compute(backend(), graph_); }

 private:
  ggml_tensor* tensor(long a, long b = 1, long c = 1, long d = 1) const {
    return ggml_new_tensor_4d(context_.get(), GGML_TYPE_F32, a, b, c, d);
  }

  ggml_tensor* norm(const Case& c, ggml_tensor* x) const {
    constexpr auto kEpsilon = static_cast<float>(kEps);
    if (c.layer == Layer::layer_norm) return ggml_norm(context_.get(), x, kEpsilon);
    if (c.layer == Layer::rms_norm) return ggml_rms_norm(context_.get(), x, kEpsilon);
    const long groups = c.layer == Layer::group_norm ? c.groups : c.shape[1];
    return ggml_group_norm(context_.get(), x, static_cast<int>(groups), kEpsilon);
  }

  ggml_tensor* place(ggml_tensor* tensor, const Buffer& memory) {
    buffers_.emplace_back(ggml_backend_cpu_buffer_from_ptr(memory.data(), memory.bytes()), ggml_backend_buffer_free);
    if (ggml_backend_tensor_alloc(buffers_.back().get(), tensor, memory.data()) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("does not take the memory");
    return tensor;
  }

  std::shared_ptr<ggml_context> context_;
  std::vector<std::shared_ptr<ggml_backend_buffer>> buffers_;
  ggml_cgraph* graph_ = nullptr;
};

Contender contender_for(const Case& c, const Tensors& t) {
  if (c.layer == Layer::batch_norm || c.job == Job::backward || c.channels == Channels::last) return {};
  function<ggml_backend_set_n_threads_t>("ggml_backend_set_n_threads")(backend(), 1);
  return {.name = {}, .call = repeated([graph = Graph(c, t)] { graph.compute(); })};
}

std::string instruction_set() {
  const auto features = function<ggml_backend_get_features_t>("ggml_backend_get_features");
  if (!features) return "not told";
  std::string all;
  for (const ggml_backend_feature* feature = features(registration()); feature->name; ++feature) {
    if (std::string(feature->value) == "1") all += (all.empty() ? "" : " ") + std::string(feature->name);
  }
  return all;
}

}  // namespace

Peer ggml() { return {"ggml", ggml_version(), instruction_set(), contender_for}; }

}  // namespace bench
