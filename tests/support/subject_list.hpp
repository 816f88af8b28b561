// SPDX-License-Identifier: MIT
// What subjects.cpp and subjects_narrow.cpp compile, for all the tests that go through every layer.
#pragma once

#include "subjects.hpp"

namespace support {

template <class Layer, class Tensor, class Parameter>
class SubjectOf : public Subject<typename Tensor::Scalar, Parameter> {
 public:
  using Scalar = typename Tensor::Scalar;
  using Base = Subject<Scalar, Parameter>;
  using Values = typename Base::Values;
  using Parameters = typename Base::Parameters;

  explicit SubjectOf(Layer layer) : layer_(std::move(layer)) {}

  void set_parameters(const Parameters& weight, const Parameters& bias) override {
    support::set_parameters(layer_, weight, bias);
  }
  void train(bool training) override { training ? (void)layer_.train() : (void)layer_.eval(); }
  using Base::forward;
  Values forward(const Values& x, const Shape& of_x) override { return logical(layer_(tensor_of<Tensor>(of_x, x))); }
  Values forward_in_place(const Values& x) override {
    Tensor data = tensor_of<Tensor>(this->shape, x);
    layer_.forward(data, data);
    return logical(data);
  }
  Values infer(const Values& x) const override { return logical(layer_.infer(tensor_of<Tensor>(this->shape, x))); }
  using Base::forward_saved;
  typename Base::Saved forward_saved(const Values& x, const Shape& of_x) override {
    const Tensor input = tensor_of<Tensor>(of_x, x);
    Tensor y = sized<Tensor>(of_x);
    layer_.forward(input, y, saved_);
    if (of_x != this->shape) return {logical(y), {}, {}};
    return {logical(y), row_major(saved_.mean()), row_major(saved_.rstd())};
  }
  using Base::backward;
  typename Base::Gradients backward(const Values& dy_values, const Values& x_or_y, const Shape& of_x,
                                    Ask ask) override {
    Tensor dy = tensor_of<Tensor>(of_x, dy_values);
    Tensor x = tensor_of<Tensor>(of_x, x_or_y);
    const auto flat = [](const auto& tensor) { return Parameters(tensor.data(), tensor.data() + tensor.size()); };
    if (ask == Ask::allocating) {
      const auto [dx, dweight, dbias] = layer_.backward(dy, x, saved_);
      return {logical(dx), flat(dweight), flat(dbias)};
    }
    Tensor dx = sized<Tensor>(of_x);
    dx.setConstant(Scalar(42));
    auto gradients = layer_.zero_gradients();
    switch (ask) {
      case Ask::dx_only:
        layer_.backward(dy, x, saved_, dx, tn::none);
        break;
      case Ask::parameters_only:
        layer_.backward(dy, x, saved_, tn::none, gradients);
        break;
      case Ask::dx_in_place_of_dy:
        layer_.backward(dy, x, saved_, dy, gradients);
        dx = dy;
        break;
      case Ask::dx_in_place_of_x:
        layer_.backward(dy, x, saved_, x, gradients);
        dx = x;
        break;
      case Ask::twice_into_the_same_gradients:
        layer_.backward(dy, x, saved_, dx, gradients);
        layer_.backward(dy, x, saved_, dx, gradients);
        break;
      case Ask::from_output:
        layer_.backward_from_output(dy, x, saved_, dx, gradients);
        break;
      default:
        layer_.backward(dy, x, saved_, dx, gradients);
    }
    return {logical(dx), flat(gradients.weight), flat(gradients.bias)};
  }
  std::pair<std::vector<double>, std::vector<double>> running() const override {
    if constexpr (requires { layer_.running_mean(); }) {
      const auto doubles = [](const auto& tensor) {
        return std::vector<double>(tensor.data(), tensor.data() + tensor.size());
      };
      return {doubles(layer_.running_mean()), doubles(layer_.running_var())};
    } else {
      return {};
    }
  }

 protected:
  /// Flat statistics lie in x's storage order: one per kept index, or where running ones were used one per channel.
  template <class Flat>
  std::vector<double> row_major(const Flat& flat) const {
    const Shape kept = saved_.constant() ? Shape{flat.size()} : this->norm.statistic_shape();
    EXPECT_EQ(flat.size(), size_of(kept));
    std::vector<double> result;
    for (Index s = 0; s < flat.size(); ++s) {
      const Index position = storage_index<int{Tensor::Layout}>(coordinates(s, kept), kept);
      result.push_back(static_cast<double>(flat(position)));
    }
    return result;
  }

  Layer layer_;
  tn::SavedStats<Parameter> saved_;
};

template <class Kind>
class Subjects {
 public:
  using Scalar = typename Kind::Scalar;
  using Parameter = typename Kind::Parameter;

  /// roles: as reference::roles_of. A GroupNorm's channel axis has two letters, and split gives the shape with the two.
  template <int Rank, class Layer>
  Subject<Scalar, Parameter>& add(std::string name, Layer layer, Shape shape, const std::string& roles, Shape split = {}) {
    auto subject = std::make_unique<SubjectOf<Layer, typename Kind::template Tensor<Rank>, Parameter>>(std::move(layer));
    subject->name = std::move(name);
    subject->norm.shape = split.empty() ? shape : std::move(split);
    subject->shape = std::move(shape);
    subject->norm.roles = reference::roles_of(roles);
    subject->has_weight = subject->has_bias = roles.find_first_of("KR") != std::string::npos;
    list.push_back(std::move(subject));
    return *list.back();
  }
  SubjectList<Kind> list;
};

template <class Kind>
SubjectList<Kind> all_subjects(Index c, Index l) {
  using S = typename Kind::Parameter;
  Subjects<Kind> all;
  const auto batch = [&]<int Rank>(auto layer, const char* name, Shape shape, const char* roles) {
    all.template add<Rank>(name, std::move(layer), std::move(shape), roles).tracks = true;
  };
  batch.template operator()<2>(tn::BatchNorm1d<S>(c), "BatchNorm1d (N,C)", {l, c}, "rK");
  batch.template operator()<3>(tn::BatchNorm1d<S>(c), "BatchNorm1d (N,C,L)", {3, c, l}, "rKr");
  batch.template operator()<4>(tn::BatchNorm2d<S>(c), "BatchNorm2d", {2, c, 3, l}, "rKrr");
  batch.template operator()<5>(tn::BatchNorm3d<S>(c), "BatchNorm3d", {2, c, 2, 2, l}, "rKrrr");
  batch.template operator()<4>(tn::BatchNorm2d<S, tn::BatchAxes<-1>>(c), "BatchNorm2d channels last", {2, 3, l, c},
                               "rrrK");
  batch.template operator()<4>(tn::BatchNorm2d<S>(c, {.affine = false}), "BatchNorm2d not affine", {2, c, 3, l},
                               "rkrr");
  batch.template operator()<4>(tn::BatchNorm2d<S>(c, {.momentum = std::nullopt}), "BatchNorm2d cumulative",
                               {2, c, 3, l}, "rKrr");
  batch.template operator()<4>(tn::BatchNorm2d<S>(c, {.bias = false}), "BatchNorm2d no bias", {2, c, 3, l}, "rKrr");
  all.list.back()->has_bias = false;
  all.template add<4>("BatchNorm2d not tracking", tn::BatchNorm2d<S>(c, {.track_running_stats = false}), {2, c, 3, l},
                      "rKrr");

  batch.template operator()<3>(tn::InstanceNorm1d<S>(c, {.affine = true, .track_running_stats = true}),
                               "InstanceNorm1d tracking", {2, c, l}, "kKr");
  batch.template operator()<4>(
      tn::InstanceNorm2d<S, tn::InstanceAxes<-1>>(c, {.momentum = std::nullopt, .track_running_stats = true}),
      "InstanceNorm2d channels last tracking not affine", {2, 3, l, c}, "krrk");
  all.template add<4>("InstanceNorm2d", tn::InstanceNorm2d<S>(c), {2, c, 3, l}, "kkrr");
  all.template add<4>("InstanceNorm2d affine", tn::InstanceNorm2d<S>(c, {.affine = true}), {2, c, 3, l}, "kKrr");
  all.template add<4>("InstanceNorm2d no bias", tn::InstanceNorm2d<S>(c, {.affine = true, .bias = false}), {2, c, 3, l}, "kKrr").has_bias = false;
  all.template add<3>("InstanceNorm2d unbatched", tn::InstanceNorm2d<S>(c, {.affine = true}), {c, 3, l}, "Krr");
  all.template add<5>("InstanceNorm3d", tn::InstanceNorm3d<S>(c, {.affine = true}), {2, c, 2, 2, l}, "kKrrr");
  all.template add<4>("InstanceNorm2d channels last", tn::InstanceNorm2d<S, tn::InstanceAxes<-1>>(c, {.affine = true}),
                      {2, 3, l, c}, "krrK");

  all.template add<2>("GroupNorm (N,C)", tn::GroupNorm<S>(2, 2 * c), {3, 2 * c}, "kKR", {3, 2, c});
  all.template add<3>("GroupNorm (N,C,L)", tn::GroupNorm<S>(c, 2 * c), {3, 2 * c, l}, "kKRr", {3, c, 2, l});
  all.template add<4>("GroupNorm (N,C,H,W)", tn::GroupNorm<S>(2, 2 * c), {2, 2 * c, 3, l}, "kKRrr", {2, 2, c, 3, l});
  all.template add<4>("GroupNorm not affine", tn::GroupNorm<S>(2, 2 * c, {.affine = false}), {2, 2 * c, 3, l}, "kkrrr",
                      {2, 2, c, 3, l});
  all.template add<4>("GroupNorm no bias", tn::GroupNorm<S>(2, 2 * c, {.bias = false}), {2, 2 * c, 3, l}, "kKRrr", {2, 2, c, 3, l}).has_bias = false;
  all.template add<5>("GroupNorm (N,C,D,H,W)", tn::GroupNorm<S>(1, 2 * c), {2, 2 * c, 2, 2, l}, "kKRrrr",
                      {2, 1, 2 * c, 2, 2, l});
  all.template add<4>("GroupNorm channels last", tn::GroupNorm<S, tn::GroupAxes<-1>>(2, 2 * c), {2, 3, l, 2 * c},
                      "krrKR", {2, 3, l, 2, c});

  all.template add<3>("LayerNorm [L]", tn::LayerNorm<S>(l), {3, c, l}, "kkR");
  all.template add<3>("LayerNorm [C,L]", tn::LayerNorm<S, 2>({c, l}), {3, c, l}, "kRR");
  all.template add<4>("LayerNorm [C,H,W]", tn::LayerNorm<S, 3>({c, 3, l}), {2, c, 3, l}, "kRRR");
  all.template add<2>("LayerNorm [L] whole", tn::LayerNorm<S, 2>({c, l}), {c, l}, "RR");
  all.template add<3>("LayerNorm not affine", tn::LayerNorm<S>(l, {.elementwise_affine = false}), {3, c, l}, "kkr");
  all.template add<3>("LayerNorm no bias", tn::LayerNorm<S>(l, {.bias = false}), {3, c, l}, "kkR").has_bias = false;
  for (const bool deviation : {false, true}) {
    for (const bool unbiased : {false, true}) {
      if (!deviation && !unbiased) continue;
      const auto estimator = unbiased ? tn::VarianceEstimator::unbiased : tn::VarianceEstimator::biased;
      const auto added_to = deviation ? tn::EpsAddedTo::deviation : tn::EpsAddedTo::variance;
      auto& subject = all.template add<3>(
          std::string("LayerNorm textbook") + (deviation ? " deviation" : "") + (unbiased ? " unbiased" : ""),
          tn::LayerNorm<S>(l, {.eps = 1e-6, .variance = estimator, .eps_added_to = added_to}), {3, c, l}, "kkR");
      subject.norm.eps = 1e-6;
      subject.norm.unbiased = unbiased;
      subject.norm.eps_added_to_deviation = deviation;
    }
  }

  const auto rms = [&]<int Rank>(auto layer, const char* name, Shape shape, const char* roles) {
    auto& subject = all.template add<Rank>(name, std::move(layer), std::move(shape), roles);
    subject.norm.mean_pinned_to_zero = true;
    constexpr bool sums_in_float = sizeof(S) <= sizeof(float);
    subject.norm.eps = std::numeric_limits<std::conditional_t<sums_in_float, float, S>>::epsilon();
    subject.has_bias = false;
  };
  rms.template operator()<3>(tn::RMSNorm<S>(l), "RMSNorm [L]", {3, c, l}, "kkR");
  rms.template operator()<4>(tn::RMSNorm<S, 2>({3, l}), "RMSNorm [H,W]", {2, c, 3, l}, "kkRR");
  rms.template operator()<3>(tn::RMSNorm<S>(l, {.elementwise_affine = false}), "RMSNorm not affine", {3, c, l}, "kkr");

  all.template add<4>("PositionAxes", tn::Normalization<S, PositionAxes>({c}), {2, c, 3, l}, "kRkk");
  all.template add<4>("EveryRoleAxes", tn::Normalization<S, EveryRoleAxes>({2, c}), {2, 3, l, c}, "KrkR");
  return std::move(all.list);
}

}  // namespace support
