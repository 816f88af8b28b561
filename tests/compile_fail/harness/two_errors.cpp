// SPDX-License-Identifier: MIT
// expect: tensornorm: the first of two
int main() {
#ifdef MISTAKE
  static_assert(false, "tensornorm: the first of two");
  static_assert(false, "what follows from it");
#endif
}
