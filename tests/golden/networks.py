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
    running means; norm weights and running variances lie around 1; rounded to f32."""
    phase = sum(name.encode())
    n = math.prod(shape)
    v = torch.sin(torch.arange(n, dtype=torch.float64) * 0.7 + phase)
    if len(shape) == 4 and name.endswith("weight"):
        v = v * math.sqrt(2 / math.prod(shape[1:]))
    elif name.endswith(("norm.weight", "bn.weight", "running_var")):
        v = 1 + 0.1 * v
    elif name.endswith(("bias", "running_mean")):
        v = 0.1 * v
    return v.float().double().reshape(shape)


def conv(x, name, outputs, size=3, stride=1, pad=None, slope=0.0):
    weight = wave(name + ".weight", outputs, x.shape[1], size, size)
    y = F.conv2d(x, weight, wave(name + ".bias", outputs), stride, size // 2 if pad is None else pad)
    return F.leaky_relu(y, slope)


def up(x, name, outputs):
    weight = wave(name + ".weight", x.shape[1], outputs, 4, 4)
    return F.conv_transpose2d(x, weight, wave(name + ".bias", outputs), 2, 1)


def norm(x, name):
    c = x.shape[1]
    return F.group_norm(x, max(c // 8, 1), wave(name + ".weight", c), wave(name + ".bias", c))


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
        mean, var, scale, shift = (
            wave(f"{name}.bn.{what}", outputs) for what in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, scale, shift, eps=1e-3)

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


def unet(x, channels=64, depth=5):
    def width(level):
        return channels << min(level, 3)

    def level(x, i):
        inside = conv(x, f"{i}.down", width(i), 4, 2, 1, slope=1.0)
        if 0 < i < depth - 1:
            inside = norm(inside, f"{i}.down_norm")
        y = inside
        if i < depth - 1:
            y = torch.cat([inside, level(F.leaky_relu(inside, 0.2), i + 1)], 1)
        y = up(F.relu(y), f"{i}.up", x.shape[1] if i else 2)
        return norm(y, f"{i}.up_norm") if i else y

    return torch.tanh(level(x, 0))


def patchgan(l, ab, channels=64, layers=3):
    x = conv(torch.cat([l, ab], 1), "0.conv", channels, 4, 2, 1, slope=0.2)
    for i in range(1, layers + 1):
        outputs = channels << min(i, 3)
        x = conv(x, f"{i}.conv", outputs, 4, 2 if i < layers else 1, 1, slope=1.0)
        x = F.leaky_relu(norm(x, f"{i}.norm"), 0.2)
    return conv(x, "last", 1, 4, 1, 1, slope=1.0)


def numbers(y):
    """[N, C, H, W] to what is stored: the shape, and every 37th value in the order C, N, H, W."""
    y = y.transpose(0, 1).contiguous()
    return {"shape": list(y.shape), "every_37th": [float(v) for v in y.flatten()[::37]]}


def main():
    torch.set_grad_enabled(False)
    l = wave("input", 1, 2, 64, 96).transpose(0, 1)
    ab = wave("chroma", 2, 2, 64, 96).transpose(0, 1)
    golden = {f.__name__: numbers(f(l)) for f in (squeeze, lite, unet)}
    golden["patchgan"] = numbers(patchgan(l, ab))
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
