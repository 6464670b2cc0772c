"""What the command line shows: one declaration for each option, help that fits, examples, quiet, near misses, completion."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path

import pytest

import gpuatac as ga
from gpuatac.cli.app import COMMANDS, command_of, given_to, summaries, whole_app
from gpuatac.cli.documented import declared_in
from gpuatac.cli.help import described
from gpuatac.cli.hints import NUMBER_OR_NAME, Hint, hint_of
from gpuatac.cli.shared import UsageError
from gpuatac.options import RunOptions, choices

TWO_SCREENS = 48  # lines of 80 columns
#: Parameters that a command line gives in another way.
OTHERWISE = {
    "peaks": {"bam_options", "counting_strategy"},
    "coverage": {"bam_options"},
    "denoise": {"bam_options"},
    "train-denoiser": {"data", "recipe", "model_options"},
}


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_the_job_is_laid_out_once_and_described(name):
    command = command_of(name)
    laid_out = [parameter for section in command.sections for parameter in section.names]
    assert len(laid_out) == len(set(laid_out))
    wanted = {p.name for p in inspect.signature(command.job).parameters.values() if p.kind is not p.VAR_KEYWORD}
    assert wanted - set(laid_out) == OTHERWISE.get(name, set())
    flags = [flag for o in command.options().values() for flag in (o.flag, o.unset, o.short) if flag]
    assert len(flags) == len(set(flags))
    for option in command.options().values():
        assert option.help, option.name
        assert not re.search(r"``|\bNone\b|\b(True|False)\b|adata|\bobs\b|\buns\b|a frame|a Genome", option.help), option.help
        assert not re.search(r"\b(see|See|as in|As in) (below|above|pp\.|tl\.|ex\.|workflow\.)", option.help), option.help


@pytest.mark.parametrize("name", COMMANDS)
def test_a_default_in_the_help_is_the_one_that_is_declared(name):
    command = command_of(name)
    declared = inspect.signature(command.job).parameters
    for option in command.options().values():
        default = declared[option.name].default if option.name in declared else None
        if isinstance(default, int | float) and not isinstance(default, bool) and option.name not in command.defaults:
            assert f"{default}" in described(option), option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_one_line_and_shows_the_common_options_and_examples(name, cli):
    code, shown, err = cli(name, "--help")
    assert (code, err) == (0, "")
    lines = shown.splitlines()
    assert lines[0] == command_of(name).summary
    assert lines[2].startswith(f"Usage: gpuatac {name} ")
    assert max(map(len, lines)) <= 80
    assert 2 <= len(command_of(name).examples) <= 3
    assert "Examples:\n" in shown
    assert "see below" not in shown
    everything = cli(name, "--help-all")[1]
    hidden = [section for section in command_of(name).sections if section.more]
    assert ("--help-all" in shown) == bool(hidden)
    for section in hidden:
        assert f"\n{section.title}:\n" not in shown
        assert f"\n{section.title}:\n" in everything
    for option in command_of(name).options().values():
        assert (option.flag or option.unset) in everything


def test_help_of_the_main_job_fits_two_screens(cli):
    assert len(cli("run", "--help")[1].splitlines()) <= TWO_SCREENS


def test_the_overview_has_a_line_for_each_command_and_loads_none(cli):
    code, shown, _ = cli("--help")
    assert code == 0
    flat = " ".join(shown.split())
    for name, summary in summaries().items():
        assert f"{name} {summary}" in flat
        whole = command_of(name).summary.rstrip(".")
        assert summary[1:] == whole[1:]
    program = (
        "import sys; from gpuatac.cli import main; main(['--help'])\n"
        "print(sorted({'numba', 'pandas', 'torch', 'anndata', 'cyclopts'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          cwd=Path(ga.__file__).parents[1])  # fmt: skip
    assert done.stderr.strip() == "[]"


def test_every_option_of_the_main_job_comes_from_its_table():
    options = command_of("run").options()
    for field in fields(RunOptions):
        option = options[field.name]
        assert option.flag == f"--{field.name.replace('_', '-')}"
        assert option.declared.default == field.default
        assert option.declared.hint.choices == choices(field.name)


def test_options_of_the_models_are_those_of_their_classes():
    pytest.importorskip("torch", reason="needs the nn extra")
    from gpuatac.nn.denoising.model_options import ModelOptions
    from gpuatac.nn.denoising.networks.linear import Linear, Logistic
    from gpuatac.nn.denoising.networks.resnet import DenoisingResNet
    from gpuatac.nn.denoising.networks.unet import UNet

    classes = {"resnet": DenoisingResNet, "unet": UNet, "linear": Linear, "logistic": Logistic}
    declared = declared_in(ModelOptions)
    for name, one in declared.items():
        models = one.help.partition(":")[0].split(", ")
        for model in models:
            default = inspect.signature(classes[model]).parameters[name].default
            if not isinstance(default, bool):
                assert f"(default: {default})" in one.help
    assert set(inspect.signature(DenoisingResNet).parameters) - set(declared) == {"in_channels", "classifier_channels"}


# ---------------------------------------------------------------------------------------------- what is understood


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        (["a", "b", "--out", "o"], {"inputs": ["a", "b"], "out": "o"}),
        (["--out=o", "a"], {"inputs": ["a"], "out": "o"}),
        (["a", "--out", "o", "--out", "p"], {"inputs": ["a"], "out": "p"}),
        (["a", "--select", "x", "y", "--select", "z", "--out", "o"], {"inputs": ["a"], "out": "o", "selections": ["z"]}),
        (["a", "--out", "o", "--shift", "-5"], {"inputs": ["a"], "out": "o", "shift": -5}),
        (["a", "--out", "o", "--no-summits"], {"inputs": ["a"], "out": "o", "call_summits": False}),
        (["--min-cells", "1", "--min-cells", "2", "a", "--out", "o"], {"inputs": ["a"], "out": "o", "min_cells": 2}),
        (["a", "--out", "o", "--prefix=-x"], {"inputs": ["a"], "out": "o", "prefix": "-x"}),
        (["--out", "o", "--", "--odd-name"], {"inputs": ["--odd-name"], "out": "o"}),
    ],
)
def test_what_is_given_is_understood_and_the_last_of_an_option_counts(tokens, wanted):
    assert given_to(command_of("peaks"), tokens) == wanted


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a"], "the following arguments are required: --out; see gpuatac peaks --help-all."),
        ([], "the following arguments are required: INPUT, --out"),
        (["a", "--out"], "argument --out: expected a value, got 0."),
        (["a", "--out", "o", "--select"], "argument --select: expected at least one value, got 0."),
        (["a", "--out", "o", "--qval", "1"], "unrecognized arguments: --qval (did you mean --qvalue?)"),
        (["a", "--out", "o", "b"], "unrecognized arguments: b; allowed: inputs in one place"),
        (["a", "--out", "o", "--min-cells", "x"], "argument --min-cells: invalid int value: 'x'; allowed: a whole number."),
        (["a", "--out", "o", "--qvalue", "x"], "argument --qvalue: invalid float value: 'x'; allowed: a number."),
        (["a", "--out", "o", "--consensus=maybe"], "argument --consensus: takes no value, got 'maybe'; allowed: the option by itself."),
        (["a", "--out", "o", "--prefix", "-x"], "expected a value, got 0; a value that begins with a dash is given as --prefix=-x."),
        (["--out", "o", "--select", "x", "a"], "required: INPUT (--select takes all that follows it: put the inputs before it)"),
        (["a", "--out", "o", "--call-summits"], "unrecognized arguments: --call-summits"),
        (["a", "--out", "o", "--flavor", "arch"], "invalid choice: 'arch' (did you mean archr?); allowed: snapatac2, archr."),
    ],
)
def test_what_is_not_understood_is_refused_with_what_is_allowed(tokens, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        given_to(command_of("peaks"), tokens)


def test_none_stands_for_nothing_only_where_it_is_beside_choices():
    taking = {(name, o.name) for name in COMMANDS for o in command_of(name).options().values() if o.takes_none}
    assert taking == {("coverage", "normalization")}
    told = {}
    command = command_of("coverage")
    replace(command, job=wraps(command.job)(lambda **given: told.update(given)), report=lambda *_: "").run(
        given_to(command, ["a", "--out", "o", "--prefix", "none", "--normalization", "none"])
    )
    assert (told["prefix"], told["normalization"]) == ("none", None)


def test_a_command_that_is_none_is_refused_with_the_nearest(cli):
    code, shown, err = cli("rnu")
    assert (code, shown) == (2, "")
    assert "argument COMMAND: invalid choice: 'rnu' (did you mean run?); allowed: run, peaks" in err
    assert cli()[0] == 2


def test_quiet_prints_nothing_but_warnings_and_errors(tmp_path, cli):
    arguments = ["simulate", "--out", tmp_path / "x", "--cells", 5, "--types", 2, "--frags", 50]
    assert cli(*arguments, "--quiet") == (0, "", "")
    assert cli(*arguments, "--force")[1].startswith("written: ")
    code, shown, err = cli(*arguments, "-q")
    assert (code, shown) == (2, "")
    assert "exists already" in err


def test_help_of_a_command_may_be_asked_for_in_each_usual_way(cli):
    wanted = cli("info", "--help")[1]
    assert wanted
    for tokens in (["help", "info"], ["info", "-h"], ["info", "some.h5ad", "--help"]):
        assert cli(*tokens) == (0, wanted, "")


def test_a_reader_that_has_enough_is_no_error():
    line = f"set -o pipefail; {sys.executable} -O -m gpuatac peaks --help-all | true"
    environment = {"PYTHONPATH": str(Path(ga.__file__).parents[1])}
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=False, env=environment).returncode == 0


def test_a_job_shows_and_describes_the_options_that_it_passes_on():
    for job, option, text in ((ga.run, "min_tsse", "Lowest TSS enrichment"), (ga.workflow.peaks, "extsize", "How wide each cut")):
        assert option in inspect.signature(job).parameters
        assert re.search(rf"^    {option}\n        {text}", job.__doc__, re.M)
        assert inspect.signature(job).return_annotation in ("Result", "Written")


def test_a_prefix_without_a_name_is_refused(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for prefix in ("", "folder/"):
        code, _, err = cli("simulate", f"--out={prefix}", "--cells", 5)
        assert code == 2
        assert "holds no name; allowed: the start of the files' names" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["denoise", "train-denoiser"])
def test_a_missing_extra_is_one_line_that_names_it(tmp_path, name):
    (tmp_path / "a.bw").write_text("")
    given = ["--clean", "a.bw"] if name == "train-denoiser" else ["a.bw"]
    program = (
        "import sys; sys.modules['torch'] = None\n"
        f"from gpuatac.cli import main; sys.exit(main({[name, *given, '--out', 'o']!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path,
                          env={"PYTHONPATH": str(Path(ga.__file__).parents[1]), "PATH": ""})  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"gpuatac: error: .* needs PyTorch, which is not installed; .*'gpuatac\[nn\]'\.\n", done.stderr)
    shown = subprocess.run([sys.executable, "-c", program.replace("'--out', 'o'", "'--help-all'")], capture_output=True, text=True,
                           check=False, cwd=tmp_path, env={"PYTHONPATH": str(Path(ga.__file__).parents[1])})  # fmt: skip
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell):
    script = whole_app().generate_completion(shell=shell)
    for word in ("train-denoiser", "exclude-chroms", "batch-correction"):
        assert word in script


def test_completion_is_installed_beside_the_files_of_the_user_and_works(tmp_path, monkeypatch, cli):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    (tmp_path / ".bashrc").write_text("# mine\n")
    monkeypatch.setenv("SHELL", "/bin/bash")
    code, shown, _ = cli("--install-completion")
    assert code == 0
    written, line = re.fullmatch(r"written: (\S+); .* add this line to ~/.bashrc: (source \S+)\n", shown).groups()
    assert (tmp_path / ".bashrc").read_text() == "# mine\n"
    assert Path(written).is_relative_to(tmp_path)
    function = '$(complete -p gpuatac | sed "s/.*-F \\([^ ]*\\).*/\\1/")'
    asked = f"{line}; COMP_WORDS=(gpuatac train-); COMP_CWORD=1; {function}; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["train-denoiser"]
    code, _, err = cli("--install-completion", "tcsh")
    assert code == 2
    assert "the shell is 'tcsh'; allowed: bash, zsh, fish; name one behind it." in err
    assert cli("--install-completion", "fish")[0] == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_understood(name):
    for line in command_of(name).examples:
        program, command, *tokens = shlex.split(line)
        assert (program, command) == ("gpuatac", name)
        given_to(command_of(name), tokens)


# ------------------------------------------------------------------------------------------------------ annotations


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        (int, Hint(int)),
        (int | None, Hint(int, optional=True)),
        (str | Path, Hint(str)),
        (float | str, Hint(NUMBER_OR_NAME)),
        (tuple[float, float], Hint(float, (), 2, 2)),
        (int | tuple[int, int], Hint(int, (), 1, 2)),
        (str | list[str] | None, Hint(str, (), 1, None, optional=True)),
        (float | list[float], Hint(float, (), 1, None)),
    ],
)
def test_annotations_become_what_a_command_line_takes(kind, hint):
    assert hint_of(kind) == hint
