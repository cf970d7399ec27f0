"""The compiled loops of convolution + 2x2 max pooling, and the few vector operations that they are made of.

LLVM does not keep a tile of sums in vector registers when it compiles plain loops: these are 2.5 times slower. So a ``Block`` is
a value that the loops can hold: vectors of so many lanes each. Five functions work on blocks: ``load``, ``store``,
``add_scaled``, ``add_outer``, ``store_largest``. They take any array whose elements lie side by side, and count positions
over all of its axes. They check no bounds.

Each sum is computed by one lane, in a fixed order, by fused multiply-adds. The number of lanes, and how many vectors a CPU holds,
decide which sums are computed at the same time, but no bit of them.

All of it is one file, because numba reads a kernel from its disk cache again if the file of that kernel has not changed.

Letters: R runs, G groups of neighbouring runs that share images, N batch, I and O channels in and out, H and W sides of the input,
K side of the kernel, HP and WP sides of the pooled output; n, g, r, i, o, y, z count them; L lanes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, event
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

log = logging.getLogger(__name__)

Kernel = Callable[..., None]


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
class _BlockModel(models.PrimitiveModel):  # type: ignore[misc]
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

    def repeated(self, number: Any, vector: ir.VectorType) -> Any:
        """A vector with the same number in all lanes."""
        first = ir.IntType(32)(0)
        one = self.builder.insert_element(vector(ir.Undefined), number, first)
        return self.builder.shuffle_vector(one, one, ir.VectorType(first.type, vector.count)([0] * vector.count))

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
    """``block + scale * other`` in the first ``length`` lanes, counted over all vectors; the lanes after them stay as they are."""

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
def add_outer(typing: Any, block: Any, array: Any, at: Any, below: Any, step: Any, vector: Any) -> Any:
    """Add to each vector of the block one number of the array times ``vector``, a block of one.

    The numbers are ``step`` apart, those of the first half of the block from ``at``, those of the second from ``at + below``.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, result, half = _Code(context, builder, signature), args[0], block.count // 2
        factor = builder.extract_value(args[5], 0)
        for k in range(block.count):
            place = code.moved(code.moved(args[2], k // half, args[3]), k % half, args[4])
            number = code.repeated(code.read(1, args[1], place, block.vector.element), block.vector)
            total = code.sum_of_product(number, factor, builder.extract_value(args[0], k))
            result = builder.insert_value(result, total, k)
        return result

    return block(block, array, types.intp, types.intp, types.intp, vector), codegen


@intrinsic
def store_largest(typing: Any, block: Any, largest: Any, winners: Any, at: Any) -> Any:
    """Write the largest vector, lane by lane, of each 2x2 window, and which of its four corners that is.

    The block is two rows of positions, each position a vector. The corners of a window are counted by row. The first of equal
    ones wins, and the last NaN before all numbers, as in torch's max pooling.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
        code, num_windows = _Code(context, builder, signature), block.count // 4
        bytes_ = ir.VectorType(ir.IntType(8), block.lanes)
        for window in range(num_windows):
            best, winner = builder.extract_value(args[0], 2 * window), bytes_([0] * block.lanes)
            for corner in (1, 2, 3):
                row, column = divmod(corner, 2)
                value = builder.extract_value(args[0], 2 * (row * num_windows + window) + column)
                is_nan = builder.fcmp_unordered("uno", value, value)
                wins = builder.or_(builder.fcmp_ordered(">", value, best), is_nan)
                best = builder.select(wins, value, best)
                winner = builder.select(wins, bytes_([corner] * block.lanes), winner)
            place = code.moved(args[3], window, block.lanes)
            code.write(best, 1, args[1], place)
            code.write(winner, 2, args[2], place)

    return types.void(block, largest, winners, types.intp), codegen


class _Announcer(event.Listener):  # type: ignore[misc]
    """Says that kernels are being compiled, when that begins: the cache has been looked at by then."""

    said = False

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"].py_func.__module__ == __name__ and not self.said:
            self.said = True
            log.warning("Compiling kernels for this CPU, once: about 5 s.")

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())


def _compiled(function: Kernel) -> Kernel:
    """The function, compiled at its first call for the types of its arguments, or read from numba's cache on the disk."""
    try:
        kernel: Kernel = njit(function, cache=True)
    except RuntimeError:  # there is no place for the cache that can be written
        kernel = njit(function)
    return kernel


@cache
def forward_kernel(I: int, K: int, L: int, P: int) -> Kernel:  # noqa: E741  # as in the legend
    """The forward kernel of a shape, ``forward(x, weight, bias, pooled, winners)``.

    One image at a time is turned to (H, W, I), so that the K*I numbers of one row of a patch lie side by side. A tile of two
    rows and 2 P columns of the output, for L channels, stays in registers from the bias to the maximum of its windows.

    ``sum[o, y, z] = bias[o] + sum over a, b, i of x[i, y+a, z+b] * weight[a, b, i, o]``, added in the order of a, b, i.

    Shapes: x (N, G, I, H, W); weight (R, K, K, I, C) and bias (R, C), where C is O with zeros up to a multiple of L; results:
    pooled (N, R, O, HP, WP), and winners, alike but uint8: the corner of each window that is largest, 0 to 3 by row.

    Args:
        I: channels in.
        K: side of the kernel.
        L: lanes of a vector.
        P: pooled columns of a tile, at most WP. The last tile of a row begins P before its end, perhaps inside the one before.
    """
    num_sums, row = 4 * P, K * I

    def forward(x: Any, weight: Any, bias: Any, pooled: Any, winners: Any) -> None:
        N, G, _, H, W = x.shape
        _, R, O, HP, WP = pooled.shape  # noqa: E741
        C = bias.shape[1]
        image = np.empty(H * W * I, x.dtype)
        largest = np.empty(HP * WP * L, x.dtype)
        corners = np.empty(HP * WP * L, np.uint8)
        for n in range(N):
            for g in range(G):
                for i in range(I):
                    for y in range(H):
                        for z in range(W):
                            image[(y * W + z) * I + i] = x[n, g, i, y, z]
                for r in range(g * (R // G), (g + 1) * (R // G)):
                    for first in range(0, O, L):
                        for y in range(HP):
                            for tile in range(0, WP, P):
                                z = min(tile, WP - P)
                                sums = load(bias, r * C + first, 0, num_sums, 1, L)
                                for a in range(K):
                                    at = ((2 * y + a) * W + 2 * z) * I
                                    own = (r * K + a) * row * C + first
                                    for k in range(row):
                                        vector = load(weight, own + k * C, 0, 1, 1, L)
                                        sums = add_outer(sums, image, at + k, W * I, I, vector)
                                store_largest(sums, largest, corners, (y * WP + z) * L)
                        for o in range(min(L, O - first)):
                            for y in range(HP):
                                for z in range(WP):
                                    pooled[n, r, first + o, y, z] = largest[(y * WP + z) * L + o]
                                    winners[n, r, first + o, y, z] = corners[(y * WP + z) * L + o]

    return _compiled(forward)


@cache
def backward_kernel(I: int, K: int, L: int, V: int, S: int, with_dx: bool) -> Kernel:  # noqa: E741
    """The backward kernel of a shape, ``backward(x, weight, winners, dy, dx, d_weight, d_bias)``.

    The gradient of a window belongs to its largest corner, and only gradients that are not zero are looked at: behind max
    pooling and ReLU an eighth of the positions. A patch is K rows of K*I numbers, each row V vectors.

    ``d_weight[o] = sum of dy * patch of x``, within an image by row of windows, then over images; ``d_bias`` alike;
    ``dx = sum of dy * weight[o]`` at the place of the patch, over o, then by row of windows; runs that share x one after another.

    Shapes: x (N, G, I, H, W); winners and dy (N, R, O, HP, WP); weight (R, O, K, V*L), each row of a patch filled up to V*L;
    results: dx like x if ``with_dx``, else untouched; d_weight like weight and d_bias (R, O), which have to be zeros before.

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
        _, R, O, HP, WP = dy.shape  # noqa: E741
        zeros = np.zeros(L, x.dtype)
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
                        count, total = 0, zeros[0]
                        for y in range(HP):
                            for z in range(WP):
                                value, corner = dy[n, r, o, y, z], np.intp(winners[n, r, o, y, z])
                                patches[count] = ((2 * y + corner // 2) * W + 2 * z + corner % 2) * I
                                values[count] = value
                                count += value != 0
                                total += value
                        d_bias[r, o] += total
                        own = (r * O + o) * K * row
                        for first in range(0, row, S * L):
                            sums = load(zeros, 0, 0, num_sums, 1, L)
                            for k in range(count):
                                patch = load(image, patches[k] + first, W * I, K, S, L)
                                sums = add_scaled(sums, values[k], patch, part)
                            before = load(d_weight, own + first, row, K, S, L)
                            store(add_scaled(before, x.dtype.type(1), sums, part), d_weight, own + first, row, S)
                        if with_dx:
                            for k in range(count):
                                for a in range(K):
                                    at = patches[k] + a * W * I
                                    vectors = load(weight, own + a * row, 0, 1, V, L)
                                    line = load(d_image, at, 0, 1, V, L)
                                    store(add_scaled(line, values[k], vectors, length), d_image, at, 0, V)
                if with_dx:
                    for i in range(I):
                        for y in range(H):
                            for z in range(W):
                                dx[n, g, i, y, z] = d_image[(y * W + z) * I + i]

    return _compiled(backward)
