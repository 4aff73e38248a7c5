"""`align config copy`: one of the configs that come with the package, to change it."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import FunctionVerb
from align.cli.shipped_configs import find_shipped
from align.errors import ConfigError


def config_copy(name: str, *, out: str | None = None) -> None:
    """Copy a config that comes with the package; a file that is there already stays as it is.

    Args:
        name: As `align config list` has it, such as dpo or method/dpo.
        out: File to write; null takes its name in the current folder, where `-c NAME` finds it from then on.
    """
    source = find_shipped(name)
    target = Path(source.name if out is None else out)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise ConfigError(f"{target}: there already, and stays as it is: name another file with --out") from error
    print(f"{target}: copied, use it as -c {target}")


VERB = FunctionVerb(config_copy, positional=True)
