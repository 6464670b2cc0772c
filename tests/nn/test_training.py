"""Training: going on after a kill, the best epoch, recipes, the state on disk."""

from __future__ import annotations

import csv
import os
import pickle
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

torch = pytest.importorskip("torch", reason="needs the nn extra")

from training_cases import TinyCoverage, TinyCuts, toy_tracks  # noqa: E402

from gpuatac.errors import FileFormatError, InputError  # noqa: E402
from gpuatac.nn.contract import LossWeights  # noqa: E402
from gpuatac.nn.denoising.examples.from_tracks import Sample, Shape, TrackExamples, TrackValidation, Windows  # noqa: E402
from gpuatac.nn.denoising.examples.noisy_inputs import Measured, Track  # noqa: E402
from gpuatac.nn.denoising.examples.splits import Split  # noqa: E402
from gpuatac.nn.recipes import PRESETS, Recipe, preset  # noqa: E402
from gpuatac.nn.state import load_state, save_state  # noqa: E402
from gpuatac.nn.training import train  # noqa: E402
from gpuatac.nn.validation import validate  # noqa: E402

SPLIT = Split(train=(0, 1), validation=(2,))
PEAKS = {
    code: np.stack([np.arange(400, size, 1000), np.arange(400, size, 1000) + 200], axis=1)
    for code, size in enumerate((15_000, 9_000, 7_003))
}
PLAIN = Recipe(epochs=4, batch_size=8, interval=512, lr=1e-2, random_starts=True, flip=True)
EVERYTHING = replace(
    PLAIN,
    optimiser="adamw",
    weight_decay=1e-2,
    schedule="one-cycle",
    clip=1.0,
    ema=0.9,
    steps_per_epoch=5,
    best="auprc",
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(net, *, peaks=PEAKS, flip=True):
    clean, noisy = toy_tracks()
    samples = [Sample(Track(clean), peaks, [(Measured(Track(noisy)), 1.0)])]
    shape, windows = Shape.of(net), Windows(interval=512, random_starts=flip, flip=flip)
    held = TrackValidation(samples, SPLIT, shape=shape, windows=Windows(interval=512))
    return TrackExamples(samples, SPLIT, shape, windows, seed=1), held


def made(kind=TinyCoverage, **options):
    torch.manual_seed(0)
    return kind(**options)


def run(net, recipe, **options):
    examples, held = data(net)
    return train(net, examples, validation=held, recipe=recipe, seed=5, **options)


@pytest.mark.parametrize("recipe", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_a_run_that_goes_on_gives_the_weights_of_one_that_was_never_stopped(recipe, tmp_path):
    whole = made(dropout=0.3)
    done = run(whole, recipe, state_path=tmp_path / "whole.pt")

    class Stopped(Exception):
        pass

    class StopsInEpoch3(TinyCoverage):
        n_steps, per_epoch = 0, 0

        def loss(self, *args):
            self.n_steps += 1
            if self.n_steps > 2.5 * self.per_epoch:
                raise Stopped
            return super().loss(*args)

    broken = made(StopsInEpoch3, dropout=0.3)
    broken.per_epoch = recipe.steps_per_epoch or -(-len(data(broken)[0]) // recipe.batch_size)
    path = tmp_path / "last.pt"
    with pytest.raises(Stopped):
        run(broken, recipe, state_path=path)
    assert load_state(path)["epoch"] == 2
    torch.manual_seed(99)
    resumed = TinyCoverage(dropout=0.3)
    again = run(resumed, recipe, state_path=path, resume=True)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    first, second = load_state(tmp_path / "whole.pt"), load_state(path)
    for key in ("model", "best_weights"):
        assert all(torch.equal(first[key][name], second[key][name]) for name in first[key])
    assert [r["loss"] for r in done.history] == [r["loss"] for r in again.history]
    assert done.best_epoch == again.best_epoch


class Noted:
    """Examples that note what they were asked for."""

    def __init__(self, examples):
        self.examples, self.asked = examples, {}

    def __len__(self):
        return len(self.examples)

    def batch(self, picks, *, epoch, positions):
        self.asked.setdefault(epoch, []).append((list(picks), list(positions)))
        return self.examples.batch(picks, epoch=epoch, positions=positions)

    def order(self, epoch):
        return [pick for picks, _ in self.asked[epoch] for pick in picks]


def orders(recipe, seed=5):
    net = made()
    examples, held = data(net)
    noted = Noted(examples)
    train(net, noted, validation=held, recipe=recipe, seed=seed)
    assert sorted(noted.asked) == list(range(recipe.epochs))
    return noted, len(examples)


def test_every_epoch_takes_each_example_once_and_in_an_order_of_its_own():
    noted, n = orders(replace(PLAIN, epochs=3))
    for epoch in range(3):
        assert sorted(noted.order(epoch)) == list(range(n))
        positions = [p for _, at in noted.asked[epoch] for p in at]
        assert positions == list(range(n))
    of_epochs = [noted.order(epoch) for epoch in range(3)]
    for i, one in enumerate([list(range(n)), *of_epochs]):
        for other in of_epochs[i:]:
            assert np.mean(np.array(one) == other) < 0.3  # of two random orders one place in n agrees
    assert orders(replace(PLAIN, epochs=1), seed=6)[0].order(0) != of_epochs[0]
    assert orders(replace(PLAIN, epochs=1))[0].order(0) == of_epochs[0]


def test_more_steps_than_examples_take_whole_rounds_each_in_an_order_of_its_own():
    noted, n = orders(replace(PLAIN, epochs=1, steps_per_epoch=-(-2 * len(data(made())[0]) // 8) + 1))
    order = noted.order(0)
    assert len(order) == 8 * (-(-2 * n // 8) + 1)
    assert sorted(order[:n]) == sorted(order[n : 2 * n]) == list(range(n))
    assert order[:n] != order[n : 2 * n]


def test_dropout_differs_from_epoch_to_epoch():
    class Draws(TinyCoverage):
        def __init__(self):
            super().__init__()
            self.drawn = []

        def loss(self, *args):
            self.drawn.append(torch.rand(()).item())
            return super().loss(*args)

    torch.manual_seed(0)
    net = Draws()
    run(net, replace(PLAIN, epochs=3))
    assert len(set(net.drawn)) == len(net.drawn) > 3


def test_kill_9_leaves_a_whole_state_to_go_on_from(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_training as t\n"
        "from dataclasses import replace\n"
        "t.torch.set_num_threads(1)\n"
        "print('ready', flush=True)\n"
        "t.run(t.made(), replace(t.PLAIN, epochs=10_000), state_path=sys.argv[2], "
        "on_best=lambda net, epoch: print(epoch, flush=True))\n"
    )
    path = tmp_path / "last.pt"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    child.stdout.readline()
    child.stdout.readline()  # the second best epoch: the first is on disk
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    state = load_state(path)
    reached = state["epoch"]
    assert reached >= 1
    recipe = replace(PLAIN, epochs=reached + 1)
    whole, resumed = made(), TinyCoverage()
    run(whole, recipe)
    done = run(resumed, recipe, state_path=path, resume=True)
    assert len(done.history) == reached + 1
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_training_learns_and_keeps_the_best_epoch(tmp_path):
    net = made()
    before = validate(net, data(net)[1])["mean"]
    seen = []
    done = run(
        net, replace(PLAIN, epochs=8), history_path=tmp_path / "history.tsv", on_best=lambda _, n: seen.append(n)
    )
    auroc = [row["auroc"] for row in done.history]
    assert done.best_epoch == 1 + int(np.argmax(auroc)) == seen[-1]
    after = validate(net, data(net)[1])["mean"]
    assert after["auroc"] == pytest.approx(max(auroc), abs=1e-12)
    assert after["auroc"] > before["auroc"] + 0.05
    assert after["pearson"] > 0.3
    rows = list(csv.DictReader((tmp_path / "history.tsv").read_text().splitlines(), delimiter="\t"))
    assert [int(r["epoch"]) for r in rows] == list(range(1, 9))
    assert float(rows[3]["mse"]) == pytest.approx(done.history[3]["mse"], rel=1e-5)
    assert {"loss", "train_mse", "train_pearson", "train_bce", "auprc", "lr", "seconds"} <= set(rows[0])


def test_validation_measures_are_those_of_scikit_learn():
    net = made()
    _, held = data(net)
    signal, probability, clean, label = [], [], [], []
    with torch.no_grad():
        for e in held.batches("noisy", 4):
            out, known = net.predict(e.x, e.depth), e.batch.weight > 0
            for part, v in zip((signal, probability, clean, label), (*out, e.batch.signal, e.batch.peak), strict=True):
                part.append(v[known].numpy())
    signal, probability, clean, label = map(np.concatenate, (signal, probability, clean, label))
    found = validate(net, held, batch_size=3)["noisy"]
    assert found["auroc"] == pytest.approx(roc_auc_score(label, probability), abs=1e-9)
    assert found["auprc"] == pytest.approx(average_precision_score(label, probability), abs=1e-9)
    assert found["mse"] == pytest.approx(((signal - clean) ** 2).mean(), rel=1e-5)
    assert found["pearson"] == pytest.approx(np.corrcoef(signal, clean)[0, 1], rel=1e-5)


def test_a_validation_set_of_one_class_does_not_stop_training(caplog):
    net = made()
    examples, held = data(net, peaks={})
    with caplog.at_level("WARNING"):
        done = train(net, examples, validation=held, recipe=replace(PLAIN, epochs=2))
    assert all(np.isnan(row["auroc"]) for row in done.history)
    pearson = [row["pearson"] for row in done.history]
    assert done.best_epoch == 1 + int(np.argmax(pearson))
    assert caplog.text.count("the best epoch is told by pearson, not auroc") == 1


def test_the_averaged_weights_are_what_is_kept():
    net, plain = made(), made()
    recipe = replace(PLAIN, epochs=1, steps_per_epoch=3, ema=0.5)
    seen = []

    class Watched(TinyCoverage):
        def loss(self, *args):
            seen.append({k: v.detach().clone() for k, v in self.state_dict().items()})
            return super().loss(*args)

    net = made(Watched)
    run(net, recipe)
    run(plain, replace(recipe, ema=0.0))
    weights = [*seen, plain.state_dict()]
    for name, value in net.state_dict().items():
        average = weights[0][name].double()
        for step, w in enumerate(weights[1:], 1):
            decay = min(0.5, step / (9 + step))
            average = decay * average + (1 - decay) * w[name].double()
        torch.testing.assert_close(value.double(), average, rtol=1e-5, atol=1e-6)


def test_one_cycle_rises_from_a_25th_and_falls_to_nothing_as_a_cosine():
    """Smith and Topin's cycle as PyTorch documents it: 20 steps, of which a tenth rise; each epoch tells its first step's rate."""
    done = run(made(TinyCuts), replace(EVERYTHING, epochs=5, steps_per_epoch=4, ema=0.0, lr=1e-3, warmup=0.1))
    rates = [row["lr"] for row in done.history]
    top, low = 1e-3, 1e-3 / 25 / 1e4
    falling = [low + (top - low) * (1 + np.cos(np.pi * (step - 1) / 18)) / 2 for step in (4, 8, 12, 16)]
    assert rates == pytest.approx([1e-3 / 25, *falling], rel=1e-6)


def test_a_clipped_gradient_moves_nothing_but_what_decays():
    """A gradient of norm 1e-12 lies far below Adam's epsilon: what is left of a step is the decay by lr x weight_decay."""
    recipe = replace(PLAIN, epochs=1, steps_per_epoch=6, clip=1e-12, weight_decay=0.1, optimiser="adamw")
    net, started = made(), made()
    run(net, recipe)
    for value, before in zip(net.state_dict().values(), started.state_dict().values(), strict=True):
        torch.testing.assert_close(value, before * (1 - 1e-2 * 0.1) ** 6, rtol=1e-5, atol=1e-5)
    free = made()
    run(free, replace(recipe, clip=None))
    assert max((a - b).abs().max().item() for a, b in zip(free.parameters(), net.parameters(), strict=True)) > 1e-2


@pytest.mark.parametrize(("epochs", "warmup"), [(5, 0.1), (1, 0.5), (5, 0.0), (5, 1.0)])
def test_a_cycle_may_rise_for_no_step_for_one_or_for_all(epochs, warmup):
    net = made()
    recipe = replace(PLAIN, epochs=epochs, steps_per_epoch=2, schedule="one-cycle", warmup=warmup)
    done = run(net, recipe)
    rates = [row["lr"] for row in done.history]
    assert len(rates) == epochs
    assert max(rates) <= recipe.lr * (1 + 1e-9)


def test_bfloat16_trains_too():
    net = made(TinyCuts)
    done = run(net, replace(PLAIN, epochs=2, precision="bfloat16"))
    assert np.isfinite(done.history[-1]["loss"])
    assert next(net.parameters()).dtype == torch.float32


def test_poisson_weight_is_taken():
    done = run(made(), replace(PLAIN, epochs=1, weights=LossWeights(poisson=1.0)))
    assert {"train_poisson", "train_bce"} <= set(done.history[0])
    assert "train_mse" not in done.history[0]


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do():
    net = made()
    with torch.no_grad():
        net.first.weight.fill_(torch.inf)
    with pytest.raises(InputError, match=r"loss is not finite by step 1 of epoch 1; choose a lower learning rate"):
        run(net, PLAIN)


def test_the_users_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    net = TinyCoverage(dropout=0.5)
    torch.manual_seed(3)
    run(net, replace(PLAIN, epochs=1))
    assert torch.equal(torch.rand(2), expected)


# -------------------------------------------------------------------------------------------------- state


def test_a_state_of_other_options_is_refused_by_name(tmp_path):
    path = tmp_path / "last.pt"
    run(made(), replace(PLAIN, epochs=1), state_path=path)
    with pytest.raises(InputError, match=r"other options: lr was 0.01 and is 0.1"):
        run(made(), replace(PLAIN, epochs=1, lr=0.1), state_path=path, resume=True)


def test_files_that_are_no_state_are_refused(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"hello")
    with pytest.raises(FileFormatError, match="training state written by gpuatac"):
        load_state(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(FileFormatError, match="another kind of file"):
        load_state(path)

    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    torch.save({"format": Harm()}, path)
    with pytest.raises(FileFormatError, match="training state written by gpuatac"):
        load_state(path)
    assert not (tmp_path / "harm").exists()


def test_a_write_that_fails_leaves_the_state_before(tmp_path):
    path = tmp_path / "last.pt"
    save_state(path, {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_state(path, {"weights": torch.zeros(1000), "cannot be written": lambda: 0})
    assert load_state(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


# ------------------------------------------------------------------------------------------------ recipes


def test_a_full_disk_is_told_by_the_name_of_the_file_and_leaves_the_state_before(tmp_path):
    path = tmp_path / "last.pt"
    save_state(path, {"epoch": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match=r"it was not written: make room.*last\.pt"):
            save_state(path, {"epoch": 2, "weights": torch.zeros(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert load_state(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_the_published_recipe_is_that_of_the_paper():
    recipe = Recipe.published()
    assert (recipe.lr, recipe.batch_size, recipe.interval, recipe.pad, recipe.epochs) == (2e-4, 64, 50_000, 5_000, 25)
    assert (recipe.optimiser, recipe.schedule, recipe.best, recipe.ema) == ("adam", "constant", "auroc", 0)
    assert recipe.weights == (0.0005, 1.0, 1.0, 0.0)
    assert [preset(name).as_dict()["batch_size"] for name in PRESETS] == [64, 8, 8]


def test_the_recipe_of_the_shipped_weights_is_written_down():
    """Other numbers need other weights (``make pretrain``)."""
    recipe = preset("multiscale")
    assert (recipe.interval, recipe.random_starts, recipe.flip, recipe.batch_size) == (32_768, True, True, 8)
    assert (recipe.depth, recipe.real_share, recipe.paired) == ((1e5, 2e7), 0.3, 0.7)
    assert (recipe.optimiser, recipe.lr, recipe.weight_decay, recipe.clip, recipe.ema) == (
        "adamw",
        1e-3,
        1e-2,
        1,
        0.995,
    )
    assert (recipe.schedule, recipe.warmup, recipe.best) == ("one-cycle", 0.1, "bce")
    assert (recipe.epochs, recipe.steps_per_epoch) == (20, 100)
    assert replace(preset("cpu"), epochs=20) == recipe
    assert preset("cpu").epochs * preset("cpu").steps_per_epoch == 800


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0}, {"epochs": 0}, {"depth": (5, 1)}, {"best": "r2"}, {"schedule": "cosine"}, {"ema": 2}, {"clip": 0},
     {"weights": LossWeights(mse=-1)}, {"depths": (0,)}, {"batch_size": 1.5}],
)  # fmt: skip
def test_recipes_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)).rstrip("s")):
        Recipe(**wrong)
