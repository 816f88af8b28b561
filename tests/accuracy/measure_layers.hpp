// SPDX-License-Identifier: MIT
// measure(), for the sources that define it for their types.
#pragma once

#include "data_sets.hpp"
#include "measure.hpp"
#include "run_layer.hpp"

namespace accuracy {

template <class T, class P>
class Measurement {
 public:
  Measurement(Report& report, const DataSet& set) : report_(report), set_(set) {
    const bool of_one_type = std::is_same_v<T, P>;
    using Statistic = tn::accumulator_t<T>;
    types_ = {format_of<T>().name + (of_one_type ? "" : ", float parameters"), format_of<T>(), format_of<P>(),
              format_of<Statistic>(), format_of<tn::accumulator_t<P>>()};
  }

  void run() {
    const auto& samples = stored(0);
    if (!std::all_of(samples.begin(), samples.end(), [](double value) { return std::isfinite(value); })) return;
    n_ = static_cast<Index>(samples.size());
    for (const Index factor : {7, 5, 3, 2})
      if (n_ % factor == 0) part_ = factor;
    if (set_.examples > 0) part_ = static_cast<Index>(set_.examples);
    batch_norms(set_.huge ? 2 : 3, "");
    instance_norms();
    group_norms();
    last_axis(set_.huge ? 2 : 3, "");
    if (!set_.many_statistics) return;
    for (const Index count : {67, 600}) {
      const std::string of = " of " + std::to_string(count);
      batch_norms(count, of);
      last_axis(count, of);
    }
  }

 private:
  /// Without weight and bias the running statistics become the batch's: beside the 1 from which they start, a small
  /// variance would not be seen.
  static double momentum(bool affine) { return affine ? 0.1 : 1; }

  /// `of`: after the layer's name.
  void batch_norms(Index c, const std::string& of) {
    const Index part = part_, rest = n_ / part_;
    const auto options = [&](bool affine) {
      return tn::BatchNormOptions{.eps = set_.eps, .momentum = momentum(affine), .affine = affine};
    };
    const auto make = [&](bool affine) { return tn::BatchNorm1d<P>(c, options(affine)); };
    const auto make_last = [&](bool affine) { return tn::BatchNorm1d<P, tn::BatchAxes<-1>>(c, options(affine)); };
    add<2>("BatchNorm (N, C)" + of, {n_, c}, {}, "rK", make, over<0>());
    add<3>("BatchNorm (N, C, L)" + of, {part, c, rest}, {}, "rKr", make, over<0, 2>());
    add<3>("BatchNorm channels last" + of, {part, rest, c}, {}, "rrK", make_last, over<0, 1>());
  }

  void instance_norms() {
    constexpr Index c = 2;
    const Index examples = set_.huge ? 1 : 2;
    const auto options = [&](bool affine) {
      return tn::InstanceNormOptions{
          .eps = set_.eps, .momentum = momentum(affine), .affine = affine, .track_running_stats = true};
    };
    const auto make = [&](bool affine) { return tn::InstanceNorm1d<P>(c, options(affine)); };
    const auto make_last = [&](bool affine) { return tn::InstanceNorm1d<P, tn::InstanceAxes<-1>>(c, options(affine)); };
    add<3>("InstanceNorm (N, C, L)", {examples, c, n_}, {}, "kKr", make, over<2>());
    add<3>("InstanceNorm channels last", {examples, n_, c}, {}, "krK", make_last, over<1>());
  }

  /// Two groups. moments() gets an axis of the groups and one of the channels in them, the latter first where memory is
  /// ColMajor.
  void group_norms() {
    const Index examples = set_.huge ? 1 : 2, part = part_, rest = n_ / part_;
    const auto make = [&](bool affine) { return tn::GroupNorm<P>(2, 2 * part, {.eps = set_.eps, .affine = affine}); };
    const auto make_last = [&](bool affine) {
      return tn::GroupNorm<P, tn::GroupAxes<-1>>(2, 2 * part, {.eps = set_.eps, .affine = affine});
    };
    const auto grouped = [&]<class X>(const X& x) {
      if constexpr (int{X::Layout} == Eigen::RowMajor)
        return variances<2, 3>(view<X>(x, examples, 2, part, rest));
      else
        return variances<1, 3>(view<X>(x, examples, part, 2, rest));
    };
    const auto grouped_last = [&]<class X>(const X& x) {
      if constexpr (int{X::Layout} == Eigen::RowMajor)
        return variances<1, 3>(view<X>(x, examples, rest, 2, part));
      else
        return variances<1, 2>(view<X>(x, examples, rest, part, 2));
    };
    add<3>("GroupNorm (N, C, L)", {examples, 2 * part, rest}, {examples, 2, part, rest}, "kKRr", make, grouped);
    add<3>("GroupNorm channels last", {examples, rest, 2 * part}, {examples, rest, 2, part}, "krKR", make_last,
           grouped_last);
  }

  /// RMSNorm has no variance that moments() knows of.
  void last_axis(Index rows, const std::string& of) {
    const auto layer_norm = [&](bool affine) {
      return tn::LayerNorm<P>(n_, {.eps = set_.eps, .elementwise_affine = affine});
    };
    const auto rms_norm = [&](bool affine) {
      return tn::RMSNorm<P>(n_, {.eps = set_.eps, .elementwise_affine = affine});
    };
    add<2>("LayerNorm" + of, {rows, n_}, {}, "kR", layer_norm, over<1>());
    add<2>(
        "RMSNorm" + of, {rows, n_}, {}, "kR", rms_norm, [](const auto&) { return std::vector<double>(); }, true);
  }

  template <int... kAxes, class X>
  static std::vector<double> variances(const X& x) {
    std::vector<double> result;
    for (const auto variance : support::logical(tn::moments(x, tn::over<kAxes...>).variance))
      result.push_back(plain(variance));
    return result;
  }
  template <int... kAxes>
  static auto over() {
    return [](const auto& x) { return variances<kAxes...>(x); };
  }
  template <class X>
  static auto view(const X& x, Index a, Index b, Index c, Index d) {
    return Eigen::TensorMap<const Eigen::Tensor<T, 4, int{X::Layout}>>(x.data(), a, b, c, d);
  }

  /// The samples of a statistic as numbers of T.
  const std::vector<double>& stored(std::size_t statistic) {
    if (statistic >= stored_.size()) stored_.resize(statistic + 1);
    auto& values = stored_[statistic];
    if (values.empty()) {
      values = set_.samples(static_cast<unsigned>(statistic));
      for (double& value : values) value = plain(static_cast<T>(value));
    }
    return values;
  }

  template <class S>
  static std::vector<double> random(Index size, unsigned seed, double mean, double deviation) {
    std::vector<double> result;
    for (const S value : support::random_values<S>(size, seed, mean, deviation, static_cast<std::size_t>(size))) result.push_back(plain(value));
    return result;
  }

  Problem problem(reference::Norm norm, bool biased) {
    Problem result(std::move(norm));
    const auto size = static_cast<std::size_t>(result.norm.size());
    for (std::size_t s = 0; s < result.statistics(); ++s) stored(s);
    std::vector<std::size_t> taken(result.statistics());
    result.x.reserve(size);
    for (const std::uint32_t s : result.statistic) result.x.push_back(stored_[s][taken[s]++]);
    if (dy_.size() != size) dy_ = random<T>(result.norm.size(), 1, 0.3, 1);
    result.dy = dy_;
    result.weight = random<P>(result.norm.parameters(), 2, 1, 0.5);
    result.bias = random<P>(result.norm.parameters(), 3, 0, biased ? 1 : 0);
    // 61 is prime to the numbers of channels: each is judged.
    result.step = result.statistics() > 64 ? 61 : set_.step;
    return result;
  }

  /// A layer on x of this shape, in both storage orders; roles: a letter for each axis of `split`, or of `shape` where
  /// that is empty, as support's subjects have them.
  template <int kRank, class Make, class Variances>
  void add(const std::string& name, const Shape& shape, const Shape& split, const std::string& roles, const Make& make,
           const Variances& variances_of, bool pinned = false) {
    const Problem given =
        problem({split.empty() ? shape : split, reference::roles_of(roles), set_.eps, pinned}, !pinned);
    const Exact exact(given, format_of<T>().digits);
    const auto in_order = [&]<int kOrder>(const char* order) {
      const auto outcome = outcome_of<Eigen::Tensor<T, kRank, kOrder>>(given, shape, make, variances_of);
      report_.add(judge(types_, name + order, set_.name, given, exact, outcome));
    };
    in_order.template operator()<Eigen::RowMajor>(", RowMajor");
    in_order.template operator()<Eigen::ColMajor>(", ColMajor");
  }

  Report& report_;
  const DataSet& set_;
  Types types_;
  std::vector<std::vector<double>> stored_;
  std::vector<double> dy_;
  Index n_ = 0, part_ = 1;  // samples of a statistic, and a small divisor of their number
};

template <class T, class P>
void measure(Report& report, bool full) {
  for (const DataSet& set : data_sets(format_of<T>(), full)) Measurement<T, P>(report, set).run();
}

}  // namespace accuracy
