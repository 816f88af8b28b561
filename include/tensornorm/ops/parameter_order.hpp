// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/kernels/beside.hpp>
#include <tensornorm/kernels/fold.hpp>

namespace tensornorm {

/// Weight and bias of a caller, dense RowMajor over the affine axes; null where there is none.
template <class Scalar, class Pointer = const Scalar*>
struct Parameters {
  Pointer weight = nullptr;
  Pointer bias = nullptr;
};

/// Beside few rows, parameters of x's own 16 bits are taken as they are given.
template <class T, class Scalar>
inline constexpr bool takes_narrow = kernels::Narrow<T> && std::is_same_v<T, Scalar>;

inline namespace TENSORNORM_ABI {

/// Parameters as kernels take them: of the accumulator's type, in the order of x's memory, both or none where they change within a
/// statistic (but see leave_bias_out()). They are copied only where they are not so already (but see keep_in_step()).
template <class A, class Scalar>
class ParameterOrder {
 public:
  /// weight, bias: which of them there are.
  ParameterOrder(const LoopNest& nest, bool weight, bool bias) : ParameterOrder(nest, weight, bias, false, true) {}
  /// For a backward call, which has no use for a bias. gradients: parameters count although none is given.
  static ParameterOrder of_gradients(const LoopNest& nest, bool weight, bool gradients) { return {nest, weight, false, gradients, false}; }
  /// The nest whose parameter strides are those of what bind() returns.
  const LoopNest& nest() const { return nest_; }
  /// Elements that bind() may need, 0 where nothing is copied.
  Index copied() const { return (may_copy_weight() ? room() : 0) + (may_copy_bias() ? room() : 0); }
  /// A parameter changes within a statistic.
  bool within() const { return within_; }
  /// The parameters given are one after the other, beside a single loop.
  bool in_one_run() const { return in_order_ && affine_.depth == 1 && affine_.loops[0].param == 1; }
  /// Kernels take them as they are given, and bind() leaves them null.
  void leave_as_given() { copies_weight_ = copies_bias_ = false; }
  /// A bias that is not there stays null, beside a weight that changes within a statistic.
  void leave_bias_out() { copies_bias_ &= bias_; }
  /// They are copied, too, where they do not begin as many elements past a line as what is written beside them.
  void keep_in_step() { in_step_ = weight_ || bias_ || copied() > 0; }
  /// The affine loops, in the order of memory, with the strides of the parameters given.
  const LoopList& affine() const { return affine_; }
  /// Binds the parameters of a call; `memory` has copied() elements. `written`: what is written beside them.
  template <class T>
  Parameters<A> bind(const Parameters<Scalar>& given, A* memory, const T* written) const {
    A *weight = memory, *bias = memory + (may_copy_weight() && may_copy_bias() ? room() : 0);
    if (in_step_) kernels::place_beside(written, {&weight, &bias});
    const auto bound = [&](const Scalar* values, bool copies, A* to, A missing) {
      const bool stays = !in_step_ || values == nullptr || kernels::elements_past_line(values) == kernels::elements_past_line(to);
      return copies || !stays ? gather(values, to, missing) : as_it_is(values);
    };
    return {bound(given.weight, copies_weight_, weight, A(1)), bound(given.bias, copies_bias_, bias, A(-0.0))};
  }

 private:
  bool may_copy_weight() const { return copies_weight_ || (in_step_ && weight_); }
  bool may_copy_bias() const { return copies_bias_ || (in_step_ && bias_); }
  /// Elements of an array, with the line of zeros that expand() ends with, and what place_beside() needs of one that begins anywhere.
  Index room() const {
    constexpr Index line = kernels::kLine<A>;
    return affine_.size() + line + (in_step_ ? kernels::kPageElements<A> + line : 0);
  }
  ParameterOrder(const LoopNest& nest, bool weight, bool bias, bool keep, bool biased) : nest_(nest), weight_(weight), bias_(bias) {
    if (!weight && !bias && !keep) {
      nest_ = without_params(nest);
      return;
    }
    Index dense = 1;
    bool within = false;
    for (int i = nest.depth - 1; i >= 0; --i) {
      if (nest.loops[i].param == 0) continue;
      in_order_ &= nest.loops[i].param == dense;
      nest_.loops[i].param = dense;
      dense *= nest.loops[i].extent;
      within |= reduces(nest.loops[i]);
    }
    for (int i = 0; i < nest.depth; ++i)
      if (nest.loops[i].param != 0) affine_.push(nest.loops[i]);
    if (affine_.depth == 0) affine_.push({1, {1, 1, 1}, 0, 1});  // a single parameter: nests have no loop of one step
    const auto copies = [&](bool given) { return given ? !std::is_same_v<A, Scalar> || !in_order_ : within; };
    copies_weight_ = copies(weight);
    copies_bias_ = biased && copies(bias);
    within_ = within;
    if (!in_order_) nest_ = merged(nest_);
  }
  static LoopNest merged(const LoopNest& nest) {
    LoopNest result = nest;
    result.depth = 0;
    for (int i = 0; i < nest.depth; ++i) result.append(nest.loops[i]);
    result.close();
    return result;
  }
  static const A* as_it_is(const Scalar* values) {
    if constexpr (std::is_same_v<A, Scalar>) return values;
    else return nullptr;
  }
  const A* gather(const Scalar* from, A* to, A missing) const {
    if (from != nullptr) kernels::expand<&Loop::param>(affine_, from, to);
    else kernels::fill(to, affine_.size(), missing);
    return to;
  }

  LoopNest nest_;
  LoopList affine_;
  bool weight_, bias_, in_order_ = true, copies_weight_ = false, copies_bias_ = false, within_ = false, in_step_ = false;
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
