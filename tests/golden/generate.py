#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the golden values of the layer tests: what PyTorch computes, forward and backward.

To regenerate (Debian 12: `apt-get install python3-torch`, PyTorch 1.13, CPU):

    /usr/bin/python3 tests/golden/generate.py

The output, one text file per layer beside this script, is committed, so the tests need no PyTorch.
A second run on the same machine writes the same bytes; another PyTorch may differ in last digits.

Format, read by tests/support/golden.hpp, one record per line:

    case LayerName name         begins a case
    option name value           what the layer is constructed with; an absent momentum is None (cumulative)
    type name shape : values    a tensor, logical RowMajor order; type is the dtype the values were computed in, or
                                "any" for inputs, which are multiples of 1/64 and so exact in float and double

Names: x, x2 (the batches fed, in this order), dy (the gradient of y), weight, bias; y, y2 (train mode), running_mean,
running_var (after x), running_mean2, running_var2 (after x and x2), y_eval (x in eval mode, after both);
dx, dweight, dbias (train mode, of x), dx_eval, dweight_eval, dbias_eval (eval mode, of x, after both batches).
"""

import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {"float32": torch.float32, "float64": torch.float64}
torch.set_num_threads(1)


class Inputs:
    """Random multiples of 1/64: the same number in every dtype, and short in print."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def grid(self, values):
        return np.round(np.asarray(values) * 64) / 64

    def data(self, shape):
        """Normal, with a mean and a standard deviation of their own along each axis, |mean| up to about 4 std."""
        values = self.random.standard_normal(shape)
        for axis, extent in enumerate(shape):
            side = [1] * len(shape)
            side[axis] = extent
            values = values * self.random.uniform(0.7, 1.4, side) + self.random.uniform(-1.0, 1.0, side)
        return self.grid(values)

    def weight(self, shape):
        """Away from 1 and from 0, of both signs."""
        return self.grid(self.random.uniform(0.4, 1.8, shape) * self.random.choice([-1.0, 1.0], shape, p=[0.2, 0.8]))

    def bias(self, shape):
        return self.grid(self.random.uniform(-1.5, 1.5, shape))


class File:
    def __init__(self, name):
        self.path = HERE / f"{name}.txt"
        self.lines = [f"# Written by generate.py with PyTorch {torch.__version__}, NumPy {np.__version__}; do not edit."]

    def case(self, layer, name, options):
        self.lines.append(f"case {layer} {name}")
        for key, value in options.items():
            if value is not None:
                self.lines.append(f"option {key} {float(value):.17g}")

    def tensor(self, dtype, name, values):
        values = values.detach().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        digits = {"any": 9, "float32": 9, "float64": 17}[dtype]  # enough to restore every bit
        shape = " ".join(str(extent) for extent in values.shape)
        numbers = " ".join(f"{float(value):.{digits}g}" for value in values.reshape(-1))
        self.lines.append(f"{dtype} {name} {shape} : {numbers}")

    def write(self):
        self.path.write_text("\n".join(self.lines) + "\n")


def gradients(file, dtype, suffix, forward, x, dy, parameters):
    """Writes y and the gradients of sum(y * dy)."""
    leaf = torch.tensor(x, dtype=DTYPES[dtype], requires_grad=True)
    for parameter in parameters.values():
        parameter.grad = None
    y = forward(leaf)
    y.backward(torch.tensor(dy, dtype=DTYPES[dtype]))
    file.tensor(dtype, "y" + suffix, y)
    file.tensor(dtype, "dx" + suffix, leaf.grad)
    for name, parameter in parameters.items():
        file.tensor(dtype, f"d{name}{suffix}", parameter.grad)


def record(file, inputs, layer, name, make, shape, options, affine_shape, tracked=False):
    """A case: y and gradients; when tracked two batches in train mode, then x in eval mode.

    make(parameters) returns an nn.Module, which gets the parameters copied in, or a function that uses them.
    """
    file.case(layer, name, options)
    values = {"x": inputs.data(shape), "dy": inputs.data(shape)}
    if tracked:
        values["x2"] = inputs.data(shape)
    state = {}
    if affine_shape is not None:
        state = {"weight": inputs.weight(affine_shape), "bias": inputs.bias(affine_shape)}
        if options.get("bias") == 0:
            del state["bias"]
    for key, value in {**values, **state}.items():
        file.tensor("any", key, value)
    for dtype in DTYPES:
        parameters = {key: nn.Parameter(torch.tensor(value, dtype=DTYPES[dtype])) for key, value in state.items()}
        forward = make(parameters)
        if isinstance(forward, nn.Module):
            forward.to(DTYPES[dtype]).load_state_dict(parameters, strict=False)
            parameters = {key: getattr(forward, key) for key in state}
        gradients(file, dtype, "", forward, values["x"], values["dy"], parameters)
        if tracked:
            file.tensor(dtype, "running_mean", forward.running_mean)
            file.tensor(dtype, "running_var", forward.running_var)
            file.tensor(dtype, "y2", forward(torch.tensor(values["x2"], dtype=DTYPES[dtype])))
            file.tensor(dtype, "running_mean2", forward.running_mean)
            file.tensor(dtype, "running_var2", forward.running_var)
            forward.eval()
            gradients(file, dtype, "_eval", forward, values["x"], values["dy"], parameters)


def record_running(file, inputs, layer, name, shape, channels, defaults, **changes):
    options = {**defaults, **changes}

    def make(_):
        return getattr(nn, layer)(channels, eps=options["eps"], momentum=options["momentum"], affine=bool(options["affine"]),
                                  track_running_stats=bool(options["track"]))

    record(file, inputs, layer, name, make, shape, options, (channels,) if options["affine"] else None,
           tracked=bool(options["track"]))


def batch_norm():
    file, inputs = File("batch_norm"), Inputs(1)
    defaults = {"eps": 1e-5, "momentum": 0.1, "affine": 1, "track": 1}
    shapes = [("BatchNorm1d", "NC", (6, 3)), ("BatchNorm1d", "NCL", (4, 3, 5)), ("BatchNorm2d", "NCHW", (3, 4, 2, 5)),
              ("BatchNorm3d", "NCDHW", (2, 3, 2, 3, 4))]
    for layer, axes, shape in shapes:
        for name, changes in [("defaults", {}), ("momentum_0.3", {"momentum": 0.3}), ("cumulative", {"momentum": None}),
                              ("not_affine", {"affine": 0}), ("not_tracking", {"track": 0}), ("eps_0.1", {"eps": 0.1})]:
            record_running(file, inputs, layer, f"{axes}_{name}", shape, shape[1], defaults, **changes)
    file.write()


def instance_norm():
    file, inputs = File("instance_norm"), Inputs(2)
    defaults = {"eps": 1e-5, "momentum": 0.1, "affine": 0, "track": 0}
    shapes = [("InstanceNorm1d", (3, 4, 5)), ("InstanceNorm2d", (2, 3, 4, 3)), ("InstanceNorm3d", (2, 3, 2, 3, 4))]
    for layer, shape in shapes:
        for name, changes in [("plain", {}), ("affine", {"affine": 1}), ("tracked", {"affine": 1, "track": 1}),
                              ("tracked_momentum_0.3", {"track": 1, "momentum": 0.3}), ("eps_0.1", {"eps": 0.1, "affine": 1})]:
            record_running(file, inputs, layer, name, shape, shape[1], defaults, **changes)
        for name, changes in [("unbatched", {}), ("unbatched_affine", {"affine": 1}),
                              ("unbatched_tracked", {"affine": 1, "track": 1})]:
            record_running(file, inputs, layer, name, shape[1:], shape[1], defaults, **changes)
    file.write()


def layer_norm():
    file, inputs = File("layer_norm"), Inputs(3)
    shape = (3, 2, 4, 5)
    for rank in (1, 2, 3):
        normalized = shape[-rank:]
        for name, changes in [("defaults", {}), ("no_bias", {"bias": 0}), ("not_affine", {"elementwise_affine": 0}),
                              ("eps_0.1", {"eps": 0.1})]:
            options = {"normalized_rank": rank, "eps": 1e-5, "elementwise_affine": 1, "bias": 1, **changes}

            def make(parameters, normalized=normalized, eps=options["eps"]):
                # The functional form: nn.LayerNorm of 1.13 knows no bias=False.
                return lambda x: functional.layer_norm(x, normalized, parameters.get("weight"), parameters.get("bias"), eps)

            record(file, inputs, "LayerNorm", f"rank{rank}_{name}", make, shape, options,
                    normalized if options["elementwise_affine"] else None)
    file.write()


def textbook_layer_norm():
    """The variants PyTorch does not have, by their formulas, differentiated by autograd."""
    file, inputs = File("textbook_layer_norm"), Inputs(4)
    shape, width = (2, 3, 7), 7  # (batch, length, d_model)
    for eps in (1e-6, 0.25):
        for deviation in (0, 1):
            for unbiased in (0, 1):
                options = {"normalized_rank": 1, "eps": eps, "elementwise_affine": 1, "bias": 1, "unbiased": unbiased,
                           "eps_added_to_deviation": deviation}

                def make(parameters, o=options):
                    def forward(x):
                        centred = x - x.mean(-1, keepdim=True)
                        variance = (centred * centred).sum(-1, keepdim=True) / (width - o["unbiased"])
                        divisor = variance.sqrt() + o["eps"] if o["eps_added_to_deviation"] else (variance + o["eps"]).sqrt()
                        return parameters["weight"] * centred / divisor + parameters["bias"]
                    return forward

                name = f"eps_{eps:g}_{'deviation' if deviation else 'variance'}_{'unbiased' if unbiased else 'biased'}"
                record(file, inputs, "LayerNorm", name, make, shape, options, (width,))
    file.write()


def group_norm():
    file, inputs = File("group_norm"), Inputs(5)
    for shape in [(5, 6), (3, 6, 5), (2, 6, 3, 4), (2, 6, 2, 3, 2)]:
        for groups in (1, 2, 3, 6):
            if shape[1] // groups * int(np.prod(shape[2:])) == 1:
                continue  # one value per group: y = bias, tested without PyTorch
            for name, changes in [("defaults", {}), ("not_affine", {"affine": 0}), ("eps_0.1", {"eps": 0.1})]:
                if changes and groups != 3:
                    continue
                options = {"num_groups": groups, "eps": 1e-5, "affine": 1, **changes}

                def make(_, o=options):
                    return nn.GroupNorm(o["num_groups"], 6, eps=o["eps"], affine=bool(o["affine"]))

                record(file, inputs, "GroupNorm", f"rank{len(shape)}_groups{groups}_{name}", make, shape, options,
                        (6,) if options["affine"] else None)
    file.write()


def rms_norm():
    """By its formula; eps=None is the epsilon of the dtype, as in the RMSNorm of newer PyTorch."""
    file, inputs = File("rms_norm"), Inputs(6)
    shape = (3, 2, 4, 5)
    for rank in (1, 2, 3):
        for name, changes in [("defaults", {"eps": None}), ("not_affine", {"eps": None, "elementwise_affine": 0}),
                              ("eps_0.1", {"eps": 0.1})]:
            options = {"normalized_rank": rank, "elementwise_affine": 1, "bias": 0, **changes}

            def make(parameters, rank=rank, options=options):
                def forward(x):
                    eps = torch.finfo(x.dtype).eps if options["eps"] is None else options["eps"]
                    y = x * torch.rsqrt((x * x).mean(tuple(range(-rank, 0)), keepdim=True) + eps)
                    return y * parameters["weight"] if parameters else y
                return forward

            record(file, inputs, "RMSNorm", f"rank{rank}_{name}", make, shape, options,
                    shape[-rank:] if options["elementwise_affine"] else None)
    file.write()


def worked_cases():
    """Small cases a person can follow; float32 outputs of freshly constructed layers (weight 1, bias 0)."""
    file, inputs = File("worked_cases"), Inputs(7)

    def case(name, x, **layers):
        file.case("Worked", name, {})
        file.tensor("any", "x", x)
        for key, layer in layers.items():
            file.tensor("float32", key, layer(torch.tensor(x, dtype=torch.float32)))

    def statistics(axes, x):
        values = torch.tensor(x, dtype=torch.float64)
        file.tensor("float64", "mean_" + "".join(map(str, axes)), values.mean(axes))
        file.tensor("float64", "variance_" + "".join(map(str, axes)), values.var(axes, unbiased=False))

    case("two_rows", np.array([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]), BatchNorm1d=nn.BatchNorm1d(3))

    x = np.array([[[1.0, 2.0, 3.0], [4.0, 6.0, 8.0]], [[3.0, 0.0, 3.0], [5.0, 9.0, 1.0]]])
    case("small_integers", x, LayerNorm_3=nn.LayerNorm(3), LayerNorm_2_3=nn.LayerNorm([2, 3]))

    x = inputs.data((2, 3, 3, 3))
    case("images", x, BatchNorm2d=nn.BatchNorm2d(3), LayerNorm_3_3_3=nn.LayerNorm([3, 3, 3]), InstanceNorm2d=nn.InstanceNorm2d(3))
    for axes in [(0, 2, 3), (1, 2, 3), (2, 3)]:
        statistics(axes, x)

    case("groups", inputs.data((2, 6, 3, 3)), GroupNorm_2=nn.GroupNorm(2, 6))

    x = inputs.grid(inputs.random.standard_normal((20, 6, 10, 10)))  # as PyTorch's own GroupNorm example
    case("many_groups", x, GroupNorm_3=nn.GroupNorm(3, 6), GroupNorm_6=nn.GroupNorm(6, 6), GroupNorm_1=nn.GroupNorm(1, 6))
    for key, other in [("GroupNorm_6", nn.InstanceNorm2d(6)), ("GroupNorm_1", nn.LayerNorm([6, 10, 10], elementwise_affine=False))]:
        values = torch.tensor(x, dtype=torch.float32)
        module = nn.GroupNorm(int(key[-1]), 6)
        assert torch.allclose(module(values), other(values), atol=1e-5), key

    x = inputs.data((3, 2, 2, 2, 3))
    bn = nn.BatchNorm3d(2, momentum=0.3)
    case("volumes_twice", x, first=bn)
    for step in ("first", "second"):
        if step == "second":
            file.tensor("float32", "second", bn(torch.tensor(x, dtype=torch.float32)))
        file.tensor("float32", f"running_mean_{step}", bn.running_mean)
        file.tensor("float32", f"running_var_{step}", bn.running_var)
    bn.eval()
    file.tensor("float32", "eval", bn(torch.tensor(x, dtype=torch.float32)))

    x = inputs.data((8, 2, 3, 4))
    case("normalized_shapes", x, LayerNorm_3=nn.LayerNorm([2, 3, 4]), LayerNorm_2=nn.LayerNorm([3, 4]), LayerNorm_1=nn.LayerNorm([4]))
    for axes in [(1, 2, 3), (2, 3), (3,)]:
        statistics(axes, x)
    file.write()


for make_file in (batch_norm, instance_norm, layer_norm, textbook_layer_norm, group_norm, rms_norm, worked_cases):
    make_file()
