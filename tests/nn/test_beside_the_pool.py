"""Networks beside the memory pool of the arrays: whether a graph can be captured, and the thread that takes their results."""

from __future__ import annotations

import threading

import pytest
import torch

from gpuatac.errors import InputError
from gpuatac.nn.cuda_graphs import captured, may_capture
from gpuatac.nn.denoising.inference import _Behind
from gpuatac.nn.denoising.networks.linear import Linear


@pytest.mark.parametrize("allocator", ["native", "cudaMallocAsync"])
@pytest.mark.parametrize("how", ["auto", "graph"])
def test_an_allocator_of_pytorchs_own_can_capture(allocator, how):
    assert may_capture(allocator, how)


def test_a_plugged_in_allocator_cannot_which_is_said_or_refused(caplog):
    assert not may_capture("pluggable", "auto")
    assert "no memory pools for CUDA graphs: each kernel is launched by itself" in caplog.text
    with pytest.raises(InputError, match=r"pluggable allocator.*allowed: PyTorch's own; leave out .*change_current_allocator"):
        may_capture("pluggable", "graph")


def test_a_graph_needs_a_gpu():
    with pytest.raises(InputError, match="a CUDA graph needs a model on a GPU"):
        captured(Linear(), torch.device("cpu"), "graph")


def test_the_thread_behind_begins_on_the_device_it_is_given():
    calls = []

    def note(what):
        calls.append((what, threading.get_ident()))

    with _Behind(note, begin=lambda: note("begin")) as behind:
        for piece in range(3):
            behind.put(piece)
    assert [what for what, _ in calls] == ["begin", 0, 1, 2]
    assert len({thread for _, thread in calls}) == 1
    assert calls[0][1] != threading.get_ident()


def test_a_thread_that_cannot_begin_says_so_and_holds_nobody_up():
    def fail():
        msg = "no such device"
        raise RuntimeError(msg)

    done = []

    def work():
        with _Behind(done.append, begin=fail) as behind:
            for piece in range(20):
                behind.put(piece)

    with pytest.raises(RuntimeError, match="no such device"):
        work()
    assert done == []
