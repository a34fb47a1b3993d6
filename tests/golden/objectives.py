"""Reference values and gradients of the training losses, by PyTorch: writes objectives.safetensors beside this file.

    python3 tests/golden/objectives.py        # needs torch and safetensors

Computed in f64, stored in f32. Inputs are not stored: both sides make them with `wave`, from the name and the shape
alone. Pictures are [N, H, W, C]. "<loss>.value" is the value, "<loss>.d<input>" its gradient. Losses are written with
PyTorch's own functions wherever it has one.
"""

import math
import pathlib

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
    "real": wave("real", (2, 3, 3, 1), 2),
    "fake": wave("fake", (2, 3, 3, 1), 2),
}
TRUTH = wave("truth", (2, H, W, 2), 0.4)
GRID = torch.arange(CLASSES)
BINS = ((torch.stack([GRID % 4, GRID // 4], 1).double() - 1.5) * 25 / 110).float().double()
WEIGHTS = (0.5 + 0.1 * GRID.double()).float().double()


def logistic(scores, target):
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


def soft_classes(colours):
    """Zhang's soft encoding as a dense [.., Q]: the 5 nearest bins, sigma 5 CIE units."""
    squares = ((colours[..., None, :] - BINS) * 110).square().sum(-1)
    near = squares.topk(5, largest=False)
    shares = torch.softmax(-near.values / (2 * 5**2), -1)
    return torch.zeros_like(squares).scatter(-1, near.indices, shares)


def cross_entropies(logits):
    planes = logits.permute(0, 3, 1, 2)
    return F.cross_entropy(planes, soft_classes(TRUTH).permute(0, 3, 1, 2), reduction="none")


# By name: the loss as a function of its inputs, whose names are its arguments.
LOSSES = {
    "l1": lambda ab: F.l1_loss(ab, TRUTH),
    # PyTorch's smooth_l1 is d^2 / (2 beta), then d - beta / 2.
    "huber": lambda ab: F.smooth_l1_loss(ab, TRUTH, beta=0.1),
    "cross-entropy": lambda logits: cross_entropies(logits).mean(),
    "cross-entropy-rebalanced": lambda logits: (
        cross_entropies(logits) * WEIGHTS[soft_classes(TRUTH).argmax(-1)]
    ).mean(),
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


def results(name, loss):
    names = loss.__code__.co_varnames[: loss.__code__.co_argcount]
    leaves = [LEAVES[n].clone().requires_grad_() for n in names]
    value = loss(*leaves)
    found = {f"{name}.value": value}
    for n, gradient in zip(names, torch.autograd.grad(value, leaves)):
        found[f"{name}.d{n}"] = gradient
    return found


def main():
    found = {}
    for name, loss in LOSSES.items():
        found |= results(name, loss)
    stored = {name: t.detach().float().contiguous() for name, t in found.items()}
    path = pathlib.Path(__file__).with_name("objectives.safetensors")
    save_file(stored, path)
    print(f"{len(stored)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
