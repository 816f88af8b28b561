// SPDX-License-Identifier: MIT
// expect: the promised sentence
int main() { static_assert(sizeof(int) == 0, "the promised sentence"); }
