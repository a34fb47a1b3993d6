"""Reference numbers of the networks, by PyTorch: writes networks.json beside this file.

    python3 tests/golden/networks.py        # needs torch

Computed in f64. Parameters and inputs are not stored: both sides make them with `wave`, from the name and the shape
alone.
"""

import functools
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


@functools.cache
def bins():
    """Centres of the cells of 10 x 10 units of (a, b) that some 8-bit colour of sRGB lies in (CIE 1976, D65)."""
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    levels = torch.arange(256, dtype=torch.float64) / 255
    linear = torch.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
    cells = set()
    for red in linear:
        rgb = torch.stack(torch.meshgrid(red, linear, linear, indexing="ij"), -1).reshape(-1, 3)
        t = rgb @ torch.tensor(matrix, dtype=torch.float64).T / torch.tensor([0.95047, 1.0, 1.08883])
        f = torch.where(t > (6 / 29) ** 3, t ** (1 / 3), t / (3 * (6 / 29) ** 2) + 4 / 29)
        ab = torch.stack([500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        cells |= {tuple(cell) for cell in (ab / 10).round().int().unique(dim=0).tolist()}
    return torch.tensor(sorted(cells), dtype=torch.float64) * 10


def decoded(logits, k=0.4, temperature=0.38):
    """The annealed mean of the bins, in network units."""
    centres = bins()
    prior = (1 + 0.8 * wave("head.prior", len(centres))) / len(centres)
    z = logits - k * prior.log()[:, None, None]
    return torch.einsum("nqhw,qc->nchw", torch.softmax(z / temperature, 1), centres / 110)


def decoder(deep, eighth, quarter, layer=conv, head="regression"):
    def join(coarse, skip, name, outputs):
        x = torch.cat([F.interpolate(coarse, scale_factor=2), skip], 1)
        return layer(layer(x, name + ".mix", outputs, 1), name + ".smooth", outputs, 3)

    x = layer(deep, "decoder.bottom", 192, 3)
    x = x + conv(deep.mean((2, 3), keepdim=True), "decoder.global", 192, 1, slope=1.0)
    x = join(x, eighth, "decoder.join8", 128)
    x = join(x, quarter, "decoder.join4", 96)
    if head == "classification":
        return decoded(conv(x, "decoder.head", 261, slope=1.0))
    return torch.tanh(conv(x, "decoder.head", 2, slope=1.0))


def squeeze(x, head="regression"):
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
    return decoder(fire(pool(x), 9), x, quarter, head=head)


def lite(x, head="classification", cut=False, norm="batch", blur=False):
    def normed(x, name, outputs, size, stride=1, groups=1):
        before = (size - stride) // 2
        after = size - stride - before
        weight = wave(name + ".weight", outputs, x.shape[1] // groups, size, size)
        x = F.conv2d(F.pad(x, (before, after, before, after)), weight, stride=stride, groups=groups)
        return batch_norm(x, name + ".bn", eps=1e-3)

    def group_normed(x, name, outputs, size):
        x = F.conv2d(x, wave(name + ".weight", outputs, x.shape[1], size, size), padding=size // 2)
        return F.group_norm(x, outputs // 8, wave(name + ".bn.weight", outputs), wave(name + ".bn.bias", outputs), 1e-5)

    def shrinking(x, name, outputs, size, stride, groups=1):
        if not blur or stride == 1:
            return F.relu6(normed(x, name, outputs, size, stride, groups))
        x = F.pad(F.relu6(normed(x, name, outputs, size, 1, groups)), (0, 1, 0, 1))
        row = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
        return F.conv2d(x, torch.outer(row, row).expand(outputs, 1, 3, 3), stride=2, groups=outputs)

    def block(x, name, size, stride, expand, outputs):
        y, wide = x, x.shape[1] * expand
        if expand > 1:
            y = F.relu6(normed(y, name + ".expand", wide, 1))
        y = shrinking(y, name + ".depthwise", wide, size, stride, wide)
        y = normed(y, name + ".project", outputs, 1)
        return x + y if y.shape == x.shape else y

    # EfficientNet-B0's table: kernel, stride, expansion, channels of each block.
    blocks = [(3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40), (3, 2, 6, 80)]
    blocks += [(3, 1, 6, 80)] * 2 + [(5, 1, 6, 112)] * 3 + [(5, 2, 6, 192)] + [(5, 1, 6, 192)] * 3 + [(3, 1, 6, 320)]
    x = shrinking(x, "stem", 32, 3, 2)
    at = {}
    for i, (size, stride, expand, outputs) in enumerate(blocks[:11] if cut else blocks):
        x = block(x, f"blocks.{i}", size, stride, expand, outputs)
        at[i] = x
    # The last maps at 1/4, 1/8 and 1/16 of the input; x is at 1/32.
    quarter, eighth, sixteenth = at[2], at[4], at[10]
    deep = sixteenth if cut else torch.cat([F.interpolate(x, scale_factor=2), sixteenth], 1)
    decoder_norm = normed if norm == "batch" else group_normed
    layer = lambda x, name, outputs, size: F.relu(decoder_norm(x, name, outputs, size))
    return decoder(layer(deep, "decoder.mix16", 192, 1), eighth, quarter, layer, head)


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
    # Other settings, named as the tests name them.
    variants = {
        squeeze: ['{"head": "classification"}'],
        lite: ['{"head": "regression"}', '{"cut": true}', '{"norm": "group", "cut": true}', '{"blur": true}'],
    }
    for f, all_settings in variants.items():
        golden |= {f"{f.__name__} {settings}": numbers(f(l, **json.loads(settings))) for settings in all_settings}
    golden["patchgan"] = numbers(patchgan(l, ab))
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
