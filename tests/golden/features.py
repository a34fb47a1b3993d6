"""Reference numbers of SqueezeNet's features and of their gradient, by PyTorch: writes features.json beside this file.

    python3 tests/golden/features.py        # needs torch

The original: B, G, R of 0..255 less the means, no padding in the first layer. Computed in f64; parameters and pictures
are not stored: both sides make them with `wave`, as in networks.py.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

from networks import conv, numbers, wave


def fire(x, n):
    expand = 64 * (n // 2)
    s = conv(x, f"fire{n}.squeeze", expand // 4, 1)
    return torch.cat([conv(s, f"fire{n}.expand1x1", expand, 1), conv(s, f"fire{n}.expand3x3", expand)], 1)


def features(rgb):
    """[N, 3, H, W] of 0..1 to what every layer makes of it."""
    means = torch.tensor([104.0, 117.0, 123.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    x = rgb.flip(1) * 255 - means
    x = conv(x, "conv1", 96, 7, 2, 0)
    made = {"relu1": x}
    for n in range(2, 10):
        if n in (2, 5, 9):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = fire(x, n)
        made[f"fire{n}"] = x
    return made


def main():
    rgb = ((wave("picture", 3, 2, 46, 61) + 1) / 2).transpose(0, 1).contiguous().requires_grad_()
    made = features(rgb)
    last = made["fire9"]
    (last * wave("cotangent", *last.transpose(0, 1).shape).transpose(0, 1)).sum().backward()
    golden = {name: numbers(made[name].detach()) for name in ("relu1", "fire3", "fire5", "fire8", "fire9")}
    golden["gradient"] = numbers(rgb.grad)
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
