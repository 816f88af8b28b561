// SPDX-License-Identifier: MIT
// expect: the promised sentence
int main() {
#ifdef MISTAKE
  static_assert(sizeof(int) == 0, "some other sentence");
  static_assert(sizeof(int) == 0, "the promised sentence");
#endif
}
