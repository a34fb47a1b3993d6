#!/usr/bin/env python3
"""Our networks in PyTorch, ONNX Runtime and OpenVINO: the same results, and how long each takes.

    cargo bench --bench network -- squeeze --export DIR      # writes the graphs, parameters and pictures; or fast,
                                                             # for the generator and the step of that recipe
    python3 tests/bench/network.py DIR --ours 'cargo bench --bench network --' [--rounds 7] [--bf16] [--profile]

Needs torch, numpy, safetensors, onnx, onnxruntime and openvino. Times are medians in milliseconds; the libraries and
our own program take turns, so that a busy moment of the machine hits all of them. A ratio above 1 means that ours is
faster.
"""

import argparse
import json
import math
import pathlib
import shlex
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from safetensors.numpy import load_file
from torch import nn

TIMES = {
    "one": "one frame at a time",
    "batch": "a frame a thread, one batch",
    "workers": "a frame a thread, one-thread workers",
    "best": "best of the three",
    "step": "training step",
}
INFERENCE = ("one", "batch", "workers")
# How long a library runs before the next one's turn.
TURN_SECONDS = 0.3


# The graph: a list of nodes, each with the ids of its inputs.


def load_graph(folder, name):
    graph = json.loads((folder / f"{name}.json").read_text())
    return graph["nodes"], graph["output"], load_file(folder / f"{name}.safetensors")


def kind_and_value(tagged):
    """An enum as the Rust program writes it: "relu6", or {"leaky": 0.2}."""
    return next(iter(tagged.items())) if isinstance(tagged, dict) else (tagged, None)


def users(nodes):
    """By node, the nodes that read it."""
    readers = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for j in node["inputs"]:
            readers[j].append(i)
    return readers


def fold(nodes, output, params):
    """The graph in evaluation with every batch norm that follows a convolution merged into it."""
    nodes, params = list(nodes), dict(params)
    readers = users(nodes)
    for i, node in enumerate(nodes):
        if node["op"] != "norm" or kind_and_value(node["kind"])[0] != "batch":
            continue
        j = node["inputs"][0]
        conv = nodes[j]
        if conv["op"] != "conv" or conv["act"] != "none" or conv["transposed"] or len(readers[j]) > 1 or j == output:
            continue
        eps = node["kind"]["batch"]["eps"]
        mean, var, weight, bias = (
            params[f"{node['name']}.{s}"] for s in ("running_mean", "running_var", "weight", "bias")
        )
        scale = weight / np.sqrt(var + eps)
        before = params[conv["name"] + ".bias"] if conv["bias"] else 0
        params[conv["name"] + ".weight"] = params[conv["name"] + ".weight"] * scale[:, None, None, None]
        params[conv["name"] + ".bias"] = bias + (before - mean) * scale
        # The merged convolution takes the norm's place; nothing reads the old one.
        nodes[i] = {**conv, "bias": True, "act": node["act"]}
        nodes[j] = {"op": "nothing", "inputs": []}
    return nodes, output, params


# Network units of a and b to CIE units.
AB_SCALE = 110


def decoding(node, params):
    """What is taken off the logits [Q], what they are multiplied by then, and the bins [Q, 2] in network units."""
    (bins, prior), kind = (params[f"{node['name']}.{s}"] for s in ("bins", "prior")), node["decoding"]
    return kind["k"] * np.log(np.maximum(prior, 1e-6)), 1 / kind["temperature"], bins / AB_SCALE


# PyTorch.


def activate(x, act, inplace):
    kind, slope = kind_and_value(act)
    if kind == "leaky":
        return F.leaky_relu(x, slope, inplace) if slope else F.relu(x, inplace)
    if kind == "relu6":
        return F.relu6(x, inplace)
    if kind == "tanh":
        return x.tanh_() if inplace else x.tanh()
    return x


def torch_conv(node, inputs):
    window, outputs = node["window"], node["channels"]
    before, after = window["pad"]
    # Unequal padding has to be made by hand: Conv2d knows none.
    pad = before if before == after else 0
    kind = nn.ConvTranspose2d if node["transposed"] else nn.Conv2d
    conv = kind(inputs, outputs, window["size"], window["stride"], pad, groups=node["groups"], bias=node["bias"])
    if before == after:
        return conv
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), conv)


def torch_norm(node, channels):
    kind, value = kind_and_value(node["kind"])
    if kind == "batch":
        return nn.BatchNorm2d(channels, value["eps"])
    return nn.GroupNorm(value["groups"], channels, value["eps"])


def rows(x):
    """[N, C, H, W], channels last in memory, as [pixels, C]."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class Decode(nn.Module):
    """Logits of bins to the mean colour."""

    def __init__(self, offset, sharpness, colours):
        super().__init__()
        self.sharpness = sharpness
        self.register_buffer("offset", torch.from_numpy(offset))
        self.register_buffer("colours", torch.from_numpy(colours))

    def forward(self, logits):
        n, _, h, w = logits.shape
        shares = F.softmax((rows(logits) - self.offset) * self.sharpness, 1)
        return (shares @ self.colours).view(n, h, w, 2).permute(0, 3, 1, 2)


class Network(nn.Module):
    """A graph, interpreted."""

    def __init__(self, nodes, output, params):
        super().__init__()
        self.nodes, self.output = nodes, output
        self.layers = nn.ModuleDict()
        channels = []
        for i, node in enumerate(nodes):
            inputs = [channels[j] for j in node["inputs"]]
            channels.append(node.get("channels") or (sum(inputs) if node["op"] == "cat" else (inputs or [0])[0]))
            if node["op"] in ("conv", "norm"):
                make = torch_conv if node["op"] == "conv" else torch_norm
                self.layers[str(i)] = layer = make(node, inputs[0])
                fill(layer[-1] if isinstance(layer, nn.Sequential) else layer, node["name"], params)
            if node["op"] == "decode":
                self.layers[str(i)] = Decode(*decoding(node, params))
        # After a value's last reader it is let go, as a network written by hand would.
        last = {j: i for i, node in enumerate(nodes) for j in node["inputs"]}
        self.dead = [[j for j in last if last[j] == i and j != output] for i in range(len(nodes))]

    def forward(self, x):
        values = {}
        for i, node in enumerate(self.nodes):
            inputs = [values[j] for j in node["inputs"]]
            values[i] = x if node["op"] == "input" else self.run(i, node, inputs)
            for j in self.dead[i]:
                del values[j]
        return values[self.output]

    def run(self, i, node, inputs):
        op = node["op"]
        if op in ("conv", "norm"):
            return activate(self.layers[str(i)](inputs[0]), node["act"], inplace=True)
        if op == "act":
            return activate(inputs[0], node["act"], inplace=False)
        if op == "cat":
            return torch.cat(inputs, 1)
        if op == "add":
            return inputs[0] + inputs[1]
        if op == "up":
            return F.interpolate(inputs[0], scale_factor=node["factor"], mode="nearest")
        if op == "max_pool":
            return F.max_pool2d(inputs[0], 3, 2, ceil_mode=True)
        if op == "mean":
            return inputs[0].mean((2, 3), keepdim=True)
        if op == "dropout":
            return F.dropout(inputs[0], node["p"], self.training)
        if op == "decode":
            return self.layers[str(i)](inputs[0])
        if op == "nothing":
            return None
        raise ValueError(f"unknown operation {op}")


def fill(layer, name, params):
    """Copies a layer's parameters, and a batch norm's statistics; the count of batches stays."""
    with torch.no_grad():
        for key, tensor in layer.state_dict().items():
            if key != "num_batches_tracked":
                tensor.copy_(torch.from_numpy(params[f"{name}.{key}"]))


def pictures(array):
    """[N, H, W, C] as PyTorch has it: [N, C, H, W], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)


# ONNX.


def onnx_act(act, source, target):
    kind, slope = kind_and_value(act)
    if kind == "leaky":
        if slope:
            return helper.make_node("LeakyRelu", [source], [target], alpha=slope)
        return helper.make_node("Relu", [source], [target])
    if kind == "relu6":
        return helper.make_node("Clip", [source, "zero", "six"], [target])
    return helper.make_node("Tanh" if kind == "tanh" else "Identity", [source], [target])


def onnx_layer(node, source, target):
    """A convolution or norm without its activation."""
    name = node["name"]
    names = [source, name + ".weight", name + ".bias"]
    if node["op"] == "conv":
        window = node["window"]
        return helper.make_node(
            "ConvTranspose" if node["transposed"] else "Conv",
            names if node["bias"] else names[:2],
            [target],
            kernel_shape=[window["size"]] * 2,
            strides=[window["stride"]] * 2,
            pads=[window["pad"][0]] * 2 + [window["pad"][1]] * 2,
            group=node["groups"],
        )
    kind, value = kind_and_value(node["kind"])
    if kind == "group":
        return helper.make_node(
            "GroupNormalization", names, [target], num_groups=value["groups"], epsilon=value["eps"]
        )
    names += [name + ".running_mean", name + ".running_var"]
    return helper.make_node("BatchNormalization", names, [target], epsilon=value["eps"])


def onnx_nodes(node, sources, target):
    op = node["op"]
    if op in ("conv", "norm"):
        if node["act"] == "none":
            return [onnx_layer(node, sources[0], target)]
        return [onnx_layer(node, sources[0], target + "_linear"), onnx_act(node["act"], target + "_linear", target)]
    if op == "act":
        return [onnx_act(node["act"], sources[0], target)]
    if op == "cat":
        return [helper.make_node("Concat", sources, [target], axis=1)]
    if op == "add":
        return [helper.make_node("Add", sources, [target])]
    if op == "up":
        nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return [helper.make_node("Resize", [sources[0], "", f"scale{node['factor']}"], [target], **nearest)]
    if op == "max_pool":
        return [helper.make_node("MaxPool", sources, [target], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)]
    if op == "mean":
        return [helper.make_node("GlobalAveragePool", sources, [target])]
    if op in ("dropout", "input"):
        return [helper.make_node("Identity", sources or ["l"], [target])]
    if op == "decode":
        name, steps = node["name"], [f"{target}_{i}" for i in range(3)]
        return [
            helper.make_node("Sub", [sources[0], name + ".offset"], steps[:1]),
            helper.make_node("Mul", [steps[0], name + ".sharpness"], steps[1:2]),
            helper.make_node("Softmax", steps[1:2], steps[2:], axis=1),
            # The product with the bins, at every pixel.
            helper.make_node("Conv", [steps[2], name + ".colours"], [target]),
        ]
    if op == "nothing":
        return []
    raise ValueError(f"unknown operation {op}")


def onnx_model(nodes, output, params, shape):
    """The evaluation network as ONNX bytes, for one input shape [N, C, H, W]."""
    parts = (onnx_nodes(node, [f"v{j}" for j in node["inputs"]], f"v{i}") for i, node in enumerate(nodes))
    body = sum(parts, [])
    constants = {"zero": np.float32(0), "six": np.float32(6), **params}
    for node in nodes:
        if node["op"] == "up":
            constants[f"scale{node['factor']}"] = np.float32([1, 1, node["factor"], node["factor"]])
        if node["op"] == "decode":
            offset, sharpness, colours = decoding(node, params)
            constants[node["name"] + ".offset"] = offset[:, None, None]
            constants[node["name"] + ".sharpness"] = sharpness
            constants[node["name"] + ".colours"] = colours.T[:, :, None, None]
    used = {name for part in body for name in part.input}
    stored = [
        onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in constants.items()
        if name in used
    ]
    graph = helper.make_graph(
        body,
        "network",
        [helper.make_tensor_value_info("l", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"v{output}", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()


# Libraries: each gives functions from an array [N, 1, H, W] to one [N, 2, h, w].


class Torch:
    def __init__(self, graph, threads, bf16):
        self.threads = threads
        self.kind = torch.bfloat16 if bf16 else torch.float32
        self.network = Network(*fold(*graph)).eval().to(self.kind, memory_format=torch.channels_last)

    def infer(self, x, threads):
        # The setting belongs to the thread that makes it.
        torch.set_num_threads(threads)
        with torch.inference_mode():
            x = torch.from_numpy(x).to(self.kind, memory_format=torch.channels_last)
            return self.network(x).float().numpy()

    def together(self, shape):
        return lambda x: self.infer(x, self.threads)

    def workers(self, shape):
        return shared([lambda x: self.infer(x, 1)] * self.threads)


class Ort:
    def __init__(self, graph, threads, _):
        self.graph, self.threads = fold(*graph), threads

    def session(self, shape, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(onnx_model(*self.graph, shape), options, ["CPUExecutionProvider"])
        return lambda x: session.run(None, {"l": x})[0]

    def together(self, shape):
        return self.session(shape, self.threads)

    def workers(self, shape):
        return shared([self.session(shape, 1) for _ in range(self.threads)])


class OpenVino:
    def __init__(self, graph, threads, bf16):
        self.graph, self.threads = fold(*graph), threads
        self.core = openvino.Core()
        self.precision = "bf16" if bf16 else "f32"

    def compiled(self, shape, hint, streams):
        settings = {
            "PERFORMANCE_HINT": hint,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        return self.core.compile_model(self.core.read_model(onnx_model(*self.graph, shape)), "CPU", settings)

    def together(self, shape):
        request = self.compiled(shape, "LATENCY", 1).create_infer_request()
        return lambda x: request.infer([x])[0]

    def workers(self, shape):
        model = self.compiled(shape, "THROUGHPUT", self.threads)
        requests = [model.create_infer_request() for _ in range(self.threads)]

        def run(x, times):
            for request in requests:
                request.start_async([x])
            for _ in range(times - 1):
                for request in requests:
                    request.wait()
                    request.start_async()
            for request in requests:
                request.wait()

        return run


LIBRARIES = {"PyTorch": Torch, "ONNX Runtime": Ort, "OpenVINO": OpenVino}


def shared(workers):
    """A function that has every worker, on a thread of its own, infer `times` times."""
    pool = ThreadPoolExecutor(len(workers))

    def work(infer, x, times):
        for _ in range(times):
            infer(x)

    def run(x, times):
        for job in [pool.submit(work, worker, x, times) for worker in workers]:
            job.result()

    return run


def repeated(infer):
    def run(x, times):
        for _ in range(times):
            infer(x)

    return run


def disagreement(found, wanted):
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def check(libraries, l, ab):
    print("largest difference from our output, relative to its largest value:")
    for name, library in libraries.items():
        print(f"  {name:14}{disagreement(library.together(l.shape)(l), ab):.1e}")


def inference_jobs(libraries, l, threads):
    """By (time, library): a function of an array and how often to run it, the array, and the frames of one run."""
    one = np.ascontiguousarray(l[:1])
    batch = np.ascontiguousarray(np.concatenate([l] * math.ceil(threads / len(l)))[:threads])
    jobs = {}
    for name, library in libraries.items():
        jobs["one", name] = (repeated(library.together(one.shape)), one, 1)
        jobs["batch", name] = (repeated(library.together(batch.shape)), batch, threads)
        jobs["workers", name] = (library.workers(one.shape), one, threads)
    return jobs


def timed(run, x, frames):
    """Milliseconds per frame, after one run to warm up and one to see how many fit a turn."""
    run(x, 1)
    start = time.perf_counter()
    run(x, 1)
    times = max(1, round(TURN_SECONDS / (time.perf_counter() - start)))
    start = time.perf_counter()
    run(x, times)
    return (time.perf_counter() - start) / times / frames * 1000


class Ours:
    """The Rust program, which takes a turn for every line that it is given."""

    def __init__(self, command, name, bf16):
        self.suffix = "_bf16" if bf16 else ""
        pipe = subprocess.PIPE
        command = shlex.split(command) + ["--turns", name]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("turn "):
                times = json.loads(line[5:])
                return {key: times[key + self.suffix] for key in ("one", "workers", "step")}
        sys.exit("the Rust program has ended")


def time_all(libraries, l, trainer, batch, threads, rounds, ours):
    """Everything in turn, so that a machine that drifts drifts for all."""
    jobs = inference_jobs(libraries, l, threads)
    found = {}
    for i in range(rounds + 1):
        times = {key: timed(*job) for key, job in jobs.items()}
        torch.set_num_threads(threads)
        start = time.perf_counter()
        trainer.step(*batch)
        times["step", "PyTorch"] = (time.perf_counter() - start) * 1000
        times |= {(key, "ours"): ms for key, ms in (ours.turn() if ours else {}).items()}
        for key, ms in times.items():
            if i > 0:  # the first round warms up
                found.setdefault(key, []).append(ms)
    return {key: statistics.median(times) for key, times in found.items()}


# Training.


class Adversarial:
    """pix2pix: generator and discriminator with an optimiser each."""

    def __init__(self, folder, _, bf16):
        self.bf16 = bf16
        self.generator = Network(*load_graph(folder, "generator")).train().to(memory_format=torch.channels_last)
        self.critic = Network(*load_graph(folder, "critic")).train().to(memory_format=torch.channels_last)
        adam = lambda network: torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused=True)
        self.adam, self.critic_adam = adam(self.generator), adam(self.critic)

    def step(self, l, truth):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            ab = self.generator(l)
            factor = l.shape[2] // ab.shape[2]
            l, truth = F.avg_pool2d(l, factor), F.avg_pool2d(truth, factor)
            real, fake = self.critic(torch.cat([l, truth], 1)), self.critic(torch.cat([l, ab.detach()], 1))
            loss = (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        # Frozen, so that no gradients of its parameters are computed.
        self.critic.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.critic(torch.cat([l, ab], 1))
            loss = 100 * F.l1_loss(ab, truth) + F.softplus(-logits).mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.critic.requires_grad_(True)


class Classifying:
    """A step of a recipe whose generator tells bins apart: cross-entropy and Huber, AdamW, clipped, averaged."""

    def __init__(self, folder, settings, bf16):
        nodes, output, params = load_graph(folder, "generator")
        decode = nodes[output]
        self.settings, self.bf16 = settings, bf16
        self.generator = Network(nodes[:output], decode["inputs"][0], params)
        self.generator.train().to(memory_format=torch.channels_last)
        self.bins = torch.from_numpy(params[decode["name"] + ".bins"])
        self.weights = {"cross-entropy": 0, "huber": 0, **settings["objectives"]}
        if len(self.weights) > 2:
            sys.exit(f"this script has no such objectives: {settings['objectives']}")
        self.params = list(self.generator.parameters())
        groups = [
            {"params": [p for p in self.params if p.ndim > 1], "weight_decay": settings["decay"]},
            {"params": [p for p in self.params if p.ndim == 1], "weight_decay": 0},
        ]
        self.adam = torch.optim.AdamW(groups, settings["rate"], tuple(settings["betas"]), fused=True)
        # The running mean of the parameters, and the statistics beside it.
        self.mean = [p.detach().clone() for p in self.params]
        self.buffers = [b for b in self.generator.buffers() if b.is_floating_point()]
        self.kept = [b.clone() for b in self.buffers]
        self.losses = {}

    def soft(self, ab):
        """The five bins nearest to colours [pixels, 2] in CIE units, and their shares."""
        with torch.no_grad():
            # Less the square of the colour itself, which is the same for all bins.
            distance = torch.addmm(self.bins.square().sum(1), ab, self.bins.T, alpha=-2)
            distance, nearest = distance.topk(5, 1, largest=False, sorted=False)
            return nearest, F.softmax(distance / -50, 1)

    def step(self, l, truth):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.generator(l).float()
        truth = rows(F.avg_pool2d(truth, l.shape[2] // logits.shape[2]))
        nearest, shares = self.soft(truth * AB_SCALE)
        log = F.log_softmax(rows(logits), 1)
        cross_entropy = -(log.gather(1, nearest) * shares).sum(1).mean()
        huber = F.smooth_l1_loss(log.exp() @ (self.bins / AB_SCALE), truth, beta=0.1)
        self.adam.zero_grad()
        (self.weights["cross-entropy"] * cross_entropy + self.weights["huber"] * huber).backward()
        length = nn.utils.clip_grad_norm_(self.params, self.settings["clip"])
        self.adam.step()
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.params], 1 - self.settings["ema"])
        torch._foreach_copy_(self.kept, self.buffers)
        self.losses = {"cross-entropy": cross_entropy.item(), "huber": huber.item(), "gradient": length.item()}


def trainer_of(folder, settings, bf16):
    kind = Adversarial if "gan" in settings["objectives"] else Classifying
    return kind(folder, settings, bf16)


def compare_steps(trainer, batch, ours):
    """A first step, whose losses are to be ours, but for batch norms, which see a part of the batch in ours."""
    trainer.step(*batch)
    for name, theirs in getattr(trainer, "losses", {}).items():
        print(f"first step: {name} {theirs:.6f}, ours {ours[name]:.6f}")


def time_training(trainer, batch, threads, rounds):
    torch.set_num_threads(threads)
    times = []
    for _ in range(2 + rounds):
        start = time.perf_counter()
        trainer.step(*batch)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[2:])


def profile(trainer, batch, threads):
    torch.set_num_threads(threads)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        trainer.step(*batch)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


# The report.


def has_bf16():
    flags = pathlib.Path("/proc/cpuinfo")
    words = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in words or "amx_bf16" in words or " bf16" in words


def cell(ms, ours, width):
    ratio = f" ({ms / ours:.2f})" if ms and ours else ""
    return (f"{ms:.2f}{ratio}" if ms else "-").rjust(width)


def table(found):
    """Prints `found`: milliseconds by (time, library), with "ours" as a library."""
    for name in ("ours", *LIBRARIES):
        times = [found[key, name] for key in INFERENCE if found.get((key, name))]
        found["best", name] = min(times, default=None)
    print("ms per frame, or per step; in brackets: times ours")
    print(" " * 37 + "ours".rjust(10) + "".join(name.rjust(18) for name in LIBRARIES))
    for key, title in TIMES.items():
        ours = found.get((key, "ours"))
        cells = [cell(found.get((key, name)), ours, 18) for name in LIBRARIES]
        print(title.ljust(37) + cell(ours, None, 10) + "".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what the Rust bench wrote with --export")
    parser.add_argument("--ours", help="the Rust program's command, to take turns with")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bf16", action="store_true", help="at bfloat16, where the CPU has it")
    parser.add_argument("--profile", action="store_true", help="only PyTorch's 12 slowest operations of a step")
    options = parser.parse_args()
    if options.bf16 and not has_bf16():
        parser.exit(1, "this CPU has no bfloat16\n")
    folder, bf16, rounds = options.folder, options.bf16, options.rounds
    bench = json.loads((folder / "bench.json").read_text())
    threads = bench["threads"]
    io = load_file(folder / "io.safetensors")
    batch = pictures(io["batch_l"]), pictures(io["batch_ab"])
    print(f"{bench['name']}, {threads} threads, {'bf16' if bf16 else 'f32'}")
    trainer = trainer_of(folder, bench["settings"], bf16)
    torch.set_num_threads(threads)
    compare_steps(trainer, batch, bench["losses"])
    if options.profile:
        time_training(trainer, batch, threads, 1)
        return profile(trainer, batch, threads)

    # ONNX Runtime's CPU kernels know no bfloat16.
    kept = {name: library for name, library in LIBRARIES.items() if not (bf16 and library is Ort)}
    graph = load_graph(folder, "generator")
    libraries = {name: library(graph, threads, bf16) for name, library in kept.items()}
    l = np.ascontiguousarray(io["l"].transpose(0, 3, 1, 2))
    check(libraries, l, io["ab"].transpose(0, 3, 1, 2))
    ours = Ours(options.ours, bench["name"], bf16) if options.ours else None
    found = time_all(libraries, l, trainer, batch, threads, rounds, ours)
    count, _, height, width = batch[0].shape
    print(f"frames of {l.shape[3]}x{l.shape[2]}; training: {count} crops of {width}x{height}")
    table(found)


if __name__ == "__main__":
    main()
