"""What a norm does to nearly equal images: it brings their differences to unit size.

Shape letters: R runs, N images, C channels, S side of the image, D values of an image in a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnexp.torch_rng import torch_generator
from bnexp.training.probes.steps import Step, Values
from bnexp.training.probes.twin import Twin


class SimilarImages:
    """Gain of the first norm layer on a batch of one image with Gaussian jitter, the network in training mode.

    ``similar/output_deviation``  deviation between the images after the norm, divided by that before it (standard deviation
                                  over the batch, root mean square over channels and positions); undefined without jitter
    ``similar/backward_gain``     ``||dx|| / ||dy||`` of a Gaussian gradient dy that enters the norm from above and leaves as dx
    Both are near ``|weight| / sqrt(var + eps)``. On features var is that of the jitter, so the gain grows up to
    ``|weight| / sqrt(eps)`` as the images become equal. On maps the variance within the image remains. A network without
    norm has gain 1. Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1 and its backward pass.

    Args:
        twin: what the images are passed through.
        image: the image, (C, S, S), already normalised.
        num_images: size of the batch.
        jitter: standard deviation of the change of each pixel, in units of the normalised image.
    """

    def __init__(self, twin: Twin, image: Tensor, num_images: int, jitter: float) -> None:
        self.twin = twin
        self.images = image + jitter * _gaussian("probe/jitter", (num_images, *image.shape), image)

    def __call__(self, step: Step) -> Values:
        """The gains after ``step``, each (R,)."""
        self.twin.load(step.after)
        found: list[tuple[nn.Module, Tensor]] = []
        norms = set(self.twin.network.norm_layers())

        def visit(name: str, layer: nn.Module, x: Tensor) -> None:
            if name in norms:
                found.append((layer, x))

        with torch.no_grad():
            self.twin.walk(self.images, visit)
        if not found:
            gain = self.images.new_ones(self.twin.num_runs)
            return {"similar/output_deviation": gain, "similar/backward_gain": gain}
        norm, x = found[0]
        x = x.to(self.images.dtype).requires_grad_()
        y = norm(x)
        values = y.detach().view(len(y), self.twin.num_runs, -1)
        # Every run has the same gradient, so that its gain does not depend on the others; by place in memory, not by pixel.
        dy = _gaussian("probe/gradient", (len(y), 1, values.shape[2]), y).expand_as(values)
        (dx,) = torch.autograd.grad(y, x, dy.reshape(y.shape))
        return {
            "similar/output_deviation": _deviation(values) / _deviation(x.detach().view(values.shape)),
            "similar/backward_gain": dx.view(values.shape).norm(dim=(0, 2)) / dy.norm(dim=(0, 2)),
        }


def _deviation(values: Tensor) -> Tensor:
    """Root mean square deviation of the images from their mean: (N, R, D) -> (R,)."""
    return values.var(0, unbiased=False).mean(1).sqrt()


def _gaussian(stream: str, shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers of a named stream, the same for every run, on the device and in the format of ``like``."""
    numbers = torch.randn(tuple(shape), generator=torch_generator(0, stream), dtype=torch.float64)
    return numbers.to(like.dtype).to(like.device)
