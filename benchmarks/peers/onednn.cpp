// SPDX-License-Identifier: MIT
// Primitives are built once, on the case's own memory and plain layouts.
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "peers.hpp"

#define BENCH_ONEDNN_VERSION (100 * DNNL_VERSION_MAJOR + DNNL_VERSION_MINOR)

namespace bench {
namespace {

using Memory = dnnl::memory;
using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using Flags = dnnl::normalization_flags;

constexpr auto kFloat = Memory::data_type::f32;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

Desc tensor_desc(const Case& c) {
  Memory::dims dims(c.shape.begin(), c.shape.end());
  const bool last = c.channels == Channels::last;
  switch (dims.size()) {
    case 2:
      if (c.layer != Layer::batch_norm) return Desc(dims, kFloat, Tag::ab);
      return Desc({dims[0], dims[1], 1, 1}, kFloat, Tag::nhwc);  // (N, C) is NHWC of one pixel; as NC it is refused
    case 3:
      return Desc(dims, kFloat, last ? Tag::nwc : Tag::ncw);
    case 4:
      return Desc(dims, kFloat, last ? Tag::nhwc : Tag::nchw);
    default:
      return Desc(dims, kFloat, last ? Tag::ndhwc : Tag::ncdhw);
  }
}

struct Descs {
  Desc tensor, statistics, parameters;
};

Descs descs_of(const Case& c) {
  const Desc parameters({c.shape[1]}, kFloat, Tag::a);
  if (c.layer == Layer::batch_norm) return {tensor_desc(c), parameters, parameters};
  if (c.shape.size() == 2) return {tensor_desc(c), Desc({c.shape[0]}, kFloat, Tag::a), parameters};
  const long groups = c.layer == Layer::group_norm ? c.groups : c.shape[1];
  return {tensor_desc(c), Desc({c.shape[0], groups}, kFloat, Tag::ab), parameters};
}

struct Arguments {
  std::unordered_map<int, Memory> forward, backward;
};

Arguments arguments_of(const Case& c, const Tensors& t, const Descs& descs) {
  const auto memory = [](const Desc& desc, const Buffer& buffer) { return Memory(desc, engine(), buffer.data()); };
  // In training the batch's own are written there: not into the memory that all contenders read.
  const bool given = c.job == Job::eval && c.layer == Layer::batch_norm;
  const auto statistics = [&](const Buffer& running) {
    return given ? memory(descs.statistics, running) : Memory(descs.statistics, engine());
  };
  const Memory x = memory(descs.tensor, t.x), result = memory(descs.tensor, t.result);
  const Memory weight = memory(descs.parameters, t.weight), bias = memory(descs.parameters, t.bias);
  const Memory mean = statistics(t.running_mean), variance = statistics(t.running_variance);
  return {{{DNNL_ARG_SRC, x},
           {DNNL_ARG_DST, result},
           {DNNL_ARG_SCALE, weight},
           {DNNL_ARG_SHIFT, bias},
           {DNNL_ARG_MEAN, mean},
           {DNNL_ARG_VARIANCE, variance}},
          {{DNNL_ARG_SRC, x},
           {DNNL_ARG_DIFF_DST, memory(descs.tensor, t.dy)},
           {DNNL_ARG_DIFF_SRC, result},
           {DNNL_ARG_SCALE, weight},
           {DNNL_ARG_SHIFT, bias},  // version 2 insists
           {DNNL_ARG_DIFF_SCALE, Memory(descs.parameters, engine())},
           {DNNL_ARG_DIFF_SHIFT, Memory(descs.parameters, engine())},
           {DNNL_ARG_MEAN, mean},
           {DNNL_ARG_VARIANCE, variance}}};
}

constexpr auto kEpsilon = static_cast<float>(kEps);

// From 3.0 on a primitive's description takes the operation's arguments itself.
template <class Primitive, class... Extra>
auto forward_description(dnnl::prop_kind kind, const Desc& tensor, Flags flags, const Extra&... extra) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(engine(), kind, tensor, tensor, extra..., kEpsilon, flags);
#else
  return typename Primitive::primitive_desc({kind, tensor, extra..., kEpsilon, flags}, engine());
#endif
}

template <class Primitive, class Forward, class... Extra>
auto backward_description(const Forward& forward, const Desc& tensor, Flags flags, const Extra&... extra) {
  constexpr auto kKind = dnnl::prop_kind::backward;
#if DNNL_VERSION_MAJOR >= 3
  return
      typename Primitive::primitive_desc(engine(), kKind, tensor, tensor, tensor, extra..., kEpsilon, flags, forward);
#else
  return typename Primitive::primitive_desc({kKind, tensor, tensor, extra..., kEpsilon, flags}, engine(), forward);
#endif
}

/// `extra` is what the operation takes between its tensors and epsilon.
template <class Forward, class Backward, class... Extra>
Contender contender_with(const Case& c, const Tensors& t, const Descs& descs, Flags flags, const Extra&... extra) {
  const Arguments arguments = arguments_of(c, t, descs);
  const auto timed = [](const dnnl::primitive& primitive, const auto& of_primitive, const std::string& implementation) {
    return Contender{.name = {},
                     .call = repeated([primitive, of_primitive, stream = dnnl::stream(engine())]() mutable {
                       primitive.execute(stream, of_primitive);
                       stream.wait();
                     }),
                     .rough = implementation.rfind("ref", 0) == 0,  // its reference loops: hundreds of times memcpy
                     .note = implementation};
  };
  const auto kind = c.job == Job::eval ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training;
  const auto forward_desc = forward_description<Forward>(kind, descs.tensor, flags, extra...);
  const Forward forward(forward_desc);
  if (c.job != Job::backward) return timed(forward, arguments.forward, forward_desc.impl_info_str());

  dnnl::stream stream(engine());
  forward.execute(stream, arguments.forward);  // leaves the batch's statistics where backward looks for them
  stream.wait();
  const auto backward_desc = backward_description<Backward>(forward_desc, descs.tensor, flags, extra...);
  return timed(Backward(backward_desc), arguments.backward, backward_desc.impl_info_str());
}

Contender contender_for(const Case& c, const Tensors& t) {
  const Descs descs = descs_of(c);
  const Flags affine = Flags::use_scale | Flags::use_shift;
  switch (c.layer) {
    case Layer::batch_norm:
      return contender_with<dnnl::batch_normalization_forward, dnnl::batch_normalization_backward>(
          c, t, descs, c.job == Job::eval ? affine | Flags::use_global_stats : affine);
    case Layer::layer_norm:
      return contender_with<dnnl::layer_normalization_forward, dnnl::layer_normalization_backward>(c, t, descs, affine,
                                                                                                   descs.statistics);
    case Layer::rms_norm:
#if BENCH_ONEDNN_VERSION >= 308
      return contender_with<dnnl::layer_normalization_forward, dnnl::layer_normalization_backward>(
          c, t, descs, Flags::use_scale | Flags::rms_norm, descs.statistics);
#else
      return {};
#endif
    default:
#if BENCH_ONEDNN_VERSION >= 303
      return contender_with<dnnl::group_normalization_forward, dnnl::group_normalization_backward>(
          c, t, descs, affine, descs.statistics.get_dims()[1]);
#else
      return {};
#endif
  }
}

std::string instruction_set() {
  const dnnl::cpu_isa set = dnnl::get_effective_cpu_isa();  // the enumerators are bit sets, a wider one the greater
  return set >= dnnl::cpu_isa::avx512_core ? "AVX-512" : set >= dnnl::cpu_isa::avx2 ? "AVX2" : "SSE4.1 or AVX";
}

}  // namespace

Peer onednn() {
  const dnnl_version_t& version = *dnnl_version();
  return {"oneDNN",
          std::to_string(version.major) + "." + std::to_string(version.minor) + "." + std::to_string(version.patch),
          instruction_set(), contender_for};
}

}  // namespace bench
