"""CUDA graphs of PyTorch on its CPU tensors: operations are recorded while a capture lasts, and run again by a replay.

As on a GPU the replay reads and writes the memory of the capture, whatever Python would do now; a capture allocates from a pool of
its own, which a pluggable allocator (RMM's) cannot give.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: CUDAGraph, *, pluggable: bool) -> None:
        super().__init__()
        self._graph, self._pluggable = graph, pluggable

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        read = {t.untyped_storage().data_ptr() for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)}
        made = [t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
        new = [t for t in made if t.untyped_storage().data_ptr() not in read]
        if new and self._pluggable:
            msg = "CUDA error: operation not permitted when stream is capturing (cudaMalloc by a pluggable allocator)"
            raise RuntimeError(msg)
        if "item" in str(func) or "_local_scalar_dense" in str(func):
            msg = "CUDA error: operation not permitted when stream is capturing (the host waits for the device)"
            raise RuntimeError(msg)
        self._graph.recorded.append((func, args, kwargs, made, new))
        return out


class CUDAGraph:
    """As ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        self.recorded: list[tuple[Any, Any, Any, list[torch.Tensor], list[torch.Tensor]]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, made, new in self.recorded:
                again = [t for t in tree_flatten(func(*args, **kwargs))[0] if isinstance(t, torch.Tensor)]
                for before, now in zip(made, again, strict=True):
                    if any(before is t for t in new):
                        before.copy_(now)


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def install(monkeypatch: Any, *, allocator: str = "native") -> None:
    """``torch.cuda`` captures and replays until the test ends; ``allocator`` as ``torch.cuda.get_allocator_backend`` says it."""

    @contextmanager
    def graph(cuda_graph: CUDAGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
        if capture_error_mode == "global":
            msg = "a capture in the mode 'global' fails by what other threads do meanwhile; the engine writes from one"
            raise RuntimeError(msg)
        with _Recorder(cuda_graph, pluggable=allocator == "pluggable"):
            yield

    for name, value in {
        "CUDAGraph": CUDAGraph, "graph": graph, "Stream": _Stream, "stream": lambda stream: stream,
        "current_stream": lambda device=None: _Stream(), "get_allocator_backend": lambda: allocator,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
