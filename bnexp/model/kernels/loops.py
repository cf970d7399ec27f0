"""The compiled loops of convolution + 2x2 max pooling + ReLU, and the few vector operations that they are made of.

LLVM does not keep a tile of sums in vector registers if it compiles plain loops: these took 2.5 times as long. So the loops
have a type of value for it, a ``Block`` of vectors, and five functions: ``load``, ``store``, ``add_scaled``, ``add_outer`` and
``store_largest``. They take arrays in C order, whose elements they count over all axes, and check no bounds.

Each sum is computed in one lane, in a fixed order, by multiply-adds that round once. The number of lanes and the number of
vectors that a CPU holds decide which sums are computed at the same time. They change no bit of a sum.

All of this is one file, because numba takes a kernel from its disk cache as long as the file of the kernel is the same.

Letters, of which the small ones count: R r runs, G groups of neighbouring runs that share images, N n batch, I i channels in,
O o channels out, H W height and width of the input, K side of the kernel (rows a, columns b), HP WP height and width of the
pooled output (row y, column z), L channels or lanes of a vector.

Reference for direct convolution with a tile of sums in registers: Georganas et al., "Anatomy of high-performance deep learning
convolutions on SIMD architectures", 2018, arXiv:1808.05567.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from bnexp.model.kernels.compiling import Kernel, compiled

NONE = 4  # in place of a corner of a window: none of 0 to 3


class Block(types.Type):
    """The numba type of a block: ``count`` vectors of ``lanes`` numbers each.

    Args:
        count: number of vectors.
        lanes: numbers in a vector. LLVM spreads one that is longer than a register over several.
        dtype: their numba type, float32 or float64.
    """

    def __init__(self, count: int, lanes: int, dtype: Any) -> None:
        self.count, self.lanes, self.dtype = count, lanes, dtype
        super().__init__(f"Block({count} x {lanes} x {dtype})")

    @property
    def vector(self) -> ir.VectorType:
        """The LLVM type of one vector."""
        return ir.VectorType(ir.FloatType() if self.dtype == types.float32 else ir.DoubleType(), self.lanes)


@register_model(Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: Block) -> None:
        super().__init__(manager, block, ir.ArrayType(block.vector, block.count))


class _Code:
    """Writes the LLVM code of one operation: what ``codegen`` of an intrinsic is given, in shorter words."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any) -> None:
        self.context, self.builder, self.kinds = context, builder, signature.args

    def pointer(self, arg: int, array: Any, at: Any, kind: Any) -> Any:
        """The address of element ``at`` of the array that is argument number ``arg``, as one of a ``kind``."""
        data = self.context.make_array(self.kinds[arg])(self.context, self.builder, array).data
        return self.builder.bitcast(self.builder.gep(data, [at]), kind.as_pointer())

    def moved(self, at: Any, steps: int, by: Any = 1) -> Any:
        """``at + steps * by``."""
        step = ir.Constant(at.type, by) if isinstance(by, int) else by
        return self.builder.add(at, self.builder.mul(step, ir.Constant(at.type, steps)))

    def read(self, arg: int, array: Any, at: Any, kind: Any) -> Any:
        return self.builder.load(self.pointer(arg, array, at, kind), align=self.kinds[arg].dtype.bitwidth // 8)

    def write(self, value: Any, arg: int, array: Any, at: Any) -> None:
        self.builder.store(value, self.pointer(arg, array, at, value.type), align=self.kinds[arg].dtype.bitwidth // 8)

    def chosen(self, vector: Any, lanes: Sequence[int]) -> Any:
        """The vector of some lanes of another one."""
        mask = ir.VectorType(ir.IntType(32), len(lanes))(list(lanes))
        return self.builder.shuffle_vector(vector, vector.type(ir.Undefined), mask)

    def repeated(self, number: Any, vector: ir.VectorType) -> Any:
        """A vector with the same number in all lanes."""
        one = self.builder.insert_element(vector(ir.Undefined), number, ir.IntType(32)(0))
        return self.chosen(one, [0] * vector.count)

    def sum_of_product(self, x: Any, y: Any, z: Any) -> Any:
        """``x * y + z``, rounded once."""
        kind = z.type
        name = f"llvm.fma.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return self.builder.call(function, [x, y, z])


@intrinsic(prefer_literal=True)
def load(typing: Any, array: Any, at: Any, stride: Any, rows: Any, vectors: Any, lanes: Any) -> Any:
    """A block of rows of neighbouring vectors. Row i begins at ``at + i * stride``; stride 0 repeats the first row."""
    num_vectors, num_lanes = vectors.literal_value, lanes.literal_value
    block = Block(rows.literal_value * num_vectors, num_lanes, array.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, result = _Code(context, builder, signature), ir.ArrayType(block.vector, block.count)(ir.Undefined)
        for k in range(block.count):
            place = code.moved(code.moved(args[1], k // num_vectors, args[2]), k % num_vectors, num_lanes)
            result = builder.insert_value(result, code.read(0, args[0], place, block.vector), k)
        return result

    return block(array, types.intp, types.intp, rows, vectors, lanes), codegen


@intrinsic(prefer_literal=True)
def store(typing: Any, block: Any, array: Any, at: Any, stride: Any, vectors: Any) -> Any:
    """Write a block to where ``load`` reads it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
        code, num_vectors = _Code(context, builder, signature), vectors.literal_value
        for k in range(block.count):
            place = code.moved(code.moved(args[2], k // num_vectors, args[3]), k % num_vectors, block.lanes)
            code.write(builder.extract_value(args[0], k), 1, args[1], place)

    return types.void(block, array, types.intp, types.intp, vectors), codegen


@intrinsic(prefer_literal=True)
def add_scaled(typing: Any, block: Any, scale: Any, other: Any, length: Any) -> Any:
    """``block + scale * other`` in the first ``length`` lanes, counted over all vectors; the other lanes stay as they are."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, result = _Code(context, builder, signature), args[0]
        factor = code.repeated(args[1], block.vector)
        for k in range(block.count):
            old = builder.extract_value(args[0], k)
            new = code.sum_of_product(factor, builder.extract_value(args[2], k), old)
            if (left := length.literal_value - k * block.lanes) < block.lanes:
                inside = ir.VectorType(ir.IntType(1), block.lanes)([int(lane < left) for lane in range(block.lanes)])
                new = builder.select(inside, new, old)
            result = builder.insert_value(result, new, k)
        return result

    return block(block, block.dtype, block, length), codegen


@intrinsic
def add_outer(typing: Any, block: Any, array: Any, at: Any, below: Any, vector: Any) -> Any:
    """Add to each vector of the block a pair of neighbouring numbers, the pair repeated along the lanes, times ``vector``.

    ``vector`` is a block of one. The first half of the block takes the pairs from ``at`` on, the second from ``at + below`` on.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, result, half = _Code(context, builder, signature), args[0], block.count // 2
        factor, pair = builder.extract_value(args[4], 0), ir.VectorType(block.vector.element, 2)
        for k in range(block.count):
            numbers = code.read(1, args[1], code.moved(code.moved(args[2], k // half, args[3]), k % half, 2), pair)
            repeated = code.chosen(numbers, [lane % 2 for lane in range(block.lanes)])
            total = code.sum_of_product(repeated, factor, builder.extract_value(args[0], k))
            result = builder.insert_value(result, total, k)
        return result

    return block(block, array, types.intp, types.intp, vector), codegen


@intrinsic
def store_largest(typing: Any, block: Any, largest: Any, winners: Any, at: Any) -> Any:
    """Write ReLU of the largest number of each 2x2 window, and which of its four corners that is, or ``NONE`` if it becomes 0.

    The two halves of the block are two rows. In a vector the left and the right corner of a window are neighbours. Corners are
    counted by row. The first of equal ones wins, and the last NaN before all numbers, as in torch's max pooling.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
        code, half, lanes = _Code(context, builder, signature), block.count // 2, block.lanes // 2
        bytes_ = ir.VectorType(ir.IntType(8), lanes)
        for window in range(half):
            rows = [builder.extract_value(args[0], row * half + window) for row in (0, 1)]
            corners = [code.chosen(row, range(side, block.lanes, 2)) for row in rows for side in (0, 1)]
            best, winner = corners[0], bytes_([0] * lanes)
            for corner, value in enumerate(corners[1:], start=1):
                is_nan = builder.fcmp_unordered("uno", value, value)
                wins = builder.or_(builder.fcmp_ordered(">", value, best), is_nan)
                best = builder.select(wins, value, best)
                winner = builder.select(wins, bytes_([corner] * lanes), winner)
            zero = best.type([0.0] * lanes)
            is_left = builder.fcmp_unordered(">", best, zero)  # NaN is
            best, winner = builder.select(is_left, best, zero), builder.select(is_left, winner, bytes_([NONE] * lanes))
            place = code.moved(args[3], window, lanes)
            code.write(best, 1, args[1], place)
            code.write(winner, 2, args[2], place)

    return types.void(block, largest, winners, types.intp), codegen


@cache
def forward_kernel(K: int, L: int, P: int) -> Kernel:
    """The forward kernel of a shape, ``forward(x, weight, bias, y, winners)``.

    A vector has the sums of L channels at two neighbouring columns, those of one window. A tile of two rows of P such vectors
    stays in registers from the bias to the maximum of its windows, so the convolution is never in memory. ReLU comes last.

    ``sum[o, y, z] = bias[o] + sum over i, a, b of x[i, y+a, z+b] * weight[i, a, b, o]``, added in the order of i, a, b.

    Weights are copied to (R, I, K, K, 2 C), where C is O with zeros up to a multiple of L, each value twice; biases alike.

    Shapes: x (N, G, I, H, W); weight (R, O, I, K, K); bias (R, O); results: y (N, R, O, HP, WP), and winners, alike but uint8:
    the largest corner of each window, 0 to 3, or ``NONE`` if ReLU makes it 0.

    Args:
        K: side of the kernel.
        L: channels in a vector of 2 L lanes.
        P: windows of a tile, at most WP. The last tile of a row begins P before its end, perhaps inside the one before it.
    """
    num_sums, lanes = 2 * P, 2 * L

    def forward(x: Any, weight: Any, bias: Any, y: Any, winners: Any) -> None:
        N, G, I, H, W = x.shape
        _, R, O, HP, WP = y.shape
        width = (O + L - 1) // L * lanes
        weights, biases = np.zeros(R * I * K * K * width, x.dtype), np.zeros(R * width, x.dtype)
        for r in range(R):
            for o in range(O):
                for twice in range(2 * o, 2 * o + 2):
                    biases[r * width + twice] = bias[r, o]
                    for i in range(I):
                        for a in range(K):
                            for b in range(K):
                                weights[(((r * I + i) * K + a) * K + b) * width + twice] = weight[r, o, i, a, b]
        largest = np.empty(HP * WP * L, x.dtype)
        corners = np.empty(HP * WP * L, np.uint8)
        for n in range(N):
            for r in range(R):
                image = (n * G + r // (R // G)) * I * H * W
                for first in range(0, O, L):
                    for row in range(HP):
                        for tile in range(0, WP, P):
                            z = min(tile, WP - P)
                            sums = load(biases, r * width + 2 * first, 0, num_sums, 1, lanes)
                            for i in range(I):
                                for a in range(K):
                                    at = image + (i * H + 2 * row + a) * W + 2 * z
                                    own = ((r * I + i) * K + a) * K * width + 2 * first
                                    for b in range(K):
                                        vector = load(weights, own + b * width, 0, 1, 1, lanes)
                                        sums = add_outer(sums, x, at + b, W, vector)
                            store_largest(sums, largest, corners, (row * WP + z) * L)
                    for o in range(min(L, O - first)):
                        for row in range(HP):
                            for z in range(WP):
                                y[n, r, first + o, row, z] = largest[(row * WP + z) * L + o]
                                winners[n, r, first + o, row, z] = corners[(row * WP + z) * L + o]

    return compiled(forward)


@cache
def backward_kernel(I: int, K: int, L: int, V: int, S: int, with_dx: bool) -> Kernel:
    """The backward kernel of a shape, ``backward(x, weight, winners, dy, dx, d_weight, d_bias)``.

    The gradient of a window belongs to its largest corner, if ReLU has left it. Only gradients that are not zero are looked at:
    about an eighth of the positions of the convolution. Each is multiplied by a patch of x: K rows of K*I numbers.
    One image at a time is turned to (H, W, I), so that the numbers of such a row lie side by side.

    ``d_weight[o] = sum of dy * patch``: first over the windows of an image, row by row, then over the images; ``d_bias`` alike.
    ``dx``, at the place of the patch, is the sum of ``dy * weight[o]`` over runs that share x, over o, over windows row by row.

    Weights are copied to (R, O, K, V*L), the rows of a patch filled up with zeros. Their gradient is copied back from there.

    Shapes: x (N, G, I, H, W); weight (R, O, I, K, K); winners, dy (N, R, O, HP, WP); results: dx like x if ``with_dx``, else it
    is not touched; d_weight like weight; d_bias (R, O).

    Args:
        I: channels in.
        K: side of the kernel.
        L: lanes of a vector.
        V: vectors of a row, a multiple of S.
        S: vectors of a row whose sums of d_weight are in registers at the same time.
        with_dx: whether dx is wanted.
    """
    num_sums, part, row, length = K * S, K * S * L, V * L, K * I

    def backward(x: Any, weight: Any, winners: Any, dy: Any, dx: Any, d_weight: Any, d_bias: Any) -> None:
        N, G, _, H, W = x.shape
        _, R, O, HP, WP = dy.shape
        zeros = np.zeros(L, x.dtype)
        weights, d_weights = np.zeros((2, R * O * K * row), x.dtype)
        if with_dx:
            for r in range(R):
                for o in range(O):
                    for i in range(I):
                        for a in range(K):
                            for b in range(K):
                                weights[((r * O + o) * K + a) * row + b * I + i] = weight[r, o, i, a, b]
        d_bias[:] = 0
        image = np.zeros(H * W * I + row, x.dtype)
        d_image = np.empty(H * W * I + row, x.dtype)
        patches = np.empty(HP * WP, np.intp)
        values = np.empty(HP * WP, x.dtype)
        for n in range(N):
            for g in range(G):
                for i in range(I):
                    for y in range(H):
                        for z in range(W):
                            image[(y * W + z) * I + i] = x[n, g, i, y, z]
                d_image[:] = 0
                for r in range(g * (R // G), (g + 1) * (R // G)):
                    for o in range(O):
                        count, total = np.intp(0), zeros[0]
                        for y in range(HP):
                            for z in range(WP):
                                value, corner = dy[n, r, o, y, z], np.intp(winners[n, r, o, y, z])
                                patches[count] = ((2 * y + corner // 2) * W + 2 * z + corner % 2) * I
                                values[count] = value
                                count += np.intp(value != 0) & ~(corner // NONE)  # no branch, often guessed wrongly
                        own = (r * O + o) * K * row
                        for first in range(0, row, S * L):
                            sums, total = load(zeros, 0, 0, num_sums, 1, L), zeros[0]
                            for k in range(count):
                                total += values[k]
                                patch = load(image, patches[k] + first, W * I, K, S, L)
                                sums = add_scaled(sums, values[k], patch, part)
                            before = load(d_weights, own + first, row, K, S, L)
                            store(add_scaled(before, x.dtype.type(1), sums, part), d_weights, own + first, row, S)
                        d_bias[r, o] += total
                        if with_dx:
                            for k in range(count):
                                for a in range(K):
                                    at = patches[k] + a * W * I
                                    vectors = load(weights, own + a * row, 0, 1, V, L)
                                    line = load(d_image, at, 0, 1, V, L)
                                    store(add_scaled(line, values[k], vectors, length), d_image, at, 0, V)
                if with_dx:
                    for i in range(I):
                        for y in range(H):
                            for z in range(W):
                                dx[n, g, i, y, z] = d_image[(y * W + z) * I + i]
        for r in range(R):
            for o in range(O):
                for i in range(I):
                    for a in range(K):
                        for b in range(K):
                            d_weight[r, o, i, a, b] = d_weights[((r * O + o) * K + a) * row + b * I + i]

    return compiled(backward)
