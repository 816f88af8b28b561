// SPDX-License-Identifier: MIT
#include "reporting.hpp"

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

}  // namespace bench
