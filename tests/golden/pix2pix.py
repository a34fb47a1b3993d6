"""The U-Net of pix2pix in PyTorch, modules nested as in its authors' code: writes beside this file

- unet_128.pth, a small one as the authors save theirs, and unet_128.safetensors, an input and its output in evaluation;
- unet_names.json, names and shapes of the parameters of the full unet_256 and unet_128;
- nested.pth, the first layer of it as trainers wrap such files, in f16.

    python3 tests/golden/pix2pix.py        # needs torch, numpy and safetensors
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).parent


class Level(nn.Module):
    """From the outside of a level to there again: down, what lies below, up; beside its input but outermost."""

    def __init__(self, outside, inside, below=None, inputs=None, dropout=False):
        super().__init__()
        self.outermost = inputs is not None
        down = nn.Conv2d(inputs or outside, inside, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(inside * (2 if below else 1), outside, 4, 2, 1, bias=self.outermost)
        if self.outermost:
            layers = [down, below, nn.ReLU(True), up, nn.Tanh()]
        elif below is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, nn.BatchNorm2d(outside)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, nn.BatchNorm2d(inside), below]
            layers += [nn.ReLU(True), up, nn.BatchNorm2d(outside)] + [nn.Dropout(0.5)] * dropout
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UNet(nn.Module):
    def __init__(self, depth, channels):
        super().__init__()
        widths = [channels << min(i, 3) for i in range(depth)]
        level = None
        for i in reversed(range(1, depth)):
            level = Level(widths[i - 1], widths[i], level, dropout=4 <= i < depth - 1)
        self.model = Level(2, widths[0], level, inputs=1)

    def forward(self, x):
        return self.model(x)


def shapes(depth):
    with torch.device("meta"):
        state = UNet(depth, 64).state_dict()
    return {name: list(t.shape) for name, t in state.items() if "num_batches" not in name}


def trained():
    """As after training: weights as large as they become, running statistics of what the norms saw."""
    net = UNet(7, 2)
    for name, p in net.named_parameters():
        if p.dim() == 4:
            nn.init.normal_(p, 0, 0.2 if name.startswith("model.model.3") else 0.02)
        else:
            nn.init.normal_(p, 1.0 if name.endswith("weight") else 0.0, 0.1)
    net.train()
    with torch.no_grad():
        for _ in range(40):
            net(picture(4))
    return net.eval()


def picture(n):
    """Soft spots of L/50 - 1."""
    spots = torch.randn(n, 1, 9, 9)
    return nn.functional.interpolate(spots, size=128, mode="bicubic").mul(0.5).clamp(-1, 1)


def main():
    torch.manual_seed(1)
    net = trained()
    torch.save(net.state_dict(), HERE / "unet_128.pth")
    with torch.no_grad():
        l = picture(1)
        ab = net.double()(l.double()).float()
    picture_of = lambda t: t.permute(0, 2, 3, 1).contiguous()
    save_file({"l": picture_of(l), "ab": picture_of(ab)}, HERE / "unet_128.safetensors")
    names = {"unet_256": shapes(8), "unet_128": shapes(7)}
    (HERE / "unet_names.json").write_text(json.dumps(names) + "\n")
    weight = net.state_dict()["model.model.0.weight"]
    wrapped = {"module.model.model.0.weight": weight.half(), "module.n.num_batches_tracked": torch.tensor(3)}
    torch.save({"epoch": 7, "state_dict": wrapped, "optimizer": {"lr": 0.1}}, HERE / "nested.pth")
    print(ab.abs().mean(), ab.abs().max())


if __name__ == "__main__":
    main()
