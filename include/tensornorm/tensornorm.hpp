// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/batch_norm.hpp>
#include <tensornorm/layers/group_norm.hpp>
#include <tensornorm/layers/instance_norm.hpp>
#include <tensornorm/layers/layer_norm.hpp>
#include <tensornorm/layers/normalization.hpp>
#include <tensornorm/layers/rms_norm.hpp>
#include <tensornorm/ops/backward.hpp>
#include <tensornorm/ops/functional.hpp>
#include <tensornorm/ops/functional_backward.hpp>
#include <tensornorm/ops/moments.hpp>
#include <tensornorm/ops/normalize.hpp>
#include <tensornorm/version.hpp>
