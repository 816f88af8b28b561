// SPDX-License-Identifier: MIT
// expect: never said
int main() { return 0; }
