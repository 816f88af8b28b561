// SPDX-License-Identifier: MIT
#pragma once

// The one home of the version: CMake reads these three lines.
#define TENSORNORM_VERSION_MAJOR 0
#define TENSORNORM_VERSION_MINOR 1
#define TENSORNORM_VERSION_PATCH 0
