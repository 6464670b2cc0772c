"""Arrays of a backend as tensors and back, by DLPack: both see the same memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend


def as_tensor(array: Any) -> torch.Tensor:
    """A tensor over the memory of ``array`` (NumPy or CuPy), on its device, without a copy.

    Only a host array that is read-only is copied, since a tensor can always be written to.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuatac.nn.dlpack import as_tensor
    >>> track = np.zeros(5, np.float32)
    >>> as_tensor(track).data_ptr() == track.ctypes.data
    True
    """
    flags = getattr(array, "flags", None)
    if not getattr(flags, "writeable", True):
        array = array.copy()
    return torch.from_dlpack(array)


def as_array(tensor: torch.Tensor, bk: Backend) -> Any:
    """An array of the backend ``bk`` over the memory of ``tensor``; copied only where that lies on another device.

    Examples
    --------
    >>> import torch
    >>> from gpuatac.backend import get
    >>> from gpuatac.nn.dlpack import as_array
    >>> as_array(torch.ones(3), get("cpu"))
    array([1., 1., 1.], dtype=float32)
    """
    tensor = tensor.detach()
    if bk.name == "cpu":
        return tensor.cpu().numpy()
    return bk.xp.from_dlpack(tensor) if tensor.is_cuda else bk.asarray(tensor.numpy())
