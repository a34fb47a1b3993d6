"""Reference numbers of the evaluation's metrics: writes metrics.json beside this file.

    python3 tests/golden/metrics.py        # needs numpy, scipy and scikit-image

SSIM, PSNR and CIEDE2000 by scikit-image; colourfulness as published (Hasler & Suesstrunk 2003; `abs` as in the code of
DDColor and ColorMNet); the Frechet distance as in the common FID code; CDC as in Liu et al. 2021 and NTIRE 2023.
Pictures and samples are not stored: both sides make them by the formulas of `picture` and `samples`.
"""

import json
import pathlib

import numpy as np
import scipy.linalg
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def picture(width, height, kind):
    """8-bit RGB [height, width, 3]: slopes, a fine pattern, and colours that depend on `kind`."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        (5 * x + 3 * y + 11 * kind) % 256,
        (2 * x + 7 * y + (x * y) % (9 + kind) * 8) % 256,
        (x * (1 + kind) + 4 * y + (x // 4 + y // 4) % 2 * 60) % 256,
    ]
    return np.stack(planes, 2).astype(np.uint8)


def samples(count, dimensions, phase):
    """Numbers of -1..1 that look random: [count, dimensions]."""
    i = np.arange(count * dimensions, dtype=np.float64)
    v = np.sin(i * 12.9898 + phase) * 43.7585453
    return ((v - np.floor(v)) * 2 - 1).reshape(count, dimensions)


def colourfulness(rgb, absolute):
    r, g, b = (rgb[..., i].astype(np.float64) for i in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    if absolute:
        rg, yb = abs(rg), abs(yb)
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def frechet(x, y):
    m = ((x.mean(0) - y.mean(0)) ** 2).sum()
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t)
    return float(m + np.trace(s) + np.trace(t) - 2 * np.trace(root.real))


def cdc(frames):
    def histogram(plane):
        return np.bincount(plane.ravel(), minlength=256) / plane.size

    def divergence(p, m):
        there = p > 0
        return (p[there] * np.log(p[there] / m[there])).sum()

    def js(p, q):
        m = (p + q) / 2
        return divergence(p, m) / 2 + divergence(q, m) / 2

    total = 0
    for c in range(3):
        h = [histogram(f[..., c]) for f in frames]
        steps = [np.mean([js(h[i], h[i + t]) for i in range(len(h) - t)]) for t in (1, 2, 4)]
        total += np.mean(steps) / 3
    return float(total)


def main():
    pairs = []
    for width, height, a, b in [(40, 30, 0, 1), (31, 47, 2, 0), (64, 33, 1, 3)]:
        x, y = picture(width, height, a), picture(width, height, b)
        pairs.append(
            {
                "width": width,
                "height": height,
                "kinds": [a, b],
                "ssim": structural_similarity(
                    x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
                ),
                "psnr_rgb": peak_signal_noise_ratio(x, y, data_range=255),
                "ciede2000": deltaE_ciede2000(rgb2lab(x), rgb2lab(y)).mean(),
                "colourfulness": colourfulness(x, False),
                "colourfulness_abs": colourfulness(x, True),
            }
        )
    distances = []
    for count, other, dimensions in [(60, 50, 12), (9, 7, 12), (30, 5, 12)]:
        x, y = samples(count, dimensions, 0.5), samples(other, dimensions, 2.5) * 0.7 + 0.2
        distances.append({"counts": [count, other], "dimensions": dimensions, "frechet": frechet(x, y)})
    frames = [picture(40, 30, kind) for kind in range(7)]
    golden = {"pairs": pairs, "distances": distances, "cdc": cdc(frames)}
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
