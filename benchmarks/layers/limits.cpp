// SPDX-License-Identifier: MIT
// bench_limits [--rounds=25]: measures what the library promises and exits with 1 when a promise is missed.
#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "../harness/interleaved.hpp"
#include "../harness/reporting.hpp"

namespace {

const bench::Case& find(const std::vector<bench::Case>& cases, const std::string& name) {
  const auto found = std::find_if(cases.begin(), cases.end(), [&](const bench::Case& c) { return c.name() == name; });
  if (found == cases.end()) throw std::out_of_range("no case is called " + name);
  return *found;
}

bool holds(const bench::Limit& limit, const bench::Case& c, int rounds) {
  const bench::Tensors tensors(c);
  std::vector<bench::Contender> contenders = bench::contenders(c, tensors, false);
  std::erase_if(contenders, [&](const bench::Contender& contender) {
    return contender.name != "tensornorm" &&
           std::find(limit.yardsticks.begin(), limit.yardsticks.end(), contender.name) == limit.yardsticks.end();
  });
  bench::Interleaved race(std::move(contenders));
  for (int i = 0; i < rounds; ++i) race.round("tensornorm");
  const std::string yardstick = race.fastest(limit.yardsticks);
  const bench::Spread ratio = race.ratio("tensornorm", yardstick);
  const bool held = ratio.median <= limit.ratio;
  std::printf("%-6s %-58s %5.2f (%.2f-%.2f) <= %.2f x %s\n", held ? "ok" : "MISSED", limit.case_name.c_str(),
              ratio.median, ratio.first_quartile, ratio.third_quartile, limit.ratio, yardstick.c_str());
  std::fflush(stdout);
  return held;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = bench::take_number(argc, argv, "--rounds", 25, 1);
  if (argc > 1) {
    std::fprintf(stderr, "usage: %s [--rounds=25]\n", argv[0]);
    return 2;
  }
  const std::vector<bench::Case> cases = bench::suite();
  int missed = 0;
  for (const bench::Limit& limit : bench::limits()) missed += !holds(limit, find(cases, limit.case_name), rounds);
  return missed > 0;
}
