"""Reference numbers of the networks, by PyTorch: writes networks.json beside this file.

    python3 tests/golden/networks.py        # needs torch

Computed in f64. Parameters and inputs are not stored: both sides make them with `wave`, from the name and the shape
alone.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F


def wave(name, *shape):
    """sin(0.7 i + the sum of the name's bytes), times sqrt(2 / fan_in) for weights of 4 axes, 0.1 for biases and
    running means; norms' weights and running variances lie around 1; rounded to f32."""
    phase = sum(name.encode())
    n = math.prod(shape)
    v = torch.sin(torch.arange(n, dtype=torch.float64) * 0.7 + phase)
    if len(shape) == 4 and name.endswith("weight"):
        v = v * math.sqrt(2 / math.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        v = 1 + 0.1 * v
    elif name.endswith(("bias", "running_mean")):
        v = 0.1 * v
    return v.float().double().reshape(shape)


def conv(x, name, outputs, size=3, stride=1, pad=None, slope=0.0):
    weight = wave(name + ".weight", outputs, x.shape[1], size, size)
    y = F.conv2d(x, weight, wave(name + ".bias", outputs), stride, size // 2 if pad is None else pad)
    return F.leaky_relu(y, slope)


def bare(x, name, outputs, size, stride, pad):
    """A convolution without bias."""
    return F.conv2d(x, wave(name + ".weight", outputs, x.shape[1], size, size), None, stride, pad)


def batch_norm(x, name, eps=1e-5):
    whats = ("running_mean", "running_var", "weight", "bias")
    mean, var, scale, shift = (wave(f"{name}.{what}", x.shape[1]) for what in whats)
    return F.batch_norm(x, mean, var, scale, shift, eps=eps)


def decoder(deep, eighth, quarter, layer=conv):
    def join(coarse, skip, name, outputs):
        x = torch.cat([F.interpolate(coarse, scale_factor=2), skip], 1)
        return layer(layer(x, name + ".mix", outputs, 1), name + ".smooth", outputs, 3)

    x = layer(deep, "decoder.bottom", 192, 3)
    x = x + conv(deep.mean((2, 3), keepdim=True), "decoder.global", 192, 1, slope=1.0)
    x = join(x, eighth, "decoder.join8", 128)
    x = join(x, quarter, "decoder.join4", 96)
    return torch.tanh(conv(x, "decoder.head", 2, slope=1.0))


def squeeze(x):
    def fire(x, n):
        expand = 64 * (n // 2)
        s = conv(x, f"fire{n}.squeeze", expand // 4, 1)
        return torch.cat([conv(s, f"fire{n}.expand1x1", expand, 1), conv(s, f"fire{n}.expand3x3", expand)], 1)

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    x = pool(conv(x, "conv1", 96, 7, 2, 3))
    for n in (2, 3, 4):
        x = fire(x, n)
    quarter, x = x, pool(x)
    for n in (5, 6, 7, 8):
        x = fire(x, n)
    return decoder(fire(pool(x), 9), x, quarter)


def lite(x):
    def normed(x, name, outputs, size, stride=1, groups=1):
        before = (size - stride) // 2
        after = size - stride - before
        weight = wave(name + ".weight", outputs, x.shape[1] // groups, size, size)
        x = F.conv2d(F.pad(x, (before, after, before, after)), weight, stride=stride, groups=groups)
        return batch_norm(x, name + ".bn", eps=1e-3)

    def block(x, name, size, stride, expand, outputs):
        y, wide = x, x.shape[1] * expand
        if expand > 1:
            y = F.relu6(normed(y, name + ".expand", wide, 1))
        y = F.relu6(normed(y, name + ".depthwise", wide, size, stride, wide))
        y = normed(y, name + ".project", outputs, 1)
        return x + y if y.shape == x.shape else y

    # EfficientNet-B0's table: kernel, stride, expansion, channels of each block.
    blocks = [(3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40), (3, 2, 6, 80)]
    blocks += [(3, 1, 6, 80)] * 2 + [(5, 1, 6, 112)] * 3 + [(5, 2, 6, 192)] + [(5, 1, 6, 192)] * 3 + [(3, 1, 6, 320)]
    x = F.relu6(normed(x, "stem", 32, 3, 2))
    at = {}
    for i, (size, stride, expand, outputs) in enumerate(blocks):
        x = block(x, f"blocks.{i}", size, stride, expand, outputs)
        at[i] = x
    # The last maps at 1/4, 1/8 and 1/16 of the input; x is at 1/32.
    quarter, eighth, sixteenth = at[2], at[4], at[10]
    deep = torch.cat([F.interpolate(x, scale_factor=2), sixteenth], 1)
    layer = lambda x, name, outputs, size: F.relu(normed(x, name, outputs, size))
    return decoder(layer(deep, "decoder.mix16", 192, 1), eighth, quarter, layer)


def unet(x, channels=16, depth=5, skips=True):
    """Named as the modules of the authors' code are numbered: activations count."""

    def level(x, i, name):
        width, outside = channels << min(i, 3), x.shape[1] if i else 2
        outermost, innermost = i == 0, i == depth - 1
        down, below, up = (0, 1, 3) if outermost else (1, None, 3) if innermost else (1, 3, 5)
        y = inside = bare(x, f"{name}.model.{down}", width, 4, 2, 1)
        if not (outermost or innermost):
            y = inside = batch_norm(inside, f"{name}.model.{down + 1}")
        if not innermost:
            y = level(F.leaky_relu(inside, 0.2), i + 1, f"{name}.model.{below}")
            y = torch.cat([inside, y], 1) if skips else y
        y = F.relu(y)
        weight = wave(f"{name}.model.{up}.weight", y.shape[1], outside, 4, 4)
        bias = wave(f"{name}.model.{up}.bias", outside) if outermost else None
        y = F.conv_transpose2d(y, weight, bias, 2, 1)
        return y if outermost else batch_norm(y, f"{name}.model.{up + 1}")

    return torch.tanh(level(x, 0, "model"))


def encoder_decoder(x):
    return unet(x, skips=False)


def resnet(x, channels=16, blocks=6):
    def layer(x, name, outputs, size, stride=1):
        return batch_norm(bare(x, name, outputs, size, stride, size // 2), name + ".bn")

    x = F.relu(layer(x, "stem", channels, 7))
    x = F.relu(layer(x, "down1", 2 * channels, 3, 2))
    x = F.relu(layer(x, "down2", 4 * channels, 3, 2))
    for i in range(blocks):
        y = F.relu(layer(x, f"blocks.{i}.first", 4 * channels, 3))
        x = x + layer(y, f"blocks.{i}.second", 4 * channels, 3)
    x = F.relu(layer(F.interpolate(x, scale_factor=2), "up1", 2 * channels, 3))
    x = F.relu(layer(F.interpolate(x, scale_factor=2), "up2", channels, 3))
    return torch.tanh(conv(x, "head", 2, 7, slope=1.0))


def patchgan(l, ab, channels=64, layers=3):
    x = conv(torch.cat([l, ab], 1), "model.0", channels, 4, 2, 1, slope=0.2)
    for i in range(1, layers + 1):
        x = bare(x, f"model.{3 * i - 1}", channels << min(i, 3), 4, 2 if i < layers else 1, 1)
        x = F.leaky_relu(batch_norm(x, f"model.{3 * i}"), 0.2)
    return conv(x, f"model.{3 * layers + 2}", 1, 4, 1, 1, slope=1.0)


def numbers(y):
    """[N, C, H, W] to what is stored: the shape, and every 37th value in the order C, N, H, W."""
    y = y.transpose(0, 1).contiguous()
    return {"shape": list(y.shape), "every_37th": [float(v) for v in y.flatten()[::37]]}


def main():
    torch.set_grad_enabled(False)
    l = wave("input", 1, 2, 64, 96).transpose(0, 1)
    ab = wave("chroma", 2, 2, 64, 96).transpose(0, 1)
    generators = (squeeze, lite, unet, encoder_decoder, resnet)
    golden = {f.__name__.replace("_", "-"): numbers(f(l)) for f in generators}
    golden["patchgan"] = numbers(patchgan(l, ab))
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
