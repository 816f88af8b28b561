// SPDX-License-Identifier: MIT
// Every layer x options x channel axis behind one interface over logical values, with what the reference must be told:
// so a law or a judge is written once and holds for all of them.
#pragma once

#include <memory>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <utility>
#include <vector>

#include "golden_layers.hpp"
#include "policies.hpp"
#include "reference.hpp"

namespace support {

/// The ways to ask for gradients.
enum class Ask {
  allocating,
  buffers,
  dx_only,
  parameters_only,
  dx_in_place_of_dy,
  dx_in_place_of_x,
  twice_into_the_same_gradients,
  from_output
};

template <class Scalar, class Parameter = Scalar>
class Subject {
 public:
  using Values = std::vector<Scalar>;
  using Parameters = std::vector<Parameter>;

  std::string name;
  Shape shape;           // of x
  reference::Norm norm;  // what the layer must compute
  bool has_weight = false;
  bool has_bias = false;
  bool tracks = false;

  virtual ~Subject() = default;
  virtual void set_parameters(const Parameters& weight, const Parameters& bias) = 0;
  virtual void train(bool training) = 0;
  /// layer(x), for an x of another shape too
  virtual Values forward(const Values& x, const Shape& of_x) = 0;
  virtual Values forward_in_place(const Values& x) = 0;
  virtual Values infer(const Values& x) const = 0;
  /// forward(x, y, saved); saved.mean() and saved.rstd() in RowMajor order of the statistics
  struct Saved {
    Values y;
    std::vector<double> mean, rstd;
  };
  virtual Saved forward_saved(const Values& x, const Shape& of_x) = 0;
  /// The gradients of the last forward_saved, by one of the ways to ask for them.
  struct Gradients {
    Values dx;
    Parameters dweight, dbias;
  };
  /// x_or_y: the layer's input, or with from_output its output
  virtual Gradients backward(const Values& dy, const Values& x_or_y, const Shape& of_x, Ask ask) = 0;
  /// running mean and variance, one pair per channel
  virtual std::pair<std::vector<double>, std::vector<double>> running() const = 0;

  Values forward(const Values& x) { return forward(x, shape); }
  Saved forward_saved(const Values& x) { return forward_saved(x, shape); }
  Gradients backward(const Values& dy, const Values& x_or_y, Ask ask = Ask::allocating) {
    return backward(dy, x_or_y, shape, ask);
  }
  Values random_x(unsigned seed, double mean = 0.5, double deviation = 1.5) const {
    return random_values<Scalar>(size_of(shape), seed, mean, deviation);
  }
  /// Sets weight and bias to random values and returns them; empty where the layer has none.
  std::pair<Parameters, Parameters> random_parameters(unsigned seed) {
    std::pair<Parameters, Parameters> result;
    if (has_weight) result.first = random_values<Parameter>(norm.parameters(), seed, 1.0, 0.5);
    if (has_bias) result.second = random_values<Parameter>(norm.parameters(), seed + 1, 0.0, 1.0);
    set_parameters(result.first, result.second);
    return result;
  }
  /// The running statistics as the reference wants them, one pair per statistic.
  reference::Statistics running_statistics() const {
    const auto [mean, variance] = running();
    reference::Statistics result;
    for (Index s = 0; s < norm.statistics(); ++s) {
      // Channels are the last kept axis, or with channels last the only one beside the batch.
      const auto channel = static_cast<std::size_t>(s) % mean.size();
      result.mean.push_back(mean[channel]);
      result.mean_lo.push_back(0);
      result.variance.push_back(variance[channel]);
    }
    return result;
  }
  reference::Statistics batch_statistics(const Values& x) const { return reference::moments(norm, reference::real(x)); }
};

template <class Kind>
using SubjectList = std::vector<std::unique_ptr<Subject<typename Kind::Scalar, typename Kind::Parameter>>>;

/// All of them, with c channels (GroupNorm: 2 c) and l >= 2 along the last spatial axis; defined for the Kinds and the
/// NarrowKinds.
template <class Kind>
SubjectList<Kind> all_subjects(Index c, Index l);

}  // namespace support
