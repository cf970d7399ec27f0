"""The compiled loops of batch normalisation, forward and backward.

They are plain loops, whose elementwise passes over a row of numbers LLVM turns into vector instructions. All sums are in
float64 and have one order: each place of a map is summed over the images, then the places of a channel. So a channel has the
same bits whatever channels are beside it, and on CPUs with longer and shorter vectors.

A few channels at a time, up to ``WIDTH`` numbers of an image, go through all passes, so that they stay in the cache.

Letters: N n images, C c channels of all runs, M values of a channel in an image, J j values of a few channels
in an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bnexp.model.kernels.compiling import OPTIONS, compiled

WIDTH = 1024


@njit(**OPTIONS)
def sum_channels(columns: Any, M: int, totals: Any) -> None:
    """The sum of each M neighbours: columns (J,) -> totals (J / M,)."""
    for c in range(len(columns) // M):
        total = 0.0
        for j in range(c * M, c * M + M):
            total += columns[j]
        totals[c] = total


@njit(**OPTIONS)
def spread(values: Any, M: int, columns: Any) -> None:
    """Each value M times: values (J / M,) -> columns (J,)."""
    for c in range(len(columns) // M):
        for j in range(c * M, c * M + M):
            columns[j] = values[c]


@compiled
def normalise(x: Any, weight: Any, bias: Any, eps: Any, y: Any, mean: Any, var: Any) -> None:
    """``y = weight * (x - mean) / sqrt(var + eps) + bias`` with the mean and the biased variance of each channel.

    Shapes: x (N, C*M); weight, bias, eps (C,); results: y like x, mean and var (C,).
    """
    N, C = len(x), len(mean)
    M = x.shape[1] // C
    most = max(1, WIDTH // M)
    sums = np.empty(most * M, np.float64)
    means, scales, shifts = np.empty((3, most * M), x.dtype)
    totals = np.empty(most, np.float64)
    scale = np.empty(most, x.dtype)
    for first in range(0, C, most):
        end = min(first + most, C)
        J = (end - first) * M
        begin = first * M
        sums[:J] = 0
        for n in range(N):
            row = x[n, begin : begin + J]
            for j in range(J):
                sums[j] += row[j]
        sum_channels(sums[:J], M, totals)
        for c in range(first, end):
            mean[c] = totals[c - first] / (N * M)
        spread(mean[first:end], M, means[:J])
        sums[:J] = 0
        for n in range(N):
            row = x[n, begin : begin + J]
            for j in range(J):
                centred = np.float64(row[j] - means[j])
                sums[j] += centred * centred
        sum_channels(sums[:J], M, totals)
        for c in range(first, end):
            var[c] = totals[c - first] / (N * M)
            scale[c - first] = weight[c] / np.sqrt(var[c] + eps[c])
        spread(scale, M, scales[:J])
        spread(bias[first:end], M, shifts[:J])
        for n in range(N):
            row, out = x[n, begin : begin + J], y[n, begin : begin + J]
            for j in range(J):
                out[j] = (row[j] - means[j]) * scales[j] + shifts[j]


@compiled
def normalise_backward(
    x: Any, mean: Any, var: Any, eps: Any, weight: Any, dy: Any, dx: Any, d_weight: Any, d_bias: Any
) -> None:
    """The gradient of ``normalise``, in closed form: see ``_Compact`` in ``norms/standardise.py``.

    ``dx = weight / s * (dy - mean(dy) - (x - mean) * mean(dy * (x - mean)) / s^2)`` with ``s = sqrt(var + eps)``; ``d_bias`` is
    the sum of dy, ``d_weight`` that of ``dy * (x - mean) / s``.

    Shapes: x, dy (N, C*M); mean, var, eps, weight (C,); results: dx like x, d_weight and d_bias (C,).
    """
    N, C = len(x), len(mean)
    M = x.shape[1] // C
    most = max(1, WIDTH // M)
    sums, products = np.empty((2, most * M), np.float64)
    means, scales, shifts, slopes = np.empty((4, most * M), x.dtype)
    totals, product_totals = np.empty((2, most), np.float64)
    scale, shift, slope = np.empty((3, most), x.dtype)
    for first in range(0, C, most):
        end = min(first + most, C)
        J = (end - first) * M
        begin = first * M
        spread(mean[first:end], M, means[:J])
        sums[:J] = 0
        products[:J] = 0
        for n in range(N):
            row, d_row = x[n, begin : begin + J], dy[n, begin : begin + J]
            for j in range(J):
                sums[j] += d_row[j]
                products[j] += np.float64(d_row[j]) * np.float64(row[j] - means[j])
        sum_channels(sums[:J], M, totals)
        sum_channels(products[:J], M, product_totals)
        for c in range(first, end):
            inverse = 1 / np.sqrt(var[c] + eps[c])
            total, product = totals[c - first], product_totals[c - first] * inverse
            d_bias[c], d_weight[c] = total, product
            scale[c - first], shift[c - first] = weight[c] * inverse, total / (N * M)
            slope[c - first] = product * inverse / (N * M)
        spread(scale, M, scales[:J])
        spread(shift, M, shifts[:J])
        spread(slope, M, slopes[:J])
        for n in range(N):
            row, d_row, out = x[n, begin : begin + J], dy[n, begin : begin + J], dx[n, begin : begin + J]
            for j in range(J):
                out[j] = (d_row[j] - shifts[j] - (row[j] - means[j]) * slopes[j]) * scales[j]
