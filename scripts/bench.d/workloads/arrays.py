"""numpy: many temporaries of small and medium size, slices, arithmetic."""

import sys

import numpy as np


def small(a, b):
    return ((a + b) * 0.5 - a[::-1]).sum() + np.sqrt(a * a + b * b).max()


def medium(a):
    smooth = (a[:-2] + a[1:-1] * 2.0 + a[2:]) / 4.0
    return np.where(smooth > 0.5, smooth, -smooth).mean()


def table(t):
    scaled = (t - t.mean(axis=0)) / (t.std(axis=0) + 1e-9)
    return scaled[:, ::2] @ scaled[:, ::2].T


def main(rounds):
    random = np.random.default_rng(1)
    a, b = random.random(100), random.random(100)
    middle = random.random(20_000)
    large = random.random(200_000)
    rows = random.random((50, 40))
    for i in range(rounds):
        for _ in range(20):
            small(a, b)
        table(rows)
        medium(middle)
        if i % 10 == 0:
            medium(large)


main(int(sys.argv[1]))
