"""Two processes that train together (Gloo on the CPU) do what one process does on the joined batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the nn extra")

from test_training import EVERYTHING, PLAIN, data, made  # noqa: E402

from gpuatac.nn.contract import LossWeights  # noqa: E402
from gpuatac.nn.distributed import Ranks, joined  # noqa: E402
from gpuatac.nn.state import load_state, save_state  # noqa: E402
from gpuatac.nn.training import train  # noqa: E402
from gpuatac.nn.validation import validate  # noqa: E402

#: Examples 0-7 lie wholly inside a chromosome, so both halves of the batch weigh the same; then sums add up.
SUMS = LossWeights(pearson=0.0)
JOB = """
import sys
sys.path.insert(0, sys.argv[1])
import test_distributed_training as t
t.work(sys.argv[2])
"""


def gradient(net, picks, weights):
    examples, _ = data(net, flip=False)
    example = examples.batch(picks, epoch=0, positions=picks)
    net.zero_grad()
    net.loss(example.x, example.depth, example.batch, weights).total.backward()


def grads(net):
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def work(out):
    """What each of the two processes does."""
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as ranks:
        torch.manual_seed(ranks.rank)  # other weights in each, until the first one's are shared
        net = type(made())()
        ranks.share(net)
        found = {"start": {k: v.clone() for k, v in net.state_dict().items()}}
        for name, weights in (("sums", SUMS), ("pearson", LossWeights())):
            gradient(net, ranks.own(range(8)), weights)
            ranks.average_gradients(net)
            found[name] = grads(net)
        examples, held = data(net)
        found["validation"] = validate(net, held, batch_size=2, ranks=ranks)["noisy"]
        trained = made()
        train(
            trained, examples, validation=held, recipe=RECIPE, seed=5, ranks=ranks,
            state_path=Path(out) / "last.pt", history_path=Path(out) / "history.tsv",
        )  # fmt: skip
        found["trained"] = trained.state_dict()
        save_state(Path(out) / f"{ranks.rank}.pt", found)


RECIPE = replace(EVERYTHING, epochs=2, steps_per_epoch=3, batch_size=6, weights=SUMS)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What both processes found."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, str(Path(__file__).parent), str(out)],
            env={
                **os.environ, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    return [load_state(out / f"{rank}.pt") for rank in range(2)], out


def test_every_process_starts_from_the_first_ones_weights(two):
    (a, b), _ = two
    for name, value in a["start"].items():
        assert torch.equal(value, b["start"][name])


def single(two):
    net = made()
    net.load_state_dict(two[0][0]["start"])
    return net


def test_the_gradient_equals_that_of_one_process_on_the_joined_batch(two):
    net = single(two)
    gradient(net, range(8), SUMS)
    for rank in two[0]:
        for name, expected in grads(net).items():
            torch.testing.assert_close(rank["sums"][name], expected, rtol=1e-5, atol=1e-7)


def test_the_correlation_is_over_each_process_s_own_part(two):
    net = single(two)
    halves = []
    for rank in (0, 1):
        gradient(net, Ranks(rank, 2).own(range(8)), LossWeights())
        halves.append(grads(net))
    for name, found in two[0][0]["pearson"].items():
        torch.testing.assert_close(found, (halves[0][name] + halves[1][name]) / 2, rtol=1e-5, atol=1e-7)


def test_validation_of_two_processes_is_that_of_one(two):
    net = single(two)
    expected = validate(net, data(net)[1], batch_size=16)["noisy"]
    for rank in two[0]:
        assert rank["validation"] == pytest.approx(expected, rel=1e-6)


def test_both_processes_end_with_the_same_weights_and_the_first_writes(two):
    (a, b), out = two
    assert all(torch.equal(value, b["trained"][name]) for name, value in a["trained"].items())
    state = load_state(out / "last.pt")
    assert state["epoch"] == 2
    assert state["options"]["processes"] == 2
    assert len((out / "history.tsv").read_text().splitlines()) == 3


def test_a_step_is_dealt_out_evenly():
    assert [Ranks(r, 2).own([5, 6, 7]) for r in (0, 1)] == [[5, 7], [6, 5]]
    assert [Ranks(r, 3).own(range(6)) for r in range(3)] == [[0, 3], [1, 4], [2, 5]]
    assert [Ranks(r, 4).own([9]) for r in range(4)] == [[9]] * 4
    assert Ranks().own([1, 2]) == [1, 2]


def test_alone_nothing_is_changed():
    net = made()
    gradient(net, [0, 1], PLAIN.weights)
    before = grads(net)
    with joined(torch.device("cpu")) as ranks:
        assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
        ranks.average_gradients(net)
        ranks.share(net)
    assert all(torch.equal(value, grads(net)[name]) for name, value in before.items())
