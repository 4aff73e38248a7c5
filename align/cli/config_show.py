"""`align config show`: one of the configs that come with the package."""

from __future__ import annotations

from align.cli.functions import FunctionVerb
from align.cli.shipped_configs import find_shipped


def config_show(name: str) -> None:
    """Print a config that comes with the package.

    Args:
        name: As `align config list` has it, such as dpo or method/dpo.
    """
    print(find_shipped(name).read_text(encoding="utf-8"), end="")


VERB = FunctionVerb(config_show, positional=True)
