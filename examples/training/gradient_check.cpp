// SPDX-License-Identifier: MIT
// The gradients of the examples' networks against central differences, in double, for every norm.
#include "digit_network.hpp"
#include "norms.hpp"
#include "transformer.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace {

using examples::ParameterView;

/// The largest |gradient - (loss(p + h) - loss(p - h)) / 2h| over some elements of each parameter, relative to the
/// largest gradient of that parameter.
double largest_error(const std::vector<ParameterView<double>>& parameters,
                     const std::function<double()>& loss_and_gradients) {
  examples::set_gradients_to_zero(parameters);
  loss_and_gradients();
  std::vector<std::vector<double>> gradients;
  for (const ParameterView<double>& parameter : parameters)
    gradients.emplace_back(parameter.gradient.begin(), parameter.gradient.end());

  constexpr double h = 1e-5;
  double largest = 0;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    double scale = 1e-3;
    for (const double gradient : gradients[p]) {
      if (!std::isfinite(gradient)) return HUGE_VAL;
      scale = std::max(scale, std::abs(gradient));
    }
    const std::size_t stride = std::max<std::size_t>(1, gradients[p].size() / 10);
    for (std::size_t i = 0; i < gradients[p].size(); i += stride) {
      double& value = parameters[p].value[i];
      const double before = value;
      value = before + h;
      const double above = loss_and_gradients();
      value = before - h;
      const double below = loss_and_gradients();
      value = before;
      const double error = std::abs(gradients[p][i] - (above - below) / (2 * h)) / scale;
      if (std::isnan(error)) return HUGE_VAL;
      largest = std::max(largest, error);
    }
  }
  return largest;
}

bool small_enough(const std::string& what, double error) {
  const bool ok = error < 1e-5;  // central differences leave 1e-8 or so, a ReLU's corner within h a little more
  std::printf("%-40s %.1e %s\n", what.c_str(), error, ok ? "" : "TOO LARGE");
  return ok;
}

bool digit_network(examples::NormKind kind, bool training) {
  examples::DigitNetwork<double> network(kind, 4, 7);
  examples::Normal normal(3);
  examples::ChannelsLast<double> x(6, 8, 8, 1);
  for (double& value : std::span(x.data(), static_cast<std::size_t>(x.size()))) value = normal.next();
  const std::vector<int> labels = {3, 1, 4, 1, 5, 9};
  network.forward(x);  // moves BatchNorm's running statistics away from 0 and 1
  training ? network.train() : network.eval();
  examples::Matrix<double> dlogits;
  const double error = largest_error(network.parameters(), [&] {
    const double loss = examples::cross_entropy(network.forward(x), labels, dlogits);
    network.backward(dlogits);
    return loss;
  });
  return small_enough("digits, " + name_of(kind) + (training ? "" : ", eval"), error);
}

template <template <class> class Norm>
bool transformer(const char* name) {
  const examples::TransformerShape shape = {.characters = 11, .width = 16, .heads = 2, .blocks = 2, .longest = 8};
  examples::Transformer<double, Norm> network(shape, 7);
  const std::vector<int> first = {0, 3, 10, 2, 2, 7}, second = {9, 8, 1}, third = {4, 4, 5, 6, 1, 0, 2, 3, 8};
  const double error = largest_error(network.parameters(), [&] {
    examples::Timing timing;
    return network.loss_and_gradients({&first, &second, &third}, timing);
  });
  return small_enough(std::string("transformer, ") + name, error);
}

}  // namespace

int main() {
  bool ok = true;
  for (const examples::NormKind kind :
       {examples::NormKind::none, examples::NormKind::batch, examples::NormKind::layer, examples::NormKind::group})
    ok = digit_network(kind, true) && ok;
  ok = digit_network(examples::NormKind::batch, false) && ok;
  ok = transformer<examples::HandWrittenLayerNorm>("LayerNorm by hand") && ok;
  ok = transformer<examples::HandWrittenRMSNorm>("RMSNorm by hand") && ok;
  ok = transformer<examples::LibraryLayerNorm>("LayerNorm") && ok;
  ok = transformer<examples::LibraryRMSNorm>("RMSNorm") && ok;
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
