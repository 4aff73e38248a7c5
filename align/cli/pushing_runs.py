"""The model of a run onto the hub, once the run is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.cli.pushing import Target, push
from align.errors import ConfigError

PUSH = "repository on the hub that the model is uploaded to once it is written (OWNER/NAME, made where there is none)"
PUBLIC = "let everybody read it; false makes it private"
EXPORT = "HFExport"


def target_of(config: Any, verb: str) -> Target | None:
    """Return where the model of a run goes, if anywhere. Raises ConfigError where no model is written."""
    if config.push_to_hub is None:
        if config.public:
            raise ConfigError("--public: belongs to --push_to_hub: add that")
        return None
    paths = [callback.class_path.rsplit(".", 1)[-1] for callback in config.trainer.callbacks or []]
    if verb != "fit" or EXPORT not in paths:
        where = f"align {verb}" if verb != "fit" else f"a run without the callback {EXPORT}"
        raise ConfigError(f"--push_to_hub: {where} writes no model: leave it out")
    return Target(config.push_to_hub, public=config.public)


def push_model(trainer: Any, target: Target) -> None:
    """Upload what the run has exported."""
    given = next((c.folder for c in trainer.callbacks if type(c).__name__ == EXPORT), None)
    folder = Path(given or Path(trainer.default_root_dir) / "model")
    push(folder, target, later=target.command(folder))
