// SPDX-License-Identifier: MIT
// Reads the golden files; their format stands in tests/golden/generate.py.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "logical.hpp"

namespace golden {

struct Tensor {
  support::Shape shape;
  std::vector<double> values;
};

struct Case {
  std::string layer, name;
  std::map<std::string, double> options;
  std::map<std::string, Tensor> tensors;  // by "type name"

  std::optional<double> option(const std::string& key) const {
    const auto found = options.find(key);
    return found == options.end() ? std::nullopt : std::optional<double>(found->second);
  }
  bool flag(const std::string& key) const { return option(key).value_or(0) != 0; }

  /// An input, or what PyTorch computed in Scalar.
  template <class Scalar>
  const Tensor* find(const std::string& key) const {
    const char* type = std::is_same_v<Scalar, float> ? "float32 " : "float64 ";
    for (const std::string& full : {"any " + key, type + key})
      if (const auto found = tensors.find(full); found != tensors.end()) return &found->second;
    return nullptr;
  }
  template <class Scalar>
  const Tensor& tensor(const std::string& key) const {
    const Tensor* found = find<Scalar>(key);
    if (found == nullptr) throw std::out_of_range(layer + " " + name + " has no " + key);
    return *found;
  }
  /// Every bit restored: the text has 9 digits for a float, 17 for a double. Empty where there is no such tensor.
  template <class Scalar>
  std::vector<Scalar> values(const std::string& key) const {
    const Tensor* found = find<Scalar>(key);
    return found == nullptr ? std::vector<Scalar>() : std::vector<Scalar>(found->values.begin(), found->values.end());
  }
  const support::Shape& shape() const { return tensor<double>("x").shape; }
};

/// The cases of golden/<file>.txt.
inline std::vector<Case> load(const std::string& file) {
  const auto path = std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / (file + ".txt");
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  std::vector<Case> cases;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string type, name, word;
    words >> type >> name;
    if (type == "#") continue;
    if (type == "case") {
      words >> word;
      cases.push_back({name, word, {}, {}});
    } else if (type == "option") {
      words >> cases.back().options[name];
    } else {
      Tensor& tensor = cases.back().tensors[type + " " + name];
      while (words >> word && word != ":") tensor.shape.push_back(std::stol(word));
      while (words >> word) tensor.values.push_back(std::strtod(word.c_str(), nullptr));
      if (static_cast<std::size_t>(support::size_of(tensor.shape)) != tensor.values.size())
        throw std::runtime_error(path.string() + ": " + line.substr(0, 60));
    }
  }
  if (cases.empty()) throw std::runtime_error(path.string() + " is empty");
  return cases;
}

}  // namespace golden
