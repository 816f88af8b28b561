// SPDX-License-Identifier: MIT
#include "reporting.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "setting.hpp"

namespace bench {

void report(benchmark::State& state, const std::string& name, const Spread& spread) {
  state.counters[name] = spread.median;
  state.counters[name + ":q1"] = spread.first_quartile;
  state.counters[name + ":q3"] = spread.third_quartile;
}

void add_context(const std::vector<Peer>& peers) {
  for (const auto& [key, value] : setting()) benchmark::AddCustomContext(key, value);
  for (const Peer& peer : peers)
    benchmark::AddCustomContext("peer " + peer.name, peer.version + ", " + peer.instruction_set);
}

std::string take_flag(int& argc, char** argv, const std::string& flag, const std::string& fallback) {
  std::string value = fallback;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == flag)
      value = "yes";
    else if (argument.rfind(flag + "=", 0) == 0)
      value = argument.substr(flag.size() + 1);
    else
      argv[kept++] = argv[i];
  }
  argc = kept;
  return value;
}

int take_number(int& argc, char** argv, const std::string& flag, int fallback, int least) {
  const std::string text = take_flag(argc, argv, flag, std::to_string(fallback));
  const char* const end = text.data() + text.size();
  int number = 0;
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && rest == end && number >= least) return number;
  std::fprintf(stderr, "expected %s=NUMBER of at least %d, as in %s=%d\n", flag.c_str(), least, flag.c_str(), fallback);
  std::exit(2);
}

}  // namespace bench
