"""Every block of the README runs as it stands, on small simulated files of the names that it uses."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gpuatac.cli import main
from gpuatac.cli.app import COMMANDS, command_of

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
TEXT = (REPO / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.M | re.S)
#: What stands for the placeholders of commands within a sentence.
PLACEHOLDERS = {"BAM": "liver.bam", "OUT": "liver.fragments.tsv.gz", "FILE.h5ad": "results/pbmc.h5ad"}


def commands(text: str) -> list[list[str]]:
    """The words of each command line; a line that ends with a backslash goes on, and # begins a comment."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


SHELL = [words for language, text in BLOCKS if not language for words in commands(text) if words[0] in ("make", "pip", "gpuatac")]
INLINE = [commands(text)[0] for text in re.findall(r"`(gpuatac [^`]+)`", TEXT)]


def test_blocks_are_python_commands_or_the_drawing_of_the_architecture():
    assert {language for language, _ in BLOCKS} == {"", "python"}
    others = [text for language, text in BLOCKS if not language and commands(text)[0][0] not in ("make", "pip", "gpuatac")]
    assert len(others) == 1
    assert "Fragments (columns on the device" in others[0]
    assert sum(words[0] == "gpuatac" for words in SHELL) >= 10
    assert [words for words in INLINE if not set(words) & set(PLACEHOLDERS)] == [
        ["gpuatac", "run"], ["gpuatac", "run", "--help"], ["gpuatac", "run", "--help-all"], ["gpuatac", "--install-completion"],
        ["gpuatac", "info"], ["gpuatac", "run"], ["gpuatac", "run"]
    ]  # fmt: skip


def test_targets_of_make_and_extras_of_pip_are_there():
    named = [words[1] for words in SHELL if words[0] == "make"] + re.findall(r"`make ([\w-]+)`", TEXT)
    named += re.findall(r"`make ([\w-]+)`", (REPO / "CONTRIBUTING.md").read_text())
    rules = re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.M)
    assert len(named) > 10
    assert set(named) <= set(rules)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r"pip install \"\.\[([\w,]+)\]\"", TEXT)
    assert asked
    assert {name for names in asked for name in names.split(",")} <= set(extras)


def test_every_option_that_is_named_is_one_of_a_command(capsys):
    def told(*words: str) -> str:
        assert main([*words, "--help-all"]) == 0
        return capsys.readouterr().out

    subcommands = {words[1] for words in SHELL + INLINE if words[0] == "gpuatac"} - {"--install-completion"}
    assert len(subcommands) > 6
    shown = told() + "".join(told(name) for name in subcommands)
    known = set(re.findall(r"--[a-z][\w-]*", shown)) | {"--help-all"}
    text = re.sub(r"torchrun --[\w-]+", "", TEXT)
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - known == set()


def runs(words: list[str], folder: Path, what: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPO), "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{what}\n{done.stdout[-1000:]}{done.stderr[-3000:]}"


@pytest.mark.slow
def test_every_block_runs_in_the_order_of_the_document_and_then_the_examples_of_the_help(tmp_path):
    """Commands of one block may write to one folder, as each stands for itself: it is emptied before. Training is short, in the way
    that the README names. The user's own cell types come into the result of the main job.
    """
    pytest.importorskip("torch", reason="PyTorch is not installed (extra nn)")
    pytest.importorskip("pysam", reason="pysam writes the BAM files; install gpuatac[dev]")
    import readme_inputs

    work = tmp_path / "work"
    work.mkdir()
    readme_inputs.make(work)
    inputs = [path for path in work.iterdir() if path.is_file()]
    (short,) = re.findall(r"`(--epochs 1 --steps \d+)` seconds", TEXT)
    for number, (language, text) in enumerate(BLOCKS):
        if language == "python":
            own = tmp_path / f"python{number}"
            own.mkdir()
            for path in inputs:
                (own / path.name).symlink_to(path)
            if 'read_h5ad("results/' in text:
                (own / "results").symlink_to(work / "results")
            runs(["-c", text], own, text)
            continue
        for words in commands(text):
            if words[0] != "gpuatac":
                continue
            out = Path(work, words[words.index("--out") + 1])
            shutil.rmtree(out, ignore_errors=True)
            more = short.split() if words[1] == "train-denoiser" else []
            runs(["-m", *words, *more], work, shlex.join(words))
            assert any(out.iterdir()), shlex.join(words)
            if words[1] == "run":
                readme_inputs.annotated(work)
    for words in INLINE:
        if words[1:] not in (["run"], ["--install-completion"]):  # the latter writes to the home folder, tests/cli/test_help.py
            runs(["-m", *(PLACEHOLDERS.get(word, word) for word in words)], work, shlex.join(words))
    examples = [shlex.split(line) for name in COMMANDS for line in command_of(name).examples]
    (work / "possorted_bam.bam").symlink_to(work / "liver.bam")
    others = [words for words in examples if words not in SHELL + INLINE]
    assert len(others) < len(examples) / 2
    for words in others:
        if "--out" in words and words[1] not in ("run", "simulate"):
            shutil.rmtree(work / words[words.index("--out") + 1], ignore_errors=True)
        (work / words[-1]).unlink() if words[1] == "fragments" and (work / words[-1]).exists() else None
        runs(["-m", *words], work, shlex.join(words))
