// SPDX-License-Identifier: MIT
// The judges judge each other: the reference against PyTorch's golden values. No library code is involved.
#include "reference.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "compare.hpp"
#include "golden_norm.hpp"

namespace {

using support::all_near;

class Reference : public testing::TestWithParam<const char*> {};

/// PyTorch computes in double: 16 ulp of the terms, its folded form x * alpha + beta (an ulp of mean / deviation, here
/// up to 6) and its sums included. A wrong formula is off by many orders of magnitude more.
constexpr double kTolerance = 16;
using support::ulps;

TEST_P(Reference, AgreesWithPyTorch) {
  for (const golden::Case& c : golden::load(GetParam())) {
    SCOPED_TRACE(c.layer + " " + c.name);
    reference::Norm norm = support::norm_of(c);
    if (c.layer == "RMSNorm" && !c.option("eps")) norm.eps = std::numeric_limits<double>::epsilon();
    const auto value = [&](const char* key) { return reference::real(c.values<double>(key)); };
    const auto judge = [&](const std::string& suffix, const reference::Statistics& statistics, bool frozen) {
      const auto x = value("x"), dy = value("dy"), weight = value("weight"), bias = value("bias");
      const auto y = reference::forward(norm, x, weight, bias, statistics);
      EXPECT_TRUE(all_near(y, c.values<double>("y" + suffix), ulps<double>(kTolerance, support::largest(y))));
      const auto gradients = reference::backward(norm, dy, x, weight, statistics, frozen);
      EXPECT_TRUE(all_near(gradients.dx, c.values<double>("dx" + suffix),
                           ulps<double>(kTolerance, reference::terms_of_dx(norm, dy, x, weight, statistics))));
      const auto terms = ulps<double>(
          kTolerance, reference::terms_of_parameters(norm, dy, reference::normalized(norm, x, statistics)));
      if (!weight.empty()) {
        EXPECT_TRUE(all_near(gradients.dweight, c.values<double>("dweight" + suffix), terms));
      }
      if (!bias.empty()) {
        EXPECT_TRUE(all_near(gradients.dbias, c.values<double>("dbias" + suffix), terms));
      }
    };
    judge("", reference::moments(norm, value("x")), false);
    if (!c.flag("track")) continue;

    // Eval mode: the statistics of every (n, c) are those of the channel.
    reference::Statistics running = reference::moments(norm, value("x"));
    for (std::size_t s = 0; s < running.mean.size(); ++s) {
      const std::size_t channel = s % value("running_mean2").size();
      running.mean[s] = value("running_mean2")[channel];
      running.mean_lo[s] = 0;
      running.variance[s] = value("running_var2")[channel];
    }
    judge("_eval", running, true);
  }
}
INSTANTIATE_TEST_SUITE_P(Files, Reference,
                         testing::Values("batch_norm", "instance_norm", "layer_norm", "textbook_layer_norm",
                                         "group_norm", "rms_norm"),
                         [](const auto& file) { return std::string(file.param); });

}  // namespace
