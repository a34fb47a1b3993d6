#!/usr/bin/env python3
"""Writes lab.txt: encoded sRGB (0..1) and the CIE Lab that scikit-image makes of it, one colour a line. The corners of
the cube, greys around the curve's two knees, and colours drawn at random.

    python3 tests/golden/lab.py > tests/golden/lab.txt        # needs numpy, scikit-image (0.26.0)
"""
import itertools

import numpy as np
from skimage.color import rgb2lab

corners = list(itertools.product((0.0, 1.0), repeat=3))
greys = [(v, v, v) for v in (0.02, 0.04, 0.0405, 0.06, 0.08, 0.0946, 0.1, 0.2, 0.5, 0.8)]
drawn = np.random.default_rng(3).random((32, 3)).round(4).tolist()
for rgb in corners + greys + drawn:
    lab = rgb2lab(np.array(rgb).reshape(1, 1, 3)).reshape(3)
    print(*(f"{v:.4f}" for v in rgb), *(f"{v:.6f}" for v in lab))
