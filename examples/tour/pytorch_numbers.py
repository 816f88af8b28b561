#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes pytorch_numbers.hpp: what PyTorch makes of the tour's worked cases.

    python3 pytorch_numbers.py > pytorch_numbers.hpp        (Debian: apt-get install python3-torch)

Computed in double. The inputs are small integers from the generator in worked_cases.cpp, spelled out again here.
The tour itself needs neither Python nor PyTorch: the output is in the repository.
"""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
SAMPLES = 8


def small_integers(*shape):
    """Integers -9..9, row by row: the high bits of the C standard's example generator, seeded with 1."""
    state, values = 1, []
    for _ in range(torch.Size(shape).numel()):
        state = (state * 1103515245 + 12345) % 2**31
        values.append((state >> 16) % 19 - 9)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def emit(name, y):
    """Evenly spaced elements, the first and the last among them, as {flat index, value}."""
    flat = y.detach().reshape(-1)
    last = flat.numel() - 1
    count = min(SAMPLES, last + 1)
    where = [round(i * last / max(count - 1, 1)) for i in range(count)]
    pairs = ", ".join("{%d, %.9g}" % (i, flat[i]) for i in where)
    print("inline constexpr Sample %s[] = {%s};" % (name, pairs))


class AnnotatedLayerNorm(nn.Module):
    """The LayerNorm of "The Annotated Transformer": unbiased deviation, eps added to it."""

    def __init__(self, features, eps=1e-6):
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(features))
        self.b_2 = nn.Parameter(torch.zeros(features))
        self.eps = eps

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        std = x.std(-1, keepdim=True)
        return self.a_2 * (x - mean) / (std + self.eps) + self.b_2


def rms_norm(x, eps=torch.finfo(torch.float32).eps):
    """RMSNorm by its formula; the module came with PyTorch 2.4. eps is what PyTorch takes for a float input."""
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)


print("// SPDX-License-Identifier: MIT")
print("// Made by pytorch_numbers.py with PyTorch %s, in double. Do not edit." % torch.__version__.split("a")[0])
print("// clang-format off")
print("#pragma once")
print()
print("namespace tour::pytorch {")
print()
print("/// One element of PyTorch's result: its row-by-row position and its value.")
print("struct Sample {")
print("  int position;")
print("  double value;")
print("};")
print()

columns = torch.tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
emit("batch_norm_1d", nn.BatchNorm1d(3)(columns))

x = small_integers(2, 2, 3)
emit("layer_norm_row", nn.LayerNorm(3)(x))
emit("layer_norm_sample", nn.LayerNorm([2, 3])(x))

x = small_integers(2, 3, 3, 3)
emit("batch_norm_2d", nn.BatchNorm2d(3)(x))
emit("layer_norm_image", nn.LayerNorm([3, 3, 3])(x))
emit("instance_norm_2d", nn.InstanceNorm2d(3)(x))

emit("group_norm_2_of_6", nn.GroupNorm(2, 6)(small_integers(2, 6, 3, 3)))

x = small_integers(20, 6, 10, 10)
for groups in (3, 6, 1):
    emit("group_norm_%d" % groups, nn.GroupNorm(groups, 6, affine=False)(x))

x = small_integers(2, 3, 2, 2, 2, 3)  # two batches of (3,2,2,2,3)
layer = nn.BatchNorm3d(2, momentum=0.3)
for step in (0, 1):
    emit("batch_norm_3d_step%d" % (step + 1), layer(x[step]))
    emit("batch_norm_3d_running_mean%d" % (step + 1), layer.running_mean)
    emit("batch_norm_3d_running_var%d" % (step + 1), layer.running_var)
layer.eval()
emit("batch_norm_3d_eval", layer(x[0]))

x = small_integers(8, 2, 3, 4)
emit("layer_norm_2_3_4", nn.LayerNorm([2, 3, 4])(x))
emit("layer_norm_3_4", nn.LayerNorm([3, 4])(x))
emit("layer_norm_4", nn.LayerNorm([4])(x))

emit("annotated_layer_norm", AnnotatedLayerNorm(8)(small_integers(2, 4, 8)))
emit("rms_norm", rms_norm(small_integers(2, 3, 4)))

print()
print("}  // namespace tour::pytorch")
