"""Reference numbers of the discriminators in training, by PyTorch: writes critic.safetensors beside this file.

    python3 tests/golden/critic.py        # needs torch, numpy and safetensors

Modules are nested as in pix2pix's PyTorch code, so that parameters have its names. Computed in f64, stored in f32.
Stored: the input `x` and the cotangent `g` of the patches, `pixel.g` that of the pixels; each parameter under its name;
of every case "<case>.y", the logits, "<case>.dx" and "<case>.<parameter>", the gradients of <y, g>; of spectral
normalisation also "<weight>_u", the vector before the pass, and "sigma.<weight>", the largest singular value.
"""

import math
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

CHANNELS = 6
NORMS = {
    "none": lambda c: nn.Identity(),
    "spectral": lambda c: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
    "group": lambda c: nn.GroupNorm(max(c // 8, 1), c),
}


class Patches(nn.Module):
    """The receptive field is 34 px: two layers of stride 2."""

    def __init__(self, norm):
        super().__init__()
        bias, c = norm != "batch", CHANNELS
        wrap = nn.utils.spectral_norm if norm == "spectral" else lambda layer: layer
        conv = lambda i, o, stride, bias=True: wrap(nn.Conv2d(i, o, 4, stride, 1, bias=bias))
        layers = [conv(3, c, 2), nn.LeakyReLU(0.2)]
        for i, o, stride in [(c, 2 * c, 2), (2 * c, 4 * c, 1)]:
            layers += [conv(i, o, stride, bias), NORMS[norm](o), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, conv(4 * c, 1, 1))

    def forward(self, x):
        return self.model(x)


class Pixels(nn.Module):
    def __init__(self, norm):
        super().__init__()
        bias, c = norm != "batch", CHANNELS
        last = nn.Conv2d(2 * c, 1, 1, bias=bias)
        middle = [nn.Conv2d(c, 2 * c, 1, bias=bias), NORMS[norm](2 * c), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(nn.Conv2d(3, c, 1), nn.LeakyReLU(0.2), *middle, last)

    def forward(self, x):
        return self.net(x)


def drawn(name, shape):
    """Near what a trained one has; the same for the same name and shape."""
    noise = torch.Generator().manual_seed(sum(name.encode()) * 1000 + len(shape))
    value = torch.randn(shape, generator=noise)
    if len(shape) == 4:
        value = value / math.prod(shape[1:]) ** 0.5
    elif name.endswith("weight"):
        value = 1 + 0.2 * value
    elif name.endswith("bias"):
        value = 0.2 * value
    else:
        value = value / value.norm()
    return value.float().double()


def case(name, net, x, g, stored):
    plain = lambda p: p.removesuffix("_orig")
    vectors = {n: b for n, b in net.named_buffers() if n.endswith("weight_u")}
    parameters = dict(net.named_parameters())
    for n, tensor in list(vectors.items()) + [(plain(n), p) for n, p in parameters.items()]:
        value = drawn(n, tensor.shape)
        tensor.data = value.clone()  # the vectors are changed in place
        assert torch.equal(stored.setdefault(n, value), value), n
    x = x.clone().requires_grad_()
    y = net(x)
    assert y.shape == g.shape, y.shape
    found = torch.autograd.grad((y * g).sum(), [x, *parameters.values()])
    stored |= {f"{name}.{n}": d for n, d in zip(["dx", *map(plain, parameters)], found)}
    stored[f"{name}.y"] = y
    for n in vectors:
        weight = parameters[n.removesuffix("_u") + "_orig"]
        stored["sigma." + n.removesuffix("_u")] = torch.linalg.svdvals(weight.flatten(1))[:1]


def main():
    torch.set_default_dtype(torch.float64)
    x, g, pixel_g = drawn("x", (2, 3, 24, 32)), drawn("g", (2, 1, 4, 6)), drawn("g", (2, 1, 24, 32))
    x, g, pixel_g = (t * t.numel() ** 0.5 * 0.5 for t in (x, g, pixel_g))
    x, g, pixel_g = (t.float().double() for t in (x, g, pixel_g))
    stored = {"x": x, "g": g, "pixel.g": pixel_g}
    for norm in NORMS:
        case(norm, Patches(norm), x, g, stored)
    case("pixel", Pixels("instance"), x, pixel_g, stored)
    # Pictures are [N, H, W, C], weights as they are.
    pictures = ("x", "g", "y", "dx")
    turned = lambda n, t: t.permute(0, 2, 3, 1) if n.split(".")[-1] in pictures else t
    tensors = {n: turned(n, t.detach()).float().contiguous() for n, t in stored.items()}
    save_file(tensors, pathlib.Path(__file__).with_suffix(".safetensors"))


if __name__ == "__main__":
    main()
