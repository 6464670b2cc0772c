"""``gpuatac --install-completion``: commands and options completed by the shell. No file of the user is changed; one is added."""

from __future__ import annotations

import os
from pathlib import Path

from gpuatac.cli.app import whole_app
from gpuatac.cli.shared import UsageError

SHELLS = ("bash", "zsh", "fish")


def install(shell: str | None = None) -> str:
    """Write the completion of ``shell`` (by default the one in SHELL) where it looks for it; say where, and what may be left to do."""
    name = Path(shell or os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        msg = f"argument --install-completion: the shell is {name or 'unknown'!r}; allowed: {', '.join(SHELLS)}; name one behind it."
        raise UsageError(msg)
    path = whole_app().install_completion(shell=name, add_to_startup=False)  # type: ignore[arg-type]
    more = {
        "bash": f"bash-completion reads it in a new shell; without that package add this line to ~/.bashrc: source {path}",
        "zsh": f"where a new shell does not read it, add to ~/.zshrc: fpath=({path.parent} $fpath); autoload -Uz compinit && compinit",
        "fish": "a new shell reads it",
    }[name]
    return f"written: {path}; {more}"
