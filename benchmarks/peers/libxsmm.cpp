// SPDX-License-Identifier: MIT
// Batch and group norm in its own blocked layout (N, C / block, H, W, block), which is NHWC where C is one block. It is
// given the NHWC case's data in that layout: its time has no reordering in it. Its epsilon is fixed, at 1e-7.
#include <libxsmm_source.h>  // Debian ships it as source to include; first, for it sets feature macros

#include <stdexcept>

#include "peers.hpp"

namespace bench {
namespace {

libxsmm_dnn_err_t status;

template <class Value>
Value checked(Value value) {
  if (status != LIBXSMM_DNN_SUCCESS) throw std::runtime_error(libxsmm_dnn_get_error(status));
  return value;
}

/// What both operations have, each under names of its own.
template <class Description, auto kCreate, auto kBindScratch, auto kLayout, auto kBind, auto kExecute>
struct Operation {
  using Desc = Description;
  static constexpr auto create = kCreate;
  static constexpr auto bind_scratch = kBindScratch;
  static constexpr auto layout = kLayout;
  static constexpr auto bind = kBind;
  static constexpr auto execute = kExecute;
};

struct BatchNorm : Operation<libxsmm_dnn_fusedbatchnorm_desc, libxsmm_dnn_create_fusedbatchnorm,
                             libxsmm_dnn_fusedbatchnorm_bind_scratch, libxsmm_dnn_fusedbatchnorm_create_tensor_datalayout,
                             libxsmm_dnn_fusedbatchnorm_bind_tensor, libxsmm_dnn_fusedbatchnorm_execute_st> {
  static Desc desc(const Case& c) {
    Desc desc = {};
    desc.partN = desc.fullN = static_cast<int>(c.shape[0]);
    desc.fuse_order = LIBXSMM_DNN_FUSEDBN_ORDER_BN_ELTWISE_RELU;
    desc.fuse_ops = c.job == Job::eval ? LIBXSMM_DNN_FUSEDBN_OPS_BNSCALE : LIBXSMM_DNN_FUSEDBN_OPS_BN;
    return desc;
  }
};

struct GroupNorm : Operation<libxsmm_dnn_fusedgroupnorm_desc, libxsmm_dnn_create_fusedgroupnorm,
                             libxsmm_dnn_fusedgroupnorm_bind_scratch, libxsmm_dnn_fusedgroupnorm_create_tensor_datalayout,
                             libxsmm_dnn_fusedgroupnorm_bind_tensor, libxsmm_dnn_fusedgroupnorm_execute_st> {
  static Desc desc(const Case& c) {
    Desc desc = {};
    desc.N = static_cast<int>(c.shape[0]);
    desc.G = static_cast<int>(c.groups);
    desc.fuse_order = LIBXSMM_DNN_FUSEDGN_ORDER_GN_ELTWISE_RELU;
    desc.fuse_ops = LIBXSMM_DNN_FUSEDGN_OPS_GN;
    return desc;
  }
};

/// Between (N, pixels, C) and (N, C / block, pixels, block).
void reorder(const Case& c, long block, float* blocked, float* last, bool to_blocked) {
  const long pixels = c.spatial(), channels = c.shape[1];
  for (long n = 0; n < c.shape[0]; ++n) {
    for (long first = 0; first < channels; first += block) {
      for (long pixel = 0; pixel < pixels; ++pixel, blocked += block) {
        float* const at = last + (n * pixels + pixel) * channels + first;
        to_blocked ? std::copy_n(at, block, blocked) : std::copy_n(blocked, block, at);
      }
    }
  }
}

template <class Norm>
class Run {
 public:
  Run(const Case& c, const Tensors& t) : case_(c), tensors_(t) {
    typename Norm::Desc desc = Norm::desc(c);
    desc.C = static_cast<int>(c.shape[1]);
    desc.H = static_cast<int>(c.shape[2]);
    desc.W = static_cast<int>(c.shape[3]);
    desc.u = desc.v = desc.threads = 1;
    desc.datatype_in = desc.datatype_out = desc.datatype_stats = LIBXSMM_DNN_DATATYPE_F32;
    desc.buffer_format = LIBXSMM_DNN_TENSOR_FORMAT_LIBXSMM;
    norm_ = checked(Norm::create(desc, &status));
    block_ = norm_->ifmblock;
    Norm::bind_scratch(norm_, memory(64 + 16 * c.shape[0] * (c.shape[1] + c.groups + 1)).data());

    bind(LIBXSMM_DNN_REGULAR_INPUT, from(t.x));
    bind(LIBXSMM_DNN_GRADIENT_OUTPUT, from(t.dy));
    const Buffer y = memory(c.bytes()), dx = memory(c.bytes());
    result_ = c.job == Job::backward ? dx : y;
    bind(LIBXSMM_DNN_REGULAR_OUTPUT, y);
    bind(LIBXSMM_DNN_GRADIENT_INPUT, dx);
    bind(LIBXSMM_DNN_REGULAR_CHANNEL_GAMMA, t.weight);
    bind(LIBXSMM_DNN_REGULAR_CHANNEL_BETA, t.bias);
    const long statistics = std::max(c.shape[1], c.shape[0] * c.groups) * static_cast<long>(sizeof(float));
    for (auto gradient : {LIBXSMM_DNN_GRADIENT_CHANNEL_GAMMA, LIBXSMM_DNN_GRADIENT_CHANNEL_BETA})
      bind(gradient, memory(statistics));
    const Buffer mean = memory(statistics), rstd = memory(statistics), variance = memory(statistics);
    bind(LIBXSMM_DNN_CHANNEL_EXPECTVAL, mean);
    bind(LIBXSMM_DNN_CHANNEL_RCPSTDDEV, rstd);
    bind(LIBXSMM_DNN_CHANNEL_VARIANCE, variance);
    if (c.job == Job::eval) {
      for (long i = 0; i < c.shape[1]; ++i) {
        mean.as<float>()[i] = t.running_mean.as<float>()[i];
        rstd.as<float>()[i] = 1 / std::sqrt(t.running_variance.as<float>()[i] + static_cast<float>(kEps));
      }
    }
    if (c.job == Job::backward) execute(LIBXSMM_DNN_COMPUTE_KIND_FWD);
    operator()();
    checked(0);
  }

  void operator()() {
    execute(case_.job == Job::backward ? LIBXSMM_DNN_COMPUTE_KIND_BWD : LIBXSMM_DNN_COMPUTE_KIND_FWD);
  }
  void deliver() const { reorder(case_, block_, result_.as<float>(), tensors_.result.as<float>(), false); }
  long block() const { return block_; }

 private:
  void execute(libxsmm_dnn_compute_kind kind) { status = Norm::execute(norm_, kind, 0, 0); }

  Buffer memory(long bytes) {
    buffers_.emplace_back(static_cast<std::size_t>(bytes));
    return buffers_.back();
  }

  Buffer from(const Buffer& last) {
    if (block_ == case_.shape[1]) return last;  // the same layout
    const Buffer blocked = memory(case_.bytes());
    reorder(case_, block_, blocked.as<float>(), last.as<float>(), true);
    return blocked;
  }

  void bind(libxsmm_dnn_tensor_type type, const Buffer& buffer) {
    auto* const layout = checked(Norm::layout(norm_, type, &status));
    auto* const tensor = checked(libxsmm_dnn_link_tensor(layout, buffer.data(), &status));
    status = Norm::bind(norm_, tensor, type);
    checked(0);
  }

  Case case_;
  Tensors tensors_;
  std::vector<Buffer> buffers_;
  Buffer result_;
  long block_ = 0;
  decltype(Norm::create(std::declval<typename Norm::Desc>(), nullptr)) norm_;
};

template <class Norm>
Contender contender_with(const Case& c, const Tensors& t) {
  const auto run = std::make_shared<Run<Norm>>(c, t);
  return {.name = {},
          .call = repeated([run] { (*run)(); }),
          .note = "channels in blocks of " + std::to_string(run->block()),
          .deliver = [run] { run->deliver(); }};
}

Contender contender_for(const Case& c, const Tensors& t) {
  if (c.shape.size() != 4 || c.channels == Channels::first) return {};
  if (c.layer == Layer::batch_norm) return contender_with<BatchNorm>(c, t);
  if (c.layer == Layer::group_norm && c.job != Job::eval) return contender_with<GroupNorm>(c, t);
  return {};
}

}  // namespace

Peer libxsmm() {
  libxsmm_init();
  const bool wide = libxsmm_get_target_archid() >= LIBXSMM_X86_AVX512;
  return {"libxsmm", BENCH_LIBXSMM_VERSION, wide ? "AVX-512" : libxsmm_get_target_arch(), contender_for};
}

}  // namespace bench
