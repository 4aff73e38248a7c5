"""`align data world`: the synthetic world's data as files."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import FunctionVerb
from align.cli.unused import Unused, always
from align.data.synthetic_files import write_files
from align.errors import ConfigError
from align.files import atomic_folder
from align.world.preferences import Preferences
from align.world.universe import World

UNUSED = (
    Unused(
        ("preferences.ratings",),
        always,
        "HelpSteer's and UltraFeedback's files have ratings of their own: leave it out",
    ),
)


def data_world(out: str, *, preferences: Preferences = Preferences(), world: World = World()) -> None:
    """Write train, validation and test files in the formats of HH-RLHF, UltraFeedback, HelpSteer, pairs and lists.

    The files train like any others: `align fit ... --data HHRLHFDataModule --data.path OUT/hh-rlhf`.

    Args:
        out: Folder to write.
        preferences: How many examples, and how responses are compared and rated.
        world: The universe.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"out {out}: not empty: name another folder")
    with atomic_folder(folder) as part:  # one that was cut off may be begun again
        counts = write_files(part, preferences, world)
    for name, count in counts.items():
        print(f"{folder / name}: {count} rows")


VERB = FunctionVerb(data_world, unused=UNUSED)
