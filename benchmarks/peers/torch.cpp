// SPDX-License-Identifier: MIT
// ATen's own operators, without autograd's graph where there is a backward operator. They allocate their result inside
// the call: malloc is told to keep its pages, or torch would fault in every page of every result (up to twice the
// time).
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <malloc.h>
#include <torch/version.h>

#include "peers.hpp"

#define BENCH_TORCH_VERSION (100 * TORCH_VERSION_MAJOR + TORCH_VERSION_MINOR)

namespace bench {
namespace {

using at::Tensor;

void keep_pages() {
  static const bool done = [] {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, 0x7fffffff);
    return mallopt(M_TOP_PAD, 512 << 20) == 1;
  }();
  (void)done;
}

/// A view of the buffer with the axes (N, C, spatial...), wherever the channels stand in memory.
Tensor view(const Buffer& buffer, const Case& c) {
  const std::vector<long> stored = c.tensor_shape();
  const Tensor memory = at::from_blob(buffer.data(), std::vector<int64_t>(stored.begin(), stored.end()), at::kFloat);
  return c.channels == Channels::last ? memory.movedim(-1, 1) : memory;
}

struct Operands {
  Tensor x, dy, weight, bias, running_mean, running_variance;
  int64_t images, channels, spatial, groups;

  Operands(const Case& c, const Tensors& t)
      : x(view(t.x, c)),
        dy(view(t.dy, c)),
        weight(vector(t.weight, c)),
        bias(vector(t.bias, c)),
        running_mean(vector(t.running_mean, c)),
        running_variance(vector(t.running_variance, c)),
        images(c.shape[0]),
        channels(c.shape[1]),
        spatial(c.spatial()),
        groups(c.groups) {}

 private:
  static Tensor vector(const Buffer& buffer, const Case& c) {
    return at::from_blob(buffer.data(), {parameters_of(c)}, at::kFloat);
  }
};

using Result = std::function<Tensor()>;

Result batch_norm(const Operands& o, Job job) {
  constexpr double kMomentum = 0.1;
  if (job == Job::eval) {
    return [=] {
      return std::get<0>(
          at::native_batch_norm(o.x, o.weight, o.bias, o.running_mean, o.running_variance, false, kMomentum, kEps));
    };
  }
  // Training moves the running statistics, which the other contenders' eval reads.
  const Tensor mean = o.running_mean.clone(), variance = o.running_variance.clone();
  const auto forward = [=] {
    return at::native_batch_norm(o.x, o.weight, o.bias, mean, variance, true, kMomentum, kEps);
  };
  if (job == Job::forward) return [=] { return std::get<0>(forward()); };
  const auto saved = forward();
  return [=] {
    return std::get<0>(at::native_batch_norm_backward(o.dy, o.x, o.weight, mean, variance, std::get<1>(saved),
                                                      std::get<2>(saved), true, kEps, {true, true, true}));
  };
}

Result layer_norm(const Operands& o, Job job) {
  const auto forward = [=] { return at::native_layer_norm(o.x, {o.channels}, o.weight, o.bias, kEps); };
  if (job != Job::backward) return [=] { return std::get<0>(forward()); };
  const auto saved = forward();
  return [=] {
    return std::get<0>(at::native_layer_norm_backward(o.dy, o.x, {o.channels}, std::get<1>(saved), std::get<2>(saved),
                                                      o.weight, o.bias, {true, true, true}));
  };
}

Result group_norm(const Operands& o, Job job) {
  const auto forward = [=] {
    return at::native_group_norm(o.x, o.weight, o.bias, o.images, o.channels, o.spatial, o.groups, kEps);
  };
  if (job != Job::backward) return [=] { return std::get<0>(forward()); };
  const auto saved = forward();
  return [=] {
#if BENCH_TORCH_VERSION < 201
    const Tensor x = o.x.contiguous(),
                 dy = o.dy.contiguous();  // as its autograd did, before the operator knew channels last
#else
    const Tensor &x = o.x, &dy = o.dy;
#endif
    return std::get<0>(at::native_group_norm_backward(dy, x, std::get<1>(saved), std::get<2>(saved), o.weight, o.images,
                                                      o.channels, o.spatial, o.groups, {true, true, true}));
  };
}

/// torch has no operator of its own: its instance norm is the batch norm of one image of N * C channels.
Result instance_norm(const Operands& o, Job job, Channels channels) {
  if (channels == Channels::last) {
    if (job == Job::backward) return {};
    return [=] { return at::instance_norm(o.x, o.weight, o.bias, {}, {}, true, 0, kEps, false); };
  }
  Operands one = o;
  for (Tensor* tensor : {&one.x, &one.dy})
    *tensor = tensor->reshape({1, o.images * o.channels, o.x.size(2), o.x.size(3)});
  for (Tensor* tensor : {&one.weight, &one.bias, &one.running_mean, &one.running_variance})
    *tensor = tensor->repeat({o.images});
  return batch_norm(one, job);
}

Result rms_norm([[maybe_unused]] const Operands& o, [[maybe_unused]] Job job) {
#if BENCH_TORCH_VERSION >= 204
  if (job != Job::backward) return [=] { return at::rms_norm(o.x, {o.channels}, o.weight, kEps); };
  // No backward operator for processors: autograd, whose graph is built once.
  const c10::InferenceMode off(false);
  const c10::AutoGradMode on(true);
  const Tensor x = at::from_blob(o.x.data_ptr(), o.x.sizes(), at::kFloat).requires_grad_(true);
  const Tensor weight = at::from_blob(o.weight.data_ptr(), o.weight.sizes(), at::kFloat).requires_grad_(true);
  const Tensor dy = at::from_blob(o.dy.data_ptr(), o.dy.sizes(), at::kFloat);
  const Tensor y = at::rms_norm(x, {o.channels}, weight, kEps);
  return [=] {
    const c10::InferenceMode still_off(false);
    x.mutable_grad() = Tensor();
    weight.mutable_grad() = Tensor();
    y.backward(dy, true);
    return x.grad();
  };
#else
  return {};
#endif
}

Result result_of(const Case& c, const Operands& o) {
  switch (c.layer) {
    case Layer::batch_norm:
      return batch_norm(o, c.job);
    case Layer::layer_norm:
      return layer_norm(o, c.job);
    case Layer::rms_norm:
      return rms_norm(o, c.job);
    case Layer::instance_norm:
      return instance_norm(o, c.job, c.channels);
    case Layer::group_norm:
      return group_norm(o, c.job);
  }
  return {};
}

Contender contender_for(const Case& c, const Tensors& t) {
  keep_pages();
  at::set_num_threads(1);
  const c10::InferenceMode inference;
  Result compute = result_of(c, Operands(c, t));
  if (!compute) return {};
  const auto kept = std::make_shared<Tensor>();
  return {.name = {},
          .call =
              [compute, kept](long times) {
                const c10::InferenceMode within;
                for (; times > 0; --times) {
                  *kept = Tensor();  // its memory is what the next one gets
                  *kept = compute();
                }
              },
          .deliver =
              [kept, c, t] {
                const c10::InferenceMode within;
                view(t.result, c).copy_(kept->reshape(view(t.result, c).sizes()));
              }};
}

std::string instruction_set() {
  const std::string config = at::show_config(), key = "CPU capability usage: ";
  const std::size_t found = config.find(key);
  if (found == std::string::npos) return "not told";
  const std::size_t first = found + key.size();
  return config.substr(first, config.find_first_of(" \n", first) - first);
}

}  // namespace

Peer torch() { return {"torch", TORCH_VERSION, instruction_set(), contender_for}; }

}  // namespace bench
