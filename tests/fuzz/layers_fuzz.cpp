// SPDX-License-Identifier: MIT
// libFuzzer: bytes become a layer, its options, shapes, data and a sequence of calls, most of them wrong in some way.
//
// A call is refused by std::invalid_argument, std::length_error or std::logic_error, and then nothing has changed; or it gives, of
// numbers of ordinary size, what the reference gives.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <vector>

#include "support/reference.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::Shape;

/// What the fuzzer hands over; zeros when there is no more.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  std::uint8_t byte() { return empty() ? std::uint8_t{0} : data_[at_++]; }
  bool coin() { return byte() % 2 == 1; }
  /// One of [first, last], most often from it.
  Index between(Index first, Index last) { return first + Index(byte()) % (last - first + 1); }
  template <class T>
  T bits() {
    T result;
    std::uint8_t all[sizeof(T)];
    for (std::uint8_t& one : all) one = byte();
    std::memcpy(&result, all, sizeof(T));
    return result;
  }
  double option() {
    switch (byte() % 8) {
      case 0: return 0;
      case 1: return 1;
      case 2: return -1;
      case 3: return bits<double>();
      case 4: return 0.1;
      default: return 1e-5;
    }
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

#define REQUIRE(condition, text)                                                         \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s: expected %s: %s\n", current.c_str(), #condition, text); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
std::string current;  // the layer and the call

template <class T>
std::string bytes_of(const T& tensor) {
  return {reinterpret_cast<const char*>(tensor.data()), static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data())};
}

/// Whether the call was made. A refused one leaves what `state` shows as it was.
template <class State, class F>
bool accepted(const char* call, State state, F f) {
  const std::string layer = current;
  current += call;
  const std::string before = state();
  bool made = false;
  try {
    f();
    made = true;
  } catch (const std::logic_error& error) {  // std::invalid_argument and std::length_error among them
    REQUIRE(std::strstr(error.what(), "::") != nullptr, error.what());
    REQUIRE(state() == before, error.what());
  }
  current = layer;
  return made;
}

template <class S>
std::vector<S> numbers(Bytes& in, Index size, bool& ordinary) {
  const int kind = in.byte() % 4;
  ordinary = kind != 0;
  std::vector<S> result(static_cast<std::size_t>(size));
  for (S& number : result)
    number = kind == 0 ? in.bits<S>() : kind == 1 ? S(in.byte()) : kind == 2 ? S(1000) + S(in.byte()) / S(16) : (S(in.byte()) - S(128)) / S(32);
  return result;
}

/// roles: as reference::roles_of; split: the axis that stands for two of them.
struct Meaning {
  std::string roles;
  reference::Norm norm;
  std::optional<std::size_t> split;
  Index groups = 1;
};

template <class Tensor, class Layer>
void fuzz_calls(Bytes& in, Layer& layer, const Meaning& meaning, const Shape& wanted) {
  using S = typename Tensor::Scalar;
  tn::SavedStats<S> saved;
  auto gradients = layer.zero_gradients();
  bool ordinary_parameters = true;
  const auto set = [&](auto& parameter, Index size) {
    bool ordinary = true;
    const auto values = numbers<S>(in, size, ordinary);
    ordinary_parameters &= ordinary;
    std::copy(values.begin(), values.end(), parameter.data());
  };
  const Index weights = gradients.weight.size(), biases = gradients.bias.size();
  if (weights > 0) set(layer.weight(), weights);
  if (biases > 0) set(layer.bias(), biases);

  Tensor x, y, dy, dx;
  bool ordinary = true;
  const auto resize = [&] {
    Shape shape = wanted;
    if (in.byte() % 4 == 0) shape[static_cast<std::size_t>(in.between(0, Index(shape.size()) - 1))] = in.between(0, 6);
    x = dy = support::sized<Tensor>(shape);
    y = dx = support::sized<Tensor>(in.byte() % 16 == 0 ? wanted : shape);
    y.setConstant(S(-12345));
    dx.setConstant(S(-12345));
    bool ordinary_dy = true;
    const auto values = numbers<S>(in, x.size(), ordinary), slopes = numbers<S>(in, x.size(), ordinary_dy);
    std::copy(values.begin(), values.end(), x.data());
    std::copy(slopes.begin(), slopes.end(), dy.data());
  };
  const auto state = [&] {
    std::string all = bytes_of(y) + bytes_of(dx) + bytes_of(gradients.weight) + bytes_of(gradients.bias) + bytes_of(x);
    if (!saved.empty()) all += bytes_of(saved.mean()) + bytes_of(saved.rstd());
    if constexpr (requires { layer.running_stats(); })
      all += bytes_of(layer.running_mean()) + bytes_of(layer.running_var()) + std::to_string(layer.running_stats().num_batches());
    return all;
  };
  /// y, if it was made of x by x's own statistics, is the reference's.
  const auto judge = [&](bool by_batch) {
    if (!by_batch || !ordinary || !ordinary_parameters || x.size() == 0 || meaning.norm.eps < 1e-9L || meaning.norm.eps > 1e9L) return;
    reference::Norm norm = meaning.norm;
    norm.shape = support::shape_of(x);
    if (meaning.split) {
      norm.shape[*meaning.split] = meaning.groups;
      norm.shape.insert(norm.shape.begin() + std::ptrdiff_t(*meaning.split) + 1, wanted[*meaning.split] / meaning.groups);
    }
    norm.roles = reference::roles_of(meaning.roles);
    const auto real_x = reference::real(support::logical(x));
    const auto flat = [](const auto& tensor) { return reference::Values(tensor.data(), tensor.data() + tensor.size()); };
    const auto statistics = reference::moments(norm, real_x);
    const auto expected = reference::forward(norm, real_x, weights > 0 ? flat(layer.weight()) : reference::Values(),
                                             biases > 0 ? flat(layer.bias()) : reference::Values(), statistics);
    const auto actual = support::logical(y);
    long double largest = 1;
    for (const long double value : expected) largest = std::max(largest, std::abs(value));
    if (weights > 0)
      for (const long double value : flat(layer.weight())) largest = std::max(largest, 100 * std::abs(value));
    for (std::size_t i = 0; i < actual.size(); ++i)
      REQUIRE(std::abs(static_cast<long double>(actual[i]) - expected[i]) <= 64 * largest * std::numeric_limits<S>::epsilon(), "y");
  };
  resize();
  for (int calls = 0; calls < 8 && !in.empty(); ++calls) {
    switch (in.byte() % 8) {
      case 0: resize(); break;
      case 1: in.coin() ? (void)layer.train() : (void)layer.eval(); break;
      case 2:
        if (accepted("::forward", state, [&] { layer.forward(x, y); })) {
          bool tracks = false;
          if constexpr (requires { layer.running_stats(); }) tracks = layer.track_running_stats();
          judge(layer.is_training() || !tracks);
        }
        break;
      case 3: accepted("::forward, saved", state, [&] { layer.forward(x, y, saved); }); break;
      case 4: accepted("::infer", state, [&] { layer.infer(x, y); }); break;
      case 5: accepted("::backward", state, [&] { layer.backward(dy, x, saved, dx, gradients); }); break;
      case 6: accepted("::backward_from_output", state, [&] { layer.backward_from_output(dy, y, saved, dx, gradients); }); break;
      default:
        if constexpr (requires { layer.running_stats(); }) {
          bool any = true;
          const Index size = layer.running_mean().size() + (in.byte() % 8 == 0 ? 1 : 0);
          const auto mean = numbers<S>(in, size, any), variance = numbers<S>(in, size, any);
          const auto count = in.bits<std::int64_t>();
          accepted("::load", state, [&] { layer.running_stats().load(mean, variance, count); });
        }
    }
  }
}

/// make() may refuse what it is given.
template <class Tensor, class Make>
void fuzz_layer(Bytes& in, const char* name, const Meaning& meaning, const Shape& wanted, Make make) {
  current = name;
  using Layer = decltype(make());
  std::optional<Layer> layer;
  accepted("::constructor", [] { return std::string(); }, [&] { layer.emplace(make()); });
  if (layer) fuzz_calls<Tensor>(in, *layer, meaning, wanted);
}

template <class S, int kOrder>
void fuzz(Bytes& in) {
  const auto extent = [&] { return in.byte() % 32 == 0 ? Index(-1) + in.between(0, 1) : in.between(1, 20); };
  const double eps = in.option();
  const bool affine = in.coin(), track = in.coin();
  const std::optional<double> momentum = in.coin() ? std::optional<double>(in.option()) : std::nullopt;
  const Index n = in.between(1, 4), c = extent(), l = in.between(1, 20);
  const Shape safe{n, std::max<Index>(c, 0), l};
  reference::Norm norm;
  norm.eps = eps;
  const auto letters = [&](std::string roles) {
    for (char& role : roles)
      if (!affine) role = role == 'K' ? 'k' : role == 'R' ? 'r' : role;
    return roles;
  };
  using Rank3 = Eigen::Tensor<S, 3, kOrder>;
  switch (in.byte() % 6) {
    case 0:
      return fuzz_layer<Rank3>(in, "BatchNorm1d", {letters("rKr"), norm, {}}, safe, [&] {
        return tn::BatchNorm1d<S>(c, {.eps = eps, .momentum = momentum, .affine = affine, .track_running_stats = track});
      });
    case 1:
      return fuzz_layer<Rank3>(in, "InstanceNorm1d, channels last", {letters("krK"), norm, {}}, {n, l, std::max<Index>(c, 0)}, [&] {
        return tn::InstanceNorm1d<S, tn::InstanceAxes<-1>>(c, {.eps = eps, .momentum = momentum, .affine = affine, .track_running_stats = track});
      });
    case 2: {
      const Index groups = extent();
      return fuzz_layer<Rank3>(in, "GroupNorm", {letters("kKRr"), norm, std::size_t{1}, groups}, safe,
                               [&] { return tn::GroupNorm<S>(groups, c, {.eps = eps, .affine = affine}); });
    }
    case 3: {
      norm.unbiased = in.coin();
      norm.eps_added_to_deviation = in.coin();
      return fuzz_layer<Rank3>(in, "LayerNorm", {letters("kRR"), norm, {}}, safe, [&] {
        return tn::LayerNorm<S, 2>({c, l}, {.eps = eps,
                                            .elementwise_affine = affine,
                                            .variance = norm.unbiased ? tn::VarianceEstimator::unbiased : tn::VarianceEstimator::biased,
                                            .eps_added_to = norm.eps_added_to_deviation ? tn::EpsAddedTo::deviation : tn::EpsAddedTo::variance});
      });
    }
    case 4:
      return fuzz_layer<Rank3>(in, "LayerNorm [L]", {letters("kkR"), norm, {}}, safe,
                               [&] { return tn::LayerNorm<S>(l, {.eps = eps, .elementwise_affine = affine}); });
    default:
      norm.mean_pinned_to_zero = true;
      return fuzz_layer<Rank3>(in, "RMSNorm", {letters("kkR"), norm, {}}, safe,
                               [&] { return tn::RMSNorm<S>(l, {.eps = eps, .elementwise_affine = affine}); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes in(data, size);
  const auto level = static_cast<tn::kernels::Level>(in.between(0, 2));
  tn::kernels::set_level(level);
  in.coin() ? fuzz<float, Eigen::RowMajor>(in) : fuzz<double, Eigen::ColMajor>(in);
  return 0;
}
