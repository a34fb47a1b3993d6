"""Reference values and gradients of the training losses, by PyTorch: writes objectives.safetensors beside this file.

    python3 tests/golden/objectives.py        # needs numpy, torch and safetensors

Computed in f64, stored in f32. Inputs are not stored: both sides make them with `wave`, from the name and the shape
alone. Pictures are [N, H, W, C]. "<loss>.value" is the value, "<loss>.d<input>" its gradient. Losses are written with
PyTorch's own functions wherever it has one.
"""

import math
import pathlib

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

H, W = 16, 12
CLASSES = 13


def wave(name, shape, scale=1.0, shift=0.0):
    """scale * sin(0.7 i + the sum of the name's bytes) + shift, rounded to f32."""
    values = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7 + sum(name.encode()))
    return (scale * values + shift).float().double().reshape(shape)


LEAVES = {
    "ab": wave("ab", (2, H, W, 2), 0.5),
    "logits": wave("logits", (2, H, W, CLASSES), 3),
    "judged": wave("judged", (2, 3, 3, 1), 2),
    "real": wave("real", (2, 3, 3, 1), 2, 0.5),
    "fake": wave("fake", (2, 3, 3, 1), 2),
    "again": wave("again", (2, H, W, 2), 0.5),
}
# Parameters of a small critic, with and without lightness.
for kind, channels in (("with", 3), ("alone", 2)):
    LEAVES |= {
        f"{kind}.first.weight": wave(f"{kind}.first.weight", (8, channels, 4, 4), 0.2),
        f"{kind}.first.bias": wave(f"{kind}.first.bias", (8,), 0.1),
        f"{kind}.last.weight": wave(f"{kind}.last.weight", (1, 8, 4, 4), 0.2),
        f"{kind}.last.bias": wave(f"{kind}.last.bias", (1,), 0.1),
    }
L = wave("l", (2, 2 * H, 2 * W, 1), 0.7, 0.1)
SMALL_L = wave("small l", (2, H, W, 1), 0.7, 0.1)
EPS = torch.tensor([0.3, 0.8]).double().reshape(2, 1, 1, 1)
TRUTH = wave("truth", (2, H, W, 2), 0.4)
GRID = torch.arange(CLASSES)
# CIE units.
BINS = (torch.stack([GRID % 4, GRID // 4], 1).double() - 1.5) * 10
WEIGHTS = (0.5 + 0.1 * GRID.double()).float().double()


def logistic(scores, target):
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


def soft_classes(colours):
    """Zhang's soft encoding as a dense [.., Q]: the 5 nearest bins, sigma 5 CIE units."""
    squares = (colours[..., None, :] * 110 - BINS).square().sum(-1)
    near = squares.topk(5, largest=False)
    shares = torch.softmax(-near.values / (2 * 5**2), -1)
    return torch.zeros_like(squares).scatter(-1, near.indices, shares)


def cross_entropies(logits):
    return F.cross_entropy(planes(logits), planes(soft_classes(TRUTH)), reduction="none")


def planes(x):
    """[N, H, W, C] to PyTorch's [N, C, H, W]."""
    return x.permute(0, 3, 1, 2)


def penalty(kind, lightness, *params):
    """WGAN-GP's, the slope along ab alone, D the mean over patches."""
    ab = (EPS * TRUTH + (1 - EPS) * LEAVES["ab"]).requires_grad_()
    pair = ab if lightness is None else torch.cat([lightness, ab], 3)
    w1, b1, w2, b2 = params
    hidden = F.leaky_relu(F.conv2d(planes(pair), w1, b1, stride=2, padding=1), 0.2)
    scores = F.conv2d(hidden, w2, b2, stride=1, padding=1).mean((1, 2, 3))
    (slope,) = torch.autograd.grad(scores.sum(), ab, create_graph=True)
    norms = (slope.square().sum((1, 2, 3)) + 1e-12).sqrt()
    return 10 * (norms - 1).square().mean()


RGB_TO_XYZ = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]


def srgb(ab):
    """Encoded sRGB 0..1, clipped, of L and of ab as blocks of 2 x 2, after scikit-image's lab2rgb."""
    lightness = 50 * (L + 1)
    ab = 110 * ab.repeat_interleave(2, 1).repeat_interleave(2, 2)
    fy = (lightness + 16) / 116
    f = torch.cat([fy + ab[..., :1] / 500, fy, fy - ab[..., 1:] / 200], 3)
    xyz = torch.where(f > 6 / 29, f**3, (f - 16 / 116) / 7.787037) * torch.tensor([0.95047, 1.0, 1.08883])
    linear = (xyz @ torch.tensor(numpy.linalg.inv(RGB_TO_XYZ)).T).clip(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear.clip(min=0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)


def colourfulness(ab):
    rgb = 255 * srgb(ab)
    r, g, b = (rgb[..., i].flatten(1) for i in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    spread = (rg.var(1, correction=0) + yb.var(1, correction=0) + 1e-6).sqrt()
    return spread + 0.3 * (rg.mean(1) ** 2 + yb.mean(1) ** 2 + 1e-6).sqrt()


def conv(x, name, out, size, stride=1):
    """A convolution with waves for weights, and ReLU."""
    shape = (out, x.shape[1], size, size)
    weight = wave(f"{name}.weight", shape, 2 / math.sqrt(math.prod(shape[1:])))
    bias = wave(f"{name}.bias", (out,), 0.1)
    return F.relu(F.conv2d(x, weight, bias, stride, 0 if stride > 1 else size // 2))


def fire(x, number):
    expand = 64 * (number // 2)
    x = conv(x, f"fire{number}.squeeze", expand // 4, 1)
    return torch.cat([conv(x, f"fire{number}.expand1x1", expand, 1), conv(x, f"fire{number}.expand3x3", expand, 3)], 1)


def features(ab):
    """SqueezeNet v1.0 on B, G, R of 0..255 less their means, after conv1, fire3 and fire5."""
    pool = lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)
    bgr = 255 * srgb(ab).flip(3) - torch.tensor([104.0, 117.0, 123.0])
    relu1 = conv(planes(bgr), "conv1", 96, 7, 2)
    fire3 = fire(fire(pool(relu1), 2), 3)
    return relu1, fire3, fire(pool(fire(fire3, 4)), 5)


def perceptual(ab):
    pairs = zip(features(ab), features(TRUTH))
    ratio = lambda made, truth: (made - truth).abs().mean((1, 2, 3)) / (truth.abs().mean((1, 2, 3)) + 1e-6)
    return sum(ratio(*pair).mean() for pair in pairs) / 3


def gram(f):
    return torch.einsum("nchw,ndhw->ncd", f, f) / f[0].numel()


def style(ab):
    pairs = zip(map(gram, features(ab)), map(gram, features(TRUTH)))
    ratio = lambda made, truth: (made - truth).square().sum((1, 2)) / (truth.square().sum((1, 2)) + 1e-6)
    return sum(ratio(*pair).mean() for pair in pairs) / 3


# Angle, zoom, shift down and right in heights.
MOTIONS = [(0.02, 1.01, 0.015, -0.01), (-0.1, 0.9, 0.05, 0.1)]


def stability(again, ab):
    matrices, inside = [], []
    for angle, zoom, down, right in MOTIONS:
        sin, cos = zoom * math.sin(angle), zoom * math.cos(angle)
        # grid_sample counts (right, down) in halves of the width and of the height.
        matrices.append([[cos, sin * H / W, 2 * right * H / W], [-sin * W / H, cos, 2 * down]])
    grid = F.affine_grid(torch.tensor(matrices).double(), (2, 2, H, W), align_corners=False)
    warped = F.grid_sample(planes(ab), grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
    inside = ((grid.abs() <= 1 - 1 / torch.tensor([W, H])).all(3, keepdim=True)).double()
    return ((again - warped).abs() * inside).sum() / (2 * inside.sum() + 1e-6)


# By name: the loss as a function of its inputs, whose names are its arguments.
LOSSES = {
    "l1": lambda ab: F.l1_loss(ab, TRUTH),
    # PyTorch's smooth_l1 is d^2 / (2 beta), then d - beta / 2.
    "huber": lambda ab: F.smooth_l1_loss(ab, TRUTH, beta=0.1),
    "cross-entropy": lambda logits: cross_entropies(logits).mean(),
    "cross-entropy-rebalanced": lambda logits: (
        cross_entropies(logits) * WEIGHTS[soft_classes(TRUTH).argmax(-1)]
    ).mean(),
    "perceptual": perceptual,
    "style": style,
    "colourfulness": lambda ab: ((colourfulness(ab) - colourfulness(TRUTH)).abs() / 100).mean(),
    "stability": stability,
    "gan/minimax": lambda judged: -logistic(judged, 0.0),
    "gan/nonsaturating": lambda judged: logistic(judged, 1.0),
    "gan/lsgan": lambda judged: F.mse_loss(judged, torch.ones_like(judged)) / 2,
    "gan/wgan-gp": lambda judged: -judged.mean(),
    "gan/hinge": lambda judged: -judged.mean(),
    "discriminator/minimax": lambda real, fake: (logistic(real, 1.0) + logistic(fake, 0.0)) / 2,
    "discriminator/nonsaturating": lambda real, fake: (logistic(real, 1.0) + logistic(fake, 0.0)) / 2,
    "discriminator/lsgan": lambda real, fake: (
        F.mse_loss(real, torch.ones_like(real)) + F.mse_loss(fake, torch.zeros_like(fake))
    )
    / 2,
    "discriminator/wgan-gp": lambda real, fake: fake.mean() - real.mean(),
    "discriminator/hinge": lambda real, fake: (
        F.hinge_embedding_loss(real, -torch.ones_like(real)) + F.hinge_embedding_loss(-fake, -torch.ones_like(fake))
    ),
}


PENALTIES = {"with": SMALL_L, "alone": None}


def results(name, loss, names):
    leaves = [LEAVES[n].clone().requires_grad_() for n in names]
    value = loss(*leaves)
    found = {f"{name}.value": value}
    for n, gradient in zip(names, torch.autograd.grad(value, leaves, allow_unused=True)):
        if gradient is None or not gradient.any():
            continue
        found[f"{name}.d{n}"] = gradient
    return found


def main():
    torch.set_default_dtype(torch.float64)
    found = {}
    for name, loss in LOSSES.items():
        found |= results(name, loss, loss.__code__.co_varnames[: loss.__code__.co_argcount])
    for kind, lightness in PENALTIES.items():
        loss = lambda *params: penalty(kind, lightness, *params)
        names = [name for name in LEAVES if name.startswith(f"{kind}.")]
        found |= results(f"penalty/{kind}", loss, names)
    stored = {name: t.detach().float().contiguous() for name, t in found.items()}
    path = pathlib.Path(__file__).with_name("objectives.safetensors")
    save_file(stored, path)
    print(f"{len(stored)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
