// SPDX-License-Identifier: MIT
// What tests of faults share: an error and its text, the bytes of everything a refused call must leave alone, and
// layers of every kind with an x they take.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "logical.hpp"
#include "policies.hpp"
#include "reference.hpp"

namespace faults {

namespace tn = tensornorm;
using support::Index;
using support::PositionAxes;

using Parts = std::vector<std::string>;
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInf = std::numeric_limits<double>::infinity();

/// Both element types and both storage orders, once: a fault is not found by their product, which costs compile time.
using FaultKinds = testing::Types<support::Kind<float, Eigen::RowMajor>, support::Kind<double, Eigen::ColMajor>>;

/// A function of no arguments, for as long as it lives: what takes one is compiled once, not once for each lambda.
template <class Result>
class FunctionRef {
 public:
  template <class F>
  FunctionRef(const F& f) : f_(&f), call_(&call<F>) {}
  Result operator()() const { return call_(f_); }

 private:
  template <class F>
  static Result call(const void* f) {
    return (*static_cast<const F*>(f))();
  }

  const void* f_;
  Result (*call_)(const void*);
};
using Attempt = FunctionRef<void>;

inline std::string text_of_shape(const support::Shape& shape) {
  std::ostringstream out;
  out << tn::ShapeText{shape.data(), static_cast<int>(shape.size())};
  return out.str();
}

/// It throws exactly an Error whose text has all the parts.
template <class Error = std::invalid_argument>
void expect_error(const Attempt& attempt, const Parts& parts) {
  try {
    attempt();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const std::exception& error) {
    EXPECT_EQ(typeid(error), typeid(Error)) << error.what();
    for (const std::string& part : parts) EXPECT_PRED_FORMAT2(testing::IsSubstring, part, error.what());
  }
}

/// A call that is made if it is `asked` for.
struct AskedCall {
  bool asked;
  const char* function;
  Attempt call;
};

/// Calls of the layer of this name are refused with an Error whose text names the function and has all the parts; what `everything` returns,
/// the bytes of all operands, is what it was before.
template <class Error>
void expect_calls_refused(const std::string& name, const FunctionRef<std::string>& everything, const Parts& parts,
                          std::initializer_list<AskedCall> calls) {
  const std::string before = everything();
  for (const AskedCall& one : calls) {
    if (!one.asked) continue;
    SCOPED_TRACE(one.function);
    Parts all = parts;
    all.push_back(name + "::" + one.function + ": ");
    expect_error<Error>(one.call, all);
    EXPECT_TRUE(everything() == before) << "it wrote";
  }
}

template <class Layer>
std::string text_of(const Layer& layer) {
  std::ostringstream text;
  text << layer;
  return text.str();
}
template <class Layer>
std::string name_of(const Layer& layer) {
  const std::string text = text_of(layer);
  return text.substr(0, text.find('('));
}

/// The roles of the axes of an x of this rank, as reference::roles_of. A GroupNorm's channel axis counts as two.
template <class Layer>
std::string letters_of(const Layer& layer, std::size_t rank) {
  const std::string name = name_of(layer);
  const auto is = [&](const char* kind) { return name.rfind(kind, 0) == 0; };
  if (is("BatchNorm")) return "rK" + std::string(rank - 2, 'r');
  if (is("InstanceNorm")) {
    const auto spatial = static_cast<std::size_t>(name[12] - '0');
    return (rank == spatial + 1 ? "K" : "kK") + std::string(spatial, 'r');
  }
  if (is("GroupNorm")) return "kKR" + std::string(rank - 3, 'r');
  if (is("Normalization")) return "kR" + std::string(rank - 2, 'k');
  const std::size_t normalized = support::shape_of(layer.weight()).size();
  return std::string(rank - normalized, 'k') + std::string(normalized, 'R');
}

/// What the reference has to know of a layer for an x of this shape; `letters` where the layer's policy is not the usual one.
template <class Layer>
reference::Norm norm_of(const Layer& layer, support::Shape shape, const std::string& letters = "") {
  if constexpr (requires { layer.num_groups(); }) {
    shape.insert(shape.begin() + 1, layer.num_groups());
    shape[2] /= layer.num_groups();
  }
  const auto roles = reference::roles_of(letters.empty() ? letters_of(layer, shape.size()) : letters);
  return {shape, roles, static_cast<reference::Real>(layer.eps()), name_of(layer) == "RMSNorm"};
}

template <class T>
std::string bytes_of(const T* data, Index size) {
  return {reinterpret_cast<const char*>(data), static_cast<std::size_t>(size) * sizeof(T)};
}
template <class T>
std::string bytes_of(const T& tensor) requires requires {
  tensor.data(), tensor.size();
}
{ return bytes_of(tensor.data(), Index(tensor.size())); }
template <class Layer>
std::string state_of(const Layer& layer) {
  std::string state = text_of(layer) + (layer.is_training() ? " train " : " eval ");
  if constexpr (requires { layer.affine().has_bias(); }) {
    if (layer.affine().has_weight()) state += bytes_of(layer.weight());
    if (layer.affine().has_bias()) state += bytes_of(layer.bias());
  } else {
    if (layer.affine()) state += bytes_of(layer.weight());
    if (layer.has_bias()) state += bytes_of(layer.bias());
    state += bytes_of(layer.running_mean()) + bytes_of(layer.running_var());
    state += std::to_string(layer.running_stats().num_batches());
  }
  return state;
}
template <class Saved>
std::string saved_state(const Saved& saved) {
  std::string state = saved.empty() ? "empty" : bytes_of(saved.mean()) + bytes_of(saved.mean_lo()) + bytes_of(saved.rstd());
  state += ' ' + std::to_string(saved.kind()) + ' ' + std::to_string(saved.samples());
  state += std::string(saved.constant() ? " constant" : "") + (saved.row_major() ? " RowMajor" : " ColMajor");
  for (const Index extent : saved.shape()) state += ' ' + std::to_string(extent);
  return state;
}

/// Saved statistics that a call before has left, of so many rows.
template <class Scalar>
tn::SavedStats<Scalar> saved_before(Index rows = 7) {
  tn::SavedStats<Scalar> saved;
  Eigen::Tensor<Scalar, 2> x(rows, 3), y(rows, 3);
  x.setRandom();
  tn::LayerNorm<Scalar>(3).forward(x, y, saved);
  return saved;
}

template <class Tensor>
Tensor random_tensor(const support::Shape& shape, unsigned seed = 1) {
  return support::tensor_of<Tensor>(shape,
                                    support::random_values<typename Tensor::Scalar>(support::size_of(shape), seed));
}

/// f(layer, x) for every layer with three channels (the last axis is 5) and an x it takes; of ColMajor doubles for one layer of each family, and
/// those whose axes are unusual.
template <class Kind, class F>
void for_each_layer(F f) {
  using S = typename Kind::Scalar;
  const auto with = [&]<int kRank>(auto layer, const support::Shape& shape) {
    const auto x = random_tensor<typename Kind::template Tensor<kRank>>(shape);
    SCOPED_TRACE(text_of(layer));
    f(layer, x);
  };
  const tn::InstanceNormOptions tracking{.affine = true, .track_running_stats = true};
  with.template operator()<4>(tn::BatchNorm2d<S>(3), {2, 3, 4, 5});
  with.template operator()<3>(tn::InstanceNorm1d<S>(3, tracking), {2, 3, 5});
  with.template operator()<4>(tn::InstanceNorm3d<S>(3, tracking), {3, 2, 4, 5});
  with.template operator()<4>(tn::GroupNorm<S>(3, 3), {2, 3, 4, 5});
  with.template operator()<4>(tn::LayerNorm<S, 3>(tn::Extents<3>{{3, 4, 5}}), {2, 3, 4, 5});
  with.template operator()<2>(tn::RMSNorm<S>(5), {3, 5});
  with.template operator()<4>(tn::Normalization<S, PositionAxes>({3}), {2, 3, 4, 5});
  if constexpr (std::is_same_v<S, float>) {  // a fault is not found by all layers times all types, which costs compile time
    with.template operator()<2>(tn::BatchNorm1d<S>(3), {5, 3});
    with.template operator()<3>(tn::BatchNorm1d<S>(3), {2, 3, 5});
    with.template operator()<5>(tn::BatchNorm3d<S>(3), {2, 3, 2, 4, 5});
    with.template operator()<4>(tn::InstanceNorm2d<S>(3, {.affine = true}), {2, 3, 4, 5});
    with.template operator()<4>(tn::GroupNorm<S>(1, 3), {2, 3, 4, 5});
    with.template operator()<3>(tn::LayerNorm<S>(5), {2, 3, 5});
  }
}

template <class X>
Index extent(const X& x, int axis) {
  return support::shape_of(x)[static_cast<std::size_t>(axis)];
}

/// A tensor of x's type whose shape has `more` added to the extent of one axis, filled with a canary.
template <class X>
X like(const X& x, int axis = 0, Index more = 0) {
  support::Shape shape = support::shape_of(x);
  shape[static_cast<std::size_t>(axis)] += more;
  X result = support::sized<X>(shape);
  result.setConstant(typename X::Scalar(-12345));
  return result;
}

/// of_y: those that are given y, whose fault it is.
enum class Calls { all, forward_only, of_y };

/// Every way to call the layer with x and y is refused, and has changed nothing.
template <class Error = std::invalid_argument, class Layer, class X, class Y>
void expect_refused(Layer& layer, const X& x, Y&& y, const Parts& parts, Calls calls = Calls::all) {
  using Scalar = std::remove_cvref_t<decltype(layer.weight().data()[0])>;
  SCOPED_TRACE(text_of(layer));
  auto saved = saved_before<Scalar>();
  const bool returns_y = calls != Calls::of_y, infers = calls != Calls::forward_only;
  expect_calls_refused<Error>(
      name_of(layer), [&] { return state_of(layer) + saved_state(saved) + bytes_of(x) + bytes_of(y); }, parts,
      {{true, "forward", [&] { layer.forward(x, y); }},
       {true, "forward", [&] { layer.forward(x, y, saved); }},
       {returns_y, "forward", [&] { static_cast<void>(layer(x)); }},
       {infers, "infer", [&] { std::as_const(layer).infer(x, y); }},
       {returns_y && infers, "infer", [&] { static_cast<void>(std::as_const(layer).infer(x)); }}});
}

}  // namespace faults
