"""Networks with a time axis: settings, and their arithmetic written out as a direct sum."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes
from tests.support.networks import TINY_3D

# Kernels that act in time, in space and in both.
ALL, SPACE, TIME = (3, 3, 3, 3), (3, 3, 3), (3, 1, 1, 1)

TIME_NETWORKS: dict[str, dict[str, Any]] = {
    "time dropped at once": {"input_shape": [3, 20, 20, 20]},
    "time dropped at the deepest level": {
        "input_shape": [5, 20, 20, 20],
        "kernel_size_down": [[ALL, SPACE], [ALL, ALL]],
        "kernel_size_up": [[ALL, ALL]],
    },
    "time dropped on the way up": {
        "input_shape": [4, 20, 20, 20],
        "kernel_size_down": [[SPACE, ALL], [SPACE]],
        "kernel_size_up": [[SPACE, (2, 3, 3, 3)]],
    },
    "time kept": {
        "input_shape": [9, 20, 20, 20],
        "kernel_size_down": [[ALL, SPACE], [TIME, SPACE]],
        "kernel_size_up": [[SPACE, ALL]],
    },
    "time kept, even kernels, transposed, batch norm": {
        "input_shape": [6, 20, 20, 20],
        "kernel_size_down": [[(2, 3, 2, 3)], [(2, 2, 1, 3)]],
        "kernel_size_up": [[(2, 1, 3, 2)]],
        "downsample_factors": [[1, 2, 2]],
        "constant_upsample": False,
        "batch_norm": True,
    },
    "two levels whose skips crop time": {
        "input_shape": [9, 20, 20, 20],
        "downsample_factors": [[2, 2, 2], [1, 2, 2]],
        "kernel_size_down": [[(2, 3, 3, 3)], [(3, 1, 3, 3)], [(2, 3, 3, 3)]],
        "kernel_size_up": [[(3, 3, 3, 3)], [(2, 1, 3, 3)]],
    },
}


def time_config(name: str) -> CNNectomeUNetConfig:
    """The configuration of one of the networks."""
    return CNNectomeUNetConfig(name="time", **{**TINY_3D, **TIME_NETWORKS[name]})


def time_network(config: CNNectomeUNetConfig) -> tuple[nn.Module, UNetShapes]:
    """A network in eval mode with weights with which its output varies, and its shapes."""
    torch.manual_seed(0)
    network = CNNectomeUNet(config).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, 0.0, 0.3)
        elif parameter.dim() > 2:
            nn.init.kaiming_normal_(parameter)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
    return network, UNetShapes.from_config(config)


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """`[C, T, z, y, x]` and `[out, C, t, z, y, x]`: a sum over every tap, in float64."""
    shape = [n - k + 1 for n, k in zip(x.shape[1:], kernel.shape[2:], strict=True)]
    result = np.zeros((len(kernel), *shape)) + bias[:, None, None, None, None]
    for tap in product(*map(range, kernel.shape[2:])):
        window = tuple(slice(begin, begin + n) for begin, n in zip(tap, shape, strict=True))
        part = x[(slice(None), *window)]
        result += np.einsum("oc,ctzyx->otzyx", kernel[(slice(None), slice(None), *tap)], part)
    return result


def direct_sum(network: nn.Module, x: np.ndarray) -> np.ndarray:
    """The output `[K, T, z, y, x]` of a float64 network for `[C, T, z, y, x]`, without torch.

    Time is a dimension like the others from the first layer to the last, of one frame where it has
    been dropped.
    """
    unet: Any = network.unet
    return _level(unet, 0, x)


def _level(unet: Any, level: int, x: np.ndarray) -> np.ndarray:
    skip = _conv_pass(unet.l_conv[level], x)
    if level == unet.num_levels - 1:
        return skip
    below = _level(unet, level + 1, _pooled(skip, unet.l_down[level].downsample_factor))
    merge = unet.r_up[0][level]
    up = _upsampled(merge, below)
    kernels = [(1,) * (4 - len(k)) + tuple(k) for k in merge.next_conv_kernel_sizes]
    lost = [sum(k[axis] - 1 for k in kernels) for axis in range(4)]
    factors = (1, *merge.crop_factor)
    sizes = zip(up.shape[1:], lost, factors, strict=True)
    up = _centre(up, [(n - c) // f * f + c for n, c, f in sizes])
    merged = np.concatenate([_centre(skip, up.shape[1:]), up])
    return _conv_pass(unet.r_conv[0][level], merged)


def _conv_pass(conv_pass: Any, x: np.ndarray) -> np.ndarray:
    for layer in conv_pass.conv_pass:
        x = _applied(layer, x)
    return x


def _applied(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    if isinstance(layer, nn.ReLU):
        return np.maximum(x, 0)
    if isinstance(layer, nn.BatchNorm3d):
        mean, var = layer.running_mean.numpy(), layer.running_var.numpy()
        gain = layer.weight.detach().numpy() / np.sqrt(var + layer.eps)
        shift = layer.bias.detach().numpy() - mean * gain
        return x * gain[:, None, None, None, None] + shift[:, None, None, None, None]
    kernel = layer.weight.detach().numpy()
    kernel = kernel if kernel.ndim == 6 else kernel[:, :, None]
    return convolved(x, kernel, layer.bias.detach().numpy())


def _pooled(x: np.ndarray, factor: tuple[int, ...]) -> np.ndarray:
    z, y, xs = factor
    shape = (*x.shape[:2], x.shape[2] // z, z, x.shape[3] // y, y, x.shape[4] // xs, xs)
    return x.reshape(shape).max(axis=(3, 5, 7))


def _upsampled(merge: Any, x: np.ndarray) -> np.ndarray:
    layers = list(merge.up) if isinstance(merge.up, nn.Sequential) else [merge.up]
    first, *rest = layers
    if isinstance(first, nn.ConvTranspose3d):
        factor = first.stride
        size = [n * f for n, f in zip(x.shape[2:], factor, strict=True)]
        result = np.zeros((first.out_channels, x.shape[1], *size))
        kernel = first.weight.detach().numpy()
        for phase in product(*map(range, factor)):
            places = tuple(slice(p, None, f) for p, f in zip(phase, factor, strict=True))
            taps = kernel[(slice(None), slice(None), *phase)]
            result[(slice(None), slice(None), *places)] = np.einsum("co,ctzyx->otzyx", taps, x)
        x = result + first.bias.detach().numpy()[:, None, None, None, None]
    else:
        for axis, f in enumerate(first.scale_factor):
            x = x.repeat(int(f), axis=axis + 2)
    for layer in rest:
        x = _applied(layer, x)
    return x


def _centre(x: np.ndarray, shape: Any) -> np.ndarray:
    begins = [(n - wanted) // 2 for n, wanted in zip(x.shape[1:], shape, strict=True)]
    window = (slice(b, b + wanted) for b, wanted in zip(begins, shape, strict=True))
    return x[(slice(None), *window)]
