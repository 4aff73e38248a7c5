"""`align config list`: the configs that come with the package."""

from __future__ import annotations

from functools import partial

from align.cli.functions import FunctionVerb
from align.cli.shipped_configs import shipped
from align.cli.typed_words import listed_first
from align.errors import ConfigError, did_you_mean, shorten

RUNS = "runs"
"""What configs of whole runs, which lie in no folder of their own, are listed under."""


def config_list(kinds: list[str] | None = None) -> None:
    """List the configs that come with the package by what they are about, with what each says of itself.

    `-c NAME` takes them in every verb, as in `align fit -c dpo -c hh_rlhf -c lora`; a file of that name in the current
    folder comes first.

    Args:
        kinds: Before all options, what to list, such as method, data, model, trainer or callbacks; null lists all.
    """
    known = dict.fromkeys(name.rpartition("/")[0] or RUNS for name in shipped())
    if unknown := [kind for kind in kinds or [] if kind not in known]:
        raise ConfigError(f"kinds: {unknown[0]!r}, expected of {', '.join(known)}{did_you_mean(unknown[0], known)}")
    for kind in kinds or known:
        print(kind)
        for name, path in shipped().items():
            folder, _, short = name.rpartition("/")
            if (folder or RUNS) == kind:
                print(f"  {short:<26}{shorten(about(path.read_text(encoding='utf-8')), 92)}")


def about(text: str) -> str:
    """Return the comment that a config begins with, without it nothing."""
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:first])


VERB = FunctionVerb(config_list, reword=partial(listed_first, "--kinds"))
