# SPDX-License-Identifier: MIT
"""torch.compile (inductor, its default options) of one case; torch_compile.cpp calls it.

The tensor-sized result goes to the case's own memory (`copy_` is fused into the kernel); only small results are allocated.
"""
import ctypes
import functools
import math
import os
import shutil
import statistics
import sys
import time
import types

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")  # their key does not have the instruction set
# Debian's torch does not load sleef, and inductor, which tries its vector code in a process of its own, then silently
# writes scalar code, several times slower.
SLEEF = "libsleef.so.3"
try:
    ctypes.CDLL(SLEEF, mode=ctypes.RTLD_GLOBAL)
    os.environ["LD_PRELOAD"] = SLEEF
except OSError:
    pass
sys.executable = shutil.which("python3")  # for that process: embedded, there may be none

import torch  # noqa: E402  (after sleef)
from torch._inductor.cpu_vec_isa import pick_vec_isa  # noqa: E402

aten = torch.ops.aten
ALL_GRADIENTS = [True, True, True]
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def version():
    return torch.__version__


def instruction_set():
    found = pick_vec_isa()
    return str(found).split()[0] if found else "scalar code"


def compiled(function):
    # A code object of its own: or all shapes would share one list of compilations, searched at every call.
    own = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__,
                             function.__defaults__, function.__closure__)
    return torch.compile(own, dynamic=False, fullgraph=True)


@functools.cache
def call_overhead():
    """Nanoseconds of a compiled function of six arguments that does nothing."""
    one = torch.zeros(1)
    nothing = compiled(lambda a, b, c, d, e, f: f.add_(1))
    calls, times = 200, []
    for _ in range(25):
        start = time.perf_counter_ns()
        for _ in range(calls):
            nothing(one, one, one, one, one, one)
        times.append((time.perf_counter_ns() - start) / calls)
    return statistics.median(times)


def vector(address, count):
    return torch.frombuffer((ctypes.c_float * count).from_address(address), dtype=torch.float32)


def channels_second(address, shape, channels_last):
    """A view with the axes (N, C, spatial...), wherever the channels stand in memory."""
    flat = vector(address, math.prod(shape))
    if not channels_last:
        return flat.view(shape)
    return flat.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def layer_norm(job, x, dy, result, weight, bias, eps):
    shape = [x.shape[1]]
    if job != "backward":
        def forward(x, weight, bias, result):
            y, mean, rstd = aten.native_layer_norm(x, shape, weight, bias, eps)
            result.copy_(y)
            return mean, rstd
        return forward, (x, weight, bias, result)

    def backward(dy, x, mean, rstd, weight, bias, result):
        dx, dweight, dbias = aten.native_layer_norm_backward(dy, x, shape, mean, rstd, weight, bias, ALL_GRADIENTS)
        result.copy_(dx)
        return dweight, dbias
    _, mean, rstd = aten.native_layer_norm(x, shape, weight, bias, eps)
    return backward, (dy, x, mean, rstd, weight, bias, result)


def rms_norm(job, x, dy, result, weight, eps):
    def rstd_of(x):
        return torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    if job != "backward":
        def forward(x, weight, result):
            rstd = rstd_of(x)
            result.copy_(x * rstd * weight)
            return rstd
        return forward, (x, weight, result)

    def backward(dy, x, rstd, weight, result):
        dnorm, norm = dy * weight, x * rstd
        result.copy_((dnorm - norm * (dnorm * norm).mean(-1, keepdim=True)) * rstd)
        return (dy * norm).sum(0)
    return backward, (dy, x, rstd_of(x), weight, result)


def group_norm(job, x, dy, result, weight, bias, groups, eps):
    sizes = (x.shape[0], x.shape[1], math.prod(x.shape[2:]), groups)
    if job != "backward":
        def forward(x, weight, bias, result):
            y, mean, rstd = aten.native_group_norm(x, weight, bias, *sizes, eps)
            result.copy_(y)
            return mean, rstd
        return forward, (x, weight, bias, result)

    def backward(dy, x, mean, rstd, weight, result):
        dx, dweight, dbias = aten.native_group_norm_backward(dy, x, mean, rstd, weight, *sizes, ALL_GRADIENTS)
        result.copy_(dx)
        return dweight, dbias
    _, mean, rstd = aten.native_group_norm(x, weight, bias, *sizes, eps)
    return backward, (dy, x, mean, rstd, weight, result)


def batch_norm(job, x, dy, result, weight, bias, mean, variance, eps):
    if job == "eval":
        def evaluate(x, weight, bias, mean, variance, result):
            result.copy_(aten._native_batch_norm_legit_no_training(x, weight, bias, mean, variance, 0.1, eps)[0])
        return evaluate, (x, weight, bias, mean, variance, result)

    mean, variance = mean.clone(), variance.clone()  # they move in training, and others read them
    if job == "forward":
        def forward(x, weight, bias, mean, variance, result):
            y, saved_mean, saved_rstd, new_mean, new_variance = aten._native_batch_norm_legit_functional(
                x, weight, bias, mean, variance, True, 0.1, eps)
            result.copy_(y)
            mean.copy_(new_mean)
            variance.copy_(new_variance)
            return saved_mean, saved_rstd
        return forward, (x, weight, bias, mean, variance, result)

    def backward(dy, x, weight, mean, variance, saved_mean, saved_rstd, result):
        dx, dweight, dbias = aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, saved_mean, saved_rstd, True, eps, ALL_GRADIENTS)
        result.copy_(dx)
        return dweight, dbias
    _, saved_mean, saved_rstd = aten.native_batch_norm(x, weight, bias, None, None, True, 0.1, eps)
    return backward, (dy, x, weight, mean, variance, saved_mean, saved_rstd, result)


def function_of(layer, job, shape, channels_last, groups, eps, x, dy, result, weight, bias, mean, variance):
    """A function and its arguments."""
    x, dy, result = (channels_second(address, shape, channels_last) for address in (x, dy, result))
    weight, bias, = (vector(address, shape[1]) for address in (weight, bias))
    if layer == "layer_norm":
        return layer_norm(job, x, dy, result, weight, bias, eps)
    if layer == "rms_norm":
        return rms_norm(job, x, dy, result, weight, eps)
    if layer == "group_norm":
        return group_norm(job, x, dy, result, weight, bias, groups, eps)
    if layer == "instance_norm":  # as torch does it: the batch norm of one image of N * C channels
        if channels_last:
            return None
        images, channels = shape[:2]
        x, dy, result = (tensor.view(1, images * channels, *shape[2:]) for tensor in (x, dy, result))
        weight, bias = weight.repeat(images), bias.repeat(images)
        return batch_norm(job, x, dy, result, weight, bias, torch.zeros_like(weight), torch.ones_like(weight), eps)
    mean, variance = (vector(address, shape[1]) for address in (mean, variance))
    return batch_norm(job, x, dy, result, weight, bias, mean, variance, eps)


_kept = {}  # a network repeats its shapes: one compilation for each


def compiled_case(layer, job, shape, channels_last, groups, eps, **memory):
    """A function without arguments that does the case's job, or None."""
    made = function_of(layer, job, list(shape), channels_last, groups, eps, **memory)
    if made is None:
        return None
    function, arguments = made
    key = (layer, job, tuple(shape), channels_last, groups)
    if key not in _kept:
        _kept[key] = compiled(function)
        _kept[key](*arguments)
    ready = _kept[key]
    return lambda: ready(*arguments)
