// SPDX-License-Identifier: MIT
// That entry points inline their kernels, and that units with other flags agree, is checked in tests/odr.
#include <gtest/gtest.h>

#include <algorithm>
#include <tensornorm/kernels/dispatch.hpp>

#include "support/instruction_sets.hpp"

namespace tensornorm::kernels {
namespace {

template <class Number>
struct ReportBytes {
  using A = Number;

  int* bytes;
  template <class I>
  TENSORNORM_INLINE void operator()() const {
    *bytes = I::bytes;
  }
};

TEST(Dispatch, RunsTheJobInTheLevelInForce) {
  support::at_each_level([](Level now) {
    int bytes = 0;
    dispatch(ReportBytes<float>{&bytes});
    EXPECT_EQ(level(), now);
    EXPECT_EQ(bytes, 16 << static_cast<int>(std::max(now, kOwnLevel)));
  });
}

TEST(Dispatch, NumbersThatNoVectorHoldsRunInTheBaselineAlone) {
  support::at_each_level([](Level now) {
    int bytes = 0;
    dispatch(ReportBytes<long double>{&bytes});
    EXPECT_EQ(bytes, 16);
    dispatch(ReportBytes<double>{&bytes});
    EXPECT_EQ(bytes, 16 << static_cast<int>(std::max(now, kOwnLevel)));
  });
}

TEST(Dispatch, ALevelIsNeverAboveTheProcessors) {
  const support::AtLevel restored(Level::avx512);
  EXPECT_EQ(restored.forced, detected_level());
  EXPECT_EQ(set_level(Level::baseline), Level::baseline);
  EXPECT_EQ(level(), Level::baseline);
}

class FromEnvironment : public testing::Test {
 protected:
  FromEnvironment() {
    if (const char* text = std::getenv(kName)) before_ = text;
  }
  ~FromEnvironment() override {
    if (before_.empty())
      unsetenv(kName);
    else
      setenv(kName, before_.c_str(), 1);
  }
  static Level initial(const char* text) {
    setenv(kName, text, 1);
    return initial_level();
  }

 private:
  static constexpr const char* kName = "TENSORNORM_DISPATCH";
  std::string before_;
};

TEST_F(FromEnvironment, TheLevelCanBeLowered) {
  EXPECT_EQ(initial("baseline"), Level::baseline);
  EXPECT_LE(initial("avx2"), Level::avx2);
  EXPECT_EQ(initial("avx512"), detected_level());
  EXPECT_EQ(initial(""), detected_level());
  EXPECT_EQ(initial("nonsense"), detected_level());
}

}  // namespace
}  // namespace tensornorm::kernels
