// SPDX-License-Identifier: MIT
// A text as numbered characters, in sentences of different lengths.
#pragma once

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

struct Text {
  std::vector<std::vector<int>> sentences;  // characters as numbers 0 .. characters.size() - 1
  std::string characters;                   // their letters, sorted
};

/// The sentences of a file, each at most `longest` characters (a longer one becomes several), none under 8.
/// Errors   std::runtime_error naming the file; one without such a sentence.
inline Text read_text(const std::string& path, std::size_t longest) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  const std::string all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());

  Text text;
  text.characters = all;
  std::sort(text.characters.begin(), text.characters.end());
  text.characters.erase(std::unique(text.characters.begin(), text.characters.end()), text.characters.end());

  std::vector<int> sentence;
  const auto end_sentence = [&] {
    if (sentence.size() >= 8) text.sentences.push_back(sentence);
    sentence.clear();
  };
  for (const char c : all) {
    if (sentence.empty() && c == ' ') continue;
    sentence.push_back(static_cast<int>(text.characters.find(c)));
    if (c == '.' || c == '?' || c == '\n' || sentence.size() == longest) end_sentence();
  }
  end_sentence();
  if (text.sentences.empty())
    throw std::runtime_error(path + ": expected a sentence of 8 characters or more, got none");
  return text;
}

}  // namespace examples
