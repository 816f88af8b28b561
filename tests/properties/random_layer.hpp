// SPDX-License-Identifier: MIT
// A layer of random kind, shape and options behind one interface over values as they lie in memory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "random.hpp"
#include "support/reference.hpp"

namespace properties {

using support::Shape;

/// How a call is made, none of which may show in what it gives.
struct Situation {
  Index x_offset = 0, y_offset = 0;  ///< elements between memory aligned to 64 bytes and the tensors
  bool in_place = false;             ///< y is x; dx is dy
  int threads = 1;
};
inline Situation random_situation(Random& random) {
  return {random.between(0, 33), random.between(0, 33), random.coin(), static_cast<int>(random.between(1, 9))};
}

template <class Element, class Parameter>
class RandomLayer {
 public:
  using Values = std::vector<Element>;
  using Parameters = std::vector<Parameter>;
  struct Result {
    Values y;
    std::vector<double> mean, rstd;
  };
  struct Gradients {
    Values dx;
    Parameters dweight, dbias;
  };
  /// One pair per channel.
  struct Running {
    std::vector<double> mean, variance;
    Index batches = 0;
  };

  std::string name;
  Shape shape;
  reference::Norm norm;  ///< what the layer must compute, of this shape
  bool has_weight = false, has_bias = false, tracks = false;
  std::optional<double> momentum;
  bool unbiased_running_variance = true;
  bool training = true;

  virtual ~RandomLayer() = default;
  virtual std::unique_ptr<RandomLayer> copy() const = 0;
  virtual void set_parameters(const Parameters& weight, const Parameters& bias) = 0;
  virtual void train(bool on) = 0;
  virtual void load(const Running& running) = 0;
  virtual Running running() const = 0;
  /// forward(x, y, saved), for an x with any extent of the first axis
  virtual Result forward(const Values& x, const Shape& of_x, const Situation& situation) = 0;
  virtual Values infer(const Values& x, const Shape& of_x, const Situation& situation) const = 0;
  /// With the statistics that the last forward has saved.
  virtual Gradients backward(const Values& dy, const Values& x, const Shape& of_x, const Situation& situation) const = 0;

  /// The layer for another extent of the first axis, as the reference wants it.
  reference::Norm norm_of(const Shape& of_x) const {
    reference::Norm result = norm;
    result.shape[0] = of_x[0];
    return result;
  }
};

/// At most `most` elements; a BatchNorm or InstanceNorm has more than one sample for each statistic.
template <class Kind>
std::unique_ptr<RandomLayer<typename Kind::Scalar, typename Kind::Parameter>> random_layer(Random& random, Index most);

}  // namespace properties
