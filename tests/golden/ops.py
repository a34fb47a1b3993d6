"""Reference results of the engine's operations, by PyTorch: writes ops.safetensors beside this file.

    python3 tests/golden/ops.py        # needs torch and safetensors

Computed in f64, stored in f32. Inputs are not stored: both sides make them with `wave`, from the name and the shape
alone. Pictures are [N, H, W, C], weights [O, I/groups, k, k] (transposed: [I, O, k, k]), everything else a vector.

A tensor is named "<case>.<what>": the result `y`; gradients of <y, wave("g")> by what they are for, `dx`, `dw`,
`dweight`, `dbias`; second order, `ds_dx`, `ds_dw`, `ds_dweight` and `ds_dg`, the gradients of
s = <dx, wave("hx")> + <dw, wave("hw")>, of which a norm has the first term only. The cases with their parameters stand
as JSON in the metadata, under "cases". Where a case has "affine": {"x": [scale, shift]}, that input is
scale * wave + shift, also computed in f64 and rounded to f32 once.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

# How near to a kink (of ReLU, of ReLU6, a tie of a maximum) no value may be: another order of summation must not take
# the other branch.
MARGIN = 1e-4


def wave(name, shape, affine=(1, 0)):
    """scale * sin(0.7 i + the sum of the name's bytes) + shift, rounded to f32."""
    values = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7 + sum(name.encode()))
    return (affine[0] * values + affine[1]).float().double().reshape(shape)


def leaf(name, case):
    """An input of a case, whose gradient is wanted."""
    return wave(name, case[name], case["affine"].get(name, (1, 0))).requires_grad_()


def planes(x):
    """[N, H, W, C] to PyTorch's [N, C, H, W]."""
    return x.permute(0, 3, 1, 2)


def picture(x):
    """And back."""
    return x.permute(0, 2, 3, 1)


def cotangent(y):
    return wave("g", y.shape).requires_grad_()


def gradients(y, g, inputs):
    """By name, the gradients of <y, g>, fit to be differentiated again."""
    found = torch.autograd.grad((y * g).sum(), list(inputs.values()), create_graph=True)
    return dict(zip(inputs, found))


def second_order(first, directions, inputs):
    """By name, the gradients of the sum of <first[name], direction>."""
    s = sum((first[name] * direction).sum() for name, direction in directions.items())
    return {f"ds_d{name}": d for name, d in zip(inputs, torch.autograd.grad(s, list(inputs.values())))}


def results(y, first, *others):
    found = {"y": y} | {f"d{name}": d for name, d in first.items()}
    for other in others:
        found |= other
    return found


def away_from(x, *kinks):
    assert all((x - kink).abs().min() > MARGIN for kink in kinks), "too near to a kink"
    return x


# One function a kind: from a case to its results by name.


def conv(case):
    x, w = leaf("x", case), leaf("w", case)
    before, after = case["pad"]
    padded = F.pad(planes(x), (before, after, before, after))
    y = picture(F.conv2d(padded, w, stride=case["stride"], groups=case["groups"]))
    g = cotangent(y)
    first = gradients(y, g, {"x": x, "w": w})
    directions = {"x": wave("hx", x.shape), "w": wave("hw", w.shape)}
    return results(y, first, second_order(first, directions, {"x": x, "w": w, "g": g}))


def conv_transposed(case):
    x, w = leaf("x", case), leaf("w", case)
    y = picture(F.conv_transpose2d(planes(x), w, stride=case["stride"], padding=case["pad"][0]))
    return results(y, gradients(y, cotangent(y), {"x": x, "w": w}))


def batch_norm(case):
    x, weight, bias = leaf("x", case), leaf("weight", case), leaf("bias", case)
    linear = F.batch_norm(planes(x), None, None, weight, bias, training=True, eps=case["eps"])
    y = picture(F.relu6(away_from(linear, 0, 6)))
    first = gradients(y, cotangent(y), {"x": x, "weight": weight, "bias": bias})
    flat = x.flatten(0, 2)
    return results(y, first, {"mean": flat.mean(0), "var": flat.var(0, unbiased=False)})


def group_norm(case):
    x, weight, bias = leaf("x", case), leaf("weight", case), leaf("bias", case)
    linear = F.group_norm(planes(x), case["groups"], weight, bias, case["eps"])
    y = picture(F.leaky_relu(away_from(linear, 0), case["slope"]))
    g = cotangent(y)
    first = gradients(y, g, {"x": x, "weight": weight, "bias": bias})
    return results(y, first, second_order(first, {"x": wave("hx", x.shape)}, {"x": x, "weight": weight, "g": g}))


def max_pool(case):
    x = leaf("x", case)
    # No ties: sin(0.7 i) repeats no value, and the two largest of every window are apart by more than the margin.
    clipped = F.pad(planes(x), (0, 1, 0, 1), value=-math.inf)
    best = clipped.unfold(2, 3, 2).unfold(3, 3, 2).flatten(-2).topk(2).values
    away_from(best[..., 0] - best[..., 1], 0)
    y = F.max_pool2d(planes(x), 3, 2, ceil_mode=True)
    assert torch.equal(y, best[..., 0])
    y = picture(y)
    return results(y, gradients(y, cotangent(y), {"x": x}))


def up(case):
    x = leaf("x", case)
    y = picture(F.interpolate(planes(x), scale_factor=case["factor"], mode="nearest"))
    return results(y, gradients(y, cotangent(y), {"x": x}))


def mean(case):
    x = leaf("x", case)
    y = x.mean((1, 2), keepdim=True)
    return results(y, gradients(y, cotangent(y), {"x": x}))


def act(case):
    x, bias = leaf("x", case), leaf("bias", case)
    kinks = {"leaky": [0], "relu6": [0, 6], "tanh": []}[case["act"]]
    linear = away_from(x + bias, *kinks)
    functions = {"leaky": lambda v: F.leaky_relu(v, case["slope"]), "relu6": F.relu6, "tanh": torch.tanh}
    y = functions[case["act"]](linear)
    return results(y, gradients(y, cotangent(y), {"x": x, "bias": bias}))


BINS = [[10.0 * a, 10.0 * b] for a in range(-4, 5) for b in range(-3, 6)]


def decode(case):
    """The annealed mean of Zhang et al. 2016 with the prior taken out, in network units."""
    z = leaf("x", case)
    prior = wave("prior", [len(BINS)], (0.8 / len(BINS), 1 / len(BINS)))
    shares = torch.softmax((z - case["k"] * prior.log()) / case["temperature"], -1)
    y = shares @ (torch.tensor(BINS, dtype=torch.float64) / 110)
    return results(y, gradients(y, cotangent(y), {"x": z}))


def cross_entropy(case):
    """Against the 5 nearest bins, Gaussian of 5 units, and, where asked for, weighted by the nearest."""
    z = leaf("x", case)
    truth = wave("truth", [*case["x"][:3], 2], (0.4, 0.05)) * 110
    apart = torch.cdist(truth.reshape(-1, 2), torch.tensor(BINS, dtype=torch.float64)).reshape(z.shape)
    distances, nearest = apart.topk(6, largest=False)
    away_from(distances[..., 5] - distances[..., 4], 0)
    away_from(distances[..., 1] - distances[..., 0], 0)
    shares = torch.softmax(-distances[..., :5] ** 2 / (2 * 5**2), -1)
    target = torch.zeros_like(z).scatter(-1, nearest[..., :5], shares)
    loss = F.cross_entropy(z.flatten(0, 2), target.flatten(0, 2), reduction="none").reshape(*z.shape[:3], 1)
    if case["weighted"]:
        loss = loss * wave("weights", [len(BINS)], (0.8, 1))[nearest[..., :1]]
    return results(loss, gradients(loss, cotangent(loss), {"x": z}))


KINDS = {f.__name__: f for f in (conv, conv_transposed, batch_norm, group_norm, max_pool, up, mean, act, decode, cross_entropy)}


def case(kind, name, x, affine=None, **more):
    return {"name": f"{kind}.{name}" if name else kind, "kind": kind, "x": x, "affine": affine or {}, **more}


def conv_case(name, size, stride, pad, inputs, outputs, groups=1, sides=(8, 12)):
    window = {"size": size, "stride": stride, "pad": pad, "groups": groups}
    return case("conv", name, [2, *sides, inputs], w=[outputs, inputs // groups, size, size], **window)


def norm_case(kind, affine, **more):
    return case(kind, "", [2, 4, 6, 8], affine, weight=[8], bias=[8], **more)


def act_case(act, slope=0.0, affine=None):
    name = f"{act}{slope}" if slope else act
    return case("act", name, [2, 4, 6, 5], affine, bias=[5], act=act, slope=slope)


CASES = [
    conv_case("1x1", 1, 1, [0, 0], 24, 20),
    conv_case("3x3", 3, 1, [1, 1], 16, 20, sides=(7, 9)),
    conv_case("3x3s2same", 3, 2, [0, 1], 16, 24),
    conv_case("4x4s2", 4, 2, [1, 1], 12, 16),
    conv_case("4x4", 4, 1, [1, 1], 16, 12, sides=(7, 9)),
    conv_case("7x7s2", 7, 2, [3, 3], 1, 20, sides=(12, 16)),
    conv_case("depthwise3x3", 3, 1, [1, 1], 24, 24, 24, sides=(7, 9)),
    conv_case("depthwise3x3s2same", 3, 2, [0, 1], 24, 24, 24),
    conv_case("depthwise5x5", 5, 1, [2, 2], 24, 24, 24, sides=(7, 9)),
    conv_case("depthwise5x5s2same", 5, 2, [1, 2], 24, 24, 24),
    conv_case("groups2", 3, 1, [1, 1], 8, 12, 2),
    conv_case("odd", 3, 1, [1, 1], 5, 7, sides=(7, 9)),
    case("conv_transposed", "4x4s2", [2, 4, 6, 12], w=[12, 20, 4, 4], size=4, stride=2, pad=[1, 1], groups=1),
    # Shifted and wide, so that a mean matters and both kinks of ReLU6 are crossed.
    norm_case("batch_norm", {"x": [1, 0.5], "weight": [4, 0], "bias": [1, 3]}, eps=1e-3, act="relu6"),
    norm_case("group_norm", {"x": [1, 0.5]}, eps=1e-5, groups=2, act="leaky", slope=0.2),
    case("max_pool", "", [2, 8, 10, 5], size=3, stride=2),
    case("up", "", [2, 4, 6, 5], factor=2),
    case("mean", "", [2, 4, 6, 5]),
    act_case("leaky"),
    act_case("leaky", 0.2),
    act_case("relu6", affine={"x": [5, 3]}),
    act_case("tanh"),
    case("decode", "", [2, 3, 4, len(BINS)], {"x": [3, 0]}, k=0.4, temperature=0.38),
    case("cross_entropy", "plain", [2, 3, 4, len(BINS)], {"x": [3, 0]}, weighted=False),
    case("cross_entropy", "weighted", [2, 3, 4, len(BINS)], {"x": [3, 0]}, weighted=True),
]


def main():
    tensors = {}
    for case in CASES:
        for what, tensor in KINDS[case["kind"]](case).items():
            tensors[f"{case['name']}.{what}"] = tensor.detach().float().contiguous()
    path = pathlib.Path(__file__).with_suffix(".safetensors")
    save_file(tensors, path, {"cases": json.dumps(CASES)})


if __name__ == "__main__":
    main()
