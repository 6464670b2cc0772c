"""Checkpoints: both formats, and every file that is none."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (extra nn)")

from gpuatac.errors import FileFormatError, InputError, MissingFileError, OutputExistsError  # noqa: E402
from gpuatac.nn.checkpoints import load_model, make_model, pretrained, save_model  # noqa: E402
from gpuatac.nn.contract import ModelCard  # noqa: E402
from gpuatac.nn.state import save_state  # noqa: E402

SMALL = {"num_blocks": 2, "num_blocks_class": 1, "kernel_size": 7, "kernel_size_class": 4, "out_channels": 5}
MODELS = {
    "denoising_resnet": {**SMALL, "bn": True, "afunc": "prelu", "dilation": 3, "dilation_class": 2},
    "unet": {"channels": (2, 3), "kernel_sizes": (3, 5), "bottleneck_channels": 4, "bottleneck_kernel_size": 6},
    "linear": {"field": 31},
    "logistic": {"field": 30, "in_channels": 2},
}
CARD = ModelCard(100, 5e6, 8e7, "simulated tracks", "hg38", ("ctcf+", "ctcf-"), "CC0")


def published(path, *, prefix="", legacy=False, **options):
    """A file as the published training writes it: weights by name and nothing else."""
    torch.manual_seed(3)
    model = make_model("denoising_resnet", **options).eval()
    state = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=not legacy)
    return model


def prediction(model):
    x = torch.rand(1, 1 + model.n_extra, 2 * model.halo + 5 * model.align, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return torch.stack(model.predict(x, torch.ones(1)))


class RunsCode:
    """What pickle would call os.system for."""

    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


# ----------------------------------------------------------------------------------------- both formats


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_is_saved_comes_back_with_its_card(kind, tmp_path):
    torch.manual_seed(1)
    model = make_model(kind, **MODELS[kind]).eval()
    save_model(tmp_path / "model.pt", model, CARD)
    found, card = load_model(tmp_path / "model.pt", kind=kind)
    assert card == CARD
    assert (type(found), dict(found.options)) == (type(model), dict(model.options))
    assert not found.training
    assert torch.equal(prediction(found), prediction(model))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_loads_and_tells_its_shape(prefix, legacy, tmp_path):
    options = {**SMALL, "in_channels": 3, "out_channels_class": 5}
    model = published(tmp_path / "model_best.pth.tar", prefix=prefix, legacy=legacy, **options)
    found, card = load_model(tmp_path / "model_best.pth.tar", dilation=8)
    assert dict(found.options) == dict(model.options)
    assert card == ModelCard()
    assert torch.equal(prediction(found), prediction(model))


@pytest.mark.parametrize("how", [{"dilation": (8, 10)}, {"dilation": 8, "dilation_class": 10}], ids=str)
def test_blocks_for_peaks_may_have_a_dilation_of_their_own(how, tmp_path):
    model = published(tmp_path / "w", dilation_class=10, kernel_size=50, kernel_size_class=50)
    found, _ = load_model(tmp_path / "w", **how)
    assert found.options["dilation_class"] == 10
    assert torch.equal(prediction(found), prediction(model))
    other, _ = load_model(tmp_path / "w", dilation=8)
    assert not np.allclose(prediction(other)[1, :, :40], prediction(model)[1, :, :40], atol=1e-6)


def test_a_published_checkpoint_without_its_dilation_is_refused(tmp_path):
    published(tmp_path / "w", **SMALL)
    with pytest.raises(InputError, match="does not say its dilation; pass dilation"):
        load_model(tmp_path / "w")


def test_the_dilation_of_a_model_of_ours_may_not_be_given(tmp_path):
    save_model(tmp_path / "m", make_model("denoising_resnet", **SMALL), CARD)
    with pytest.raises(InputError, match="says by itself"):
        load_model(tmp_path / "m", dilation=8)


def test_a_classifier_of_the_published_slip_loads_and_gives_its_signal_alone(tmp_path, caplog):
    options = {**SMALL, "out_channels_class": 7, "classifier_channels": 5}
    model = published(tmp_path / "w", **options)
    with caplog.at_level(logging.WARNING, "gpuatac.nn.checkpoints"):
        found, _ = load_model(tmp_path / "w", dilation=8)
    assert "probabilities are NaN" in caplog.text
    assert dict(found.options) == dict(model.options)
    signal, probability = prediction(found)
    assert torch.equal(signal, prediction(model)[0])
    assert probability.isnan().all()


# ---------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(legacy, tmp_path):
    marker = tmp_path / "was_run"
    content = {"state_dict": {"res_blocks.0.conv_act1.conv_layer.weight": RunsCode(marker)}}
    torch.save(content, tmp_path / "evil.pth.tar", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FileFormatError, match="which might run code; nothing was run"):
        load_model(tmp_path / "evil.pth.tar", dilation=8)
    assert not marker.exists()
    torch.load(tmp_path / "evil.pth.tar", weights_only=False)  # it is no empty threat
    assert marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_file_that_is_cut_short_is_refused(legacy, share, tmp_path):
    published(tmp_path / "w", legacy=legacy, **SMALL)
    whole = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileFormatError, match=r"cut short|cannot read|no checkpoint|an empty file"):
        load_model(tmp_path / "w", dilation=8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x26\xfc\x8f\x88" + bytes(100), "found a bigWig track"),
        (b"\x1f\x8b" + bytes(100), "found a gzip file"),
        (b"chr1\t0\t100\t5\n" * 9, "found a file that begins with b'chr1"),
        (bytes(1000), "found a file that begins with"),
        (b"\x80\x02" + bytes(1000), "no checkpoint|cannot read"),
    ],
)
def test_other_files_are_refused_by_name(content, message, tmp_path):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        load_model(tmp_path / "w", dilation=8)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        load_model(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "found a list"),
        ({"weights": {}}, "found a dict of 'weights'"),
        ({"state_dict": {}}, "an empty state_dict"),
        ({"state_dict": {"a": 3}}, "where 'a' is no tensor"),
        ({"state_dict": {"conv.weight": torch.zeros(2, 2, 3)}}, "a state_dict of 'conv.weight', without res_blocks"),
        ({"format": "other", "state_dict": {"a": torch.zeros(1)}}, "format 'other'"),
        ({"format": "gpuatac-denoiser", "version": 2, "state_dict": {"a": torch.zeros(1)}}, "install a newer gpuatac"),
        ({"format": "gpuatac-denoiser", "version": 1, "state_dict": {"a": torch.zeros(1)}}, "kind None"),
    ],
)
def test_contents_that_are_no_model_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "w")
    with pytest.raises(FileFormatError, match=message):
        load_model(tmp_path / "w")


def edited(state, name, change):
    state[name] = change(state[name])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: edited(s, "regressor.conv_layer.weight", lambda w: w[:, :3]),
         r"regressor.conv_layer.weight has shape \(1, 3, 1\) where \(1, 5, 1\) is expected"),
        (lambda s: s.pop("res_blocks.1.conv_act2.conv_layer.weight"), "lacks 'res_blocks.1.conv_act2.conv_layer.weight'"),
        (lambda s: s.update(more=torch.zeros(1)), "beside its network, 'more'"),
        (lambda s: edited(s, "classifier.conv_layer.bias", lambda w: w * torch.nan), "holds NaN or infinite"),
    ],
    ids=["another shape", "too few", "too many", "NaN"],
)  # fmt: skip
@pytest.mark.parametrize("own", [True, False])
def test_weights_that_do_not_fit_are_named(own, edit, message, tmp_path):
    published(tmp_path / "w", **SMALL)
    content = torch.load(tmp_path / "w")
    if own:
        save_model(tmp_path / "own", make_model("denoising_resnet", **SMALL), CARD)
        content = torch.load(tmp_path / "own")
    edit(content["state_dict"])
    torch.save(content, tmp_path / "w")
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / "w", dilation=None if own else 8)


def test_options_that_are_not_of_the_kind_are_refused(tmp_path):
    save_model(tmp_path / "m", make_model("linear", field=5), CARD)
    content = torch.load(tmp_path / "m")
    content["options"]["colour"] = "red"
    torch.save(content, tmp_path / "m")
    with pytest.raises(InputError, match="has no 'colour'; allowed: field, in_channels"):
        load_model(tmp_path / "m")
    with pytest.raises(InputError, match="kind must be one of"):
        make_model("transformer")


def test_another_kind_than_asked_for_is_refused(tmp_path):
    save_model(tmp_path / "m", make_model("linear", field=5), CARD)
    with pytest.raises(InputError, match="holds a model of kind 'linear' and 'unet' is asked for"):
        load_model(tmp_path / "m", kind="unet")


def test_a_file_is_replaced_only_when_told_and_nothing_half_written_stays(tmp_path):
    path = tmp_path / "m"
    save_model(path, make_model("linear", field=5), CARD)
    with pytest.raises(OutputExistsError, match="exists already"):
        save_model(path, make_model("linear", field=7), CARD)
    save_model(path, make_model("linear", field=7), CARD, force=True)
    before = path.read_bytes()
    with pytest.raises(AttributeError):  # while writing: what cannot be pickled
        save_model(path, make_model("linear", field=9), CARD._replace(license=lambda: None), force=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert load_model(path)[0].halo == 3


def test_a_training_state_or_a_folder_is_no_model(tmp_path):
    save_state(tmp_path / "last.pt", {"options": {}, "weights": torch.zeros(2)})
    with pytest.raises(FileFormatError, match=r"model\.pt"):
        load_model(tmp_path / "last.pt")
    with pytest.raises(FileFormatError, match="a folder"):
        load_model(tmp_path)


def test_the_shipped_model_says_what_it_was_trained_on():
    model, card = pretrained()
    assert (model.kind, card.trained_on) == ("multiscale", "simulated libraries")
    assert "BSD-3-Clause" in card.license
    assert card.input_depth is None
    assert model.by_length
