"""A model's ``predict`` prepared once for inputs of one shape: a CUDA graph, or code by ``torch.compile``.

A capture needs memory that is the graph's own, so PyTorch keeps its own allocator (``backend.gpu.memory`` says why). One that
someone has plugged in, as RMM's, offers none; then the model runs launch by launch.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch

from gpuatac.errors import InputError
from gpuatac.nn.contract import Denoised

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuatac.nn.contract import Denoiser

    Predict = Callable[[torch.Tensor, torch.Tensor], Denoised]

logger = logging.getLogger(__name__)
WARM_UP = 3  # runs before a capture: cuDNN chooses its algorithms in them
_graphs: WeakKeyDictionary[Any, Graph] = WeakKeyDictionary()


class Graph:
    """``model.predict`` as one CUDA graph: captured once, then replayed without a launch from the host."""

    def __init__(self, model: Denoiser, x: torch.Tensor, depth: torch.Tensor) -> None:
        self.state = _state(model, x)
        self.x, self.depth = x.clone(), depth.clone()
        side = torch.cuda.Stream(x.device)
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                model.predict(self.x, self.depth)
        torch.cuda.current_stream(x.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        # other threads go on meanwhile, as the one that writes finished stretches: what they do is no part of the capture
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.out = model.predict(self.x, self.depth)

    def replay(self, x: torch.Tensor, depth: torch.Tensor) -> Denoised:
        """Outputs for other inputs of the same shape; the caller's to keep."""
        self.x.copy_(x)
        self.depth.copy_(depth)
        self.graph.replay()
        return Denoised(self.out.signal.clone(), self.out.probability.clone())


def _state(model: Denoiser, x: torch.Tensor) -> Any:
    """What a capture holds fast: shape, dtype of computation, and weights."""
    weights = [(t.data_ptr(), t._version) for t in (*model.parameters(), *model.buffers())]
    narrow = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else torch.backends.cudnn.allow_tf32
    return tuple(x.shape), x.dtype, narrow, weights


def _replayed(model: Denoiser, x: torch.Tensor, depth: torch.Tensor) -> Denoised:
    graph = _graphs.get(model)
    if graph is None or graph.state != _state(model, x):
        graph = _graphs[model] = Graph(model, x, depth)
    return graph.replay(x, depth)


def may_capture(allocator: str, how: Literal["auto", "graph"]) -> bool:
    """Whether PyTorch's allocator of this name ("native", "cudaMallocAsync", "pluggable") gives a graph memory of its own.

    For "auto" what it cannot is logged, for "graph" it is an InputError.
    """
    if allocator != "pluggable":
        return True
    found = "PyTorch allocates by a pluggable allocator, which has no memory pools for CUDA graphs"
    if how == "graph":
        msg = f"{found}; allowed: PyTorch's own; leave out torch.cuda.memory.change_current_allocator, or choose 'compile' or False."
        raise InputError(msg)
    logger.warning("denoising: %s: each kernel is launched by itself", found)
    return False


def captured(model: Denoiser, device: torch.device, how: Literal["auto", "graph", "compile"] = "auto") -> Predict:
    """``model.predict`` for inputs of one shape: a CUDA graph, code by ``torch.compile``, or the one that fits the device.

    The graph of a model is kept until it is called with another shape or precision, or its weights have changed.

    Raises
    ------
    InputError
        When a graph is asked for on a CPU, or of an allocator that has no memory pools. What the capture or the compiler cannot
        do is an error of theirs.
    """
    if how == "graph" and device.type != "cuda":
        msg = (
            f"a CUDA graph needs a model on a GPU, and this one is on {device}; move it, or choose 'compile' or False."
        )
        raise InputError(msg)
    if how == "graph" or (how == "auto" and device.type == "cuda"):
        return partial(_replayed, model) if may_capture(torch.cuda.get_allocator_backend(), how) else model.predict
    compiled: Predict = torch.compile(model.predict, dynamic=False)
    return compiled
