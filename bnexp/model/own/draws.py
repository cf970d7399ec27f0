"""Random numbers of a constructor, one named stream for each parameter and buffer.

A constructor draws all its numbers from one generator, so a layer more or less changes what every later layer gets. Here it
runs twice. The first time we watch which draw ends up in which parameter or buffer; the second time each draw comes from the
stream of its tensor. So two networks of one seed have the same values wherever names, shapes and distributions agree,
whatever else their constructors do, and a network that initialises as a built-in one does has the values of the built-in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bnexp.model.own.guard import is_lazy, seed_python
from bnexp.rng import derive
from bnexp.torch_rng import torch_generator

_MAKING = {
    torch.ops.aten.rand: torch.rand,
    torch.ops.aten.rand_like: torch.rand,
    torch.ops.aten.randn: torch.randn,
    torch.ops.aten.randn_like: torch.randn,
}
_OVERWRITING = {torch.ops.aten.copy_, torch.ops.aten.fill_, torch.ops.aten.zero_}


def with_named_draws(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What ``build`` makes, with every random number from the stream of the tensor that it ends up in.

    Uniform and normal numbers are drawn in float64 on the CPU, so that devices and number formats share them. Draws from a
    generator that the code made itself are left alone.

    Args:
        build: makes the module; it is called twice and has to make the same draws both times.
        seed: of the run.
    """
    _seed_all(derive(seed, "init"))
    with _Watch() as watch:
        module = build()
    streams = watch.streams(module)
    del module
    _seed_all(derive(seed, "init"))
    with _Substitute(seed, streams):
        return build()


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    seed_python(seed)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _draws(func: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation draws from the global generator."""
    return torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives every operation to ``see``.

    A method named ``__torch_dispatch__`` in a subclass would make torch import its compiler, which takes more than a second.
    """

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do an operation."""
        raise NotImplementedError


def _dispatch(mode: _Mode, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
    return mode.see(func, args, kwargs or {})


_Mode.__torch_dispatch__ = _dispatch  # type: ignore[method-assign, assignment]


class _Watch(_Mode):
    """Follows the numbers of each draw through the operations that use them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_draws = 0
        self.inside: dict[int, set[int]] = {}  # storage -> the draws that its values depend on
        self.kept: list[Any] = []  # storages, so that none is freed and another one gets its place

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sources: set[int] = set()
        in_place = func._schema.name.endswith("_") and bool(args)
        overwrites = in_place and (func.overloadpacket in _OVERWRITING or _draws(func, kwargs)) and _is_whole(args[0])
        for tensor in _tensors((args[1:] if overwrites else args, kwargs)):
            sources |= self.inside.get(_place(tensor), set())
        if _draws(func, kwargs):
            sources.add(self.num_draws)
            self.num_draws += 1
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            place = _place(tensor)
            if place not in self.inside:
                self.kept.append(tensor.untyped_storage())
            if sources or place in self.inside:
                self.inside[place] = set(sources) if overwrites else self.inside.get(place, set()) | sources
        return out

    def streams(self, module: nn.Module) -> dict[int, str]:
        """Number of each draw that ends up in a tensor of the module -> its stream."""
        found: dict[int, str] = {}
        named: Iterable[tuple[str, Tensor]] = [*module.named_parameters(), *module.named_buffers()]
        for name, tensor in named:
            if is_lazy(tensor):
                continue
            new = sorted(draw for draw in self.inside.get(_place(tensor), ()) if draw not in found)
            for i, draw in enumerate(new):
                found[draw] = f"init/{name}" + (f"/{i}" if i else "")
        return found


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Any) -> bool:
    """Whether a tensor is all of its storage."""
    return isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() == tensor.nbytes


class _Substitute(_Mode):
    """Draws from named streams, in the order in which ``_Watch`` has counted the draws."""

    def __init__(self, seed: int, streams: dict[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seed, self.streams, self.num_draws = seed, streams, 0

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _draws(func, kwargs):
            return func(*args, **kwargs)
        stream = self.streams.get(self.num_draws, f"init//{self.num_draws}")
        self.num_draws += 1
        first, second = [*args[1:], *(0.0, 1.0)[len(args) - 1 :]][:2]  # low and high, or mean and deviation
        if func is torch.ops.aten.uniform_.default:
            numbers = 2 * self._new(torch.rand, args[0], stream) - 1
            return args[0].copy_(numbers * ((second - first) / 2) + (second + first) / 2)
        if func is torch.ops.aten.normal_.default:
            return args[0].copy_(self._new(torch.randn, args[0], stream) * second + first)
        torch.manual_seed(derive(self.seed, stream))
        out = func(*args, **kwargs)
        draw = _MAKING.get(func.overloadpacket)
        return out.copy_(self._new(draw, out, stream)) if draw and out.is_floating_point() else out

    def _new(self, draw: Callable[..., Tensor], like: Tensor, stream: str) -> Tensor:
        generator = torch_generator(self.seed, stream)
        return draw(tuple(like.shape), generator=generator, dtype=torch.float64, device="cpu")
