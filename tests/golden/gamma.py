#!/usr/bin/env python3
"""Prints the coefficients of src/color/chroma.rs's sRGB curve: a polynomial of degree 5 in the fourth root of linear
light, on the part of the curve that is not a line. Minimax by iteratively reweighted least squares (Lawson).

    python3 tests/golden/gamma.py        # needs numpy
"""
import numpy as np

low, high = 0.0031308**0.25, 1.0
u = (low + high) / 2 - (high - low) / 2 * np.cos(np.linspace(0, np.pi, 4001))
truth = 1.055 * u ** (5 / 3) - 0.055
powers = np.vander(u, 6)
weights = np.ones_like(u)
for _ in range(300):
    fit = np.linalg.lstsq(powers * np.sqrt(weights)[:, None], truth * np.sqrt(weights), rcond=None)[0]
    error = abs(powers @ fit - truth)
    weights *= error / error.max() + 1e-6
    weights /= weights.mean()
print("u^5 to u^0:", [float(f"{v:.9g}") for v in fit])
print("largest error:", error.max())
