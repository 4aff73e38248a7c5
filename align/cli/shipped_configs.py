"""The configs that come with the package: found by name where no file of that name is there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from align.cli.renamed import RENAMED_CONFIGS
from align.errors import ConfigError, nearest

FOLDER = Path(__file__).parents[1] / "configs"


@cache
def shipped() -> dict[str, Path]:
    """Return every shipped config by its name in its folder, `method/dpo`, sorted."""
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda path: path.relative_to(FOLDER).as_posix())
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in files}


def find_shipped(name: str) -> Path:
    """Return a shipped config by `dpo`, `method/dpo`, or its path in this repository, `configs/method/dpo.yaml`.

    Raises ConfigError for a name that is unknown, or stands in two folders.
    """
    found = _named(name)
    if len(found) > 1:
        raise ConfigError(f"config {name}: {' and '.join(found)} are called so: name the folder too")
    if not found:
        raise unknown_config(name)
    return shipped()[found[0]]


def is_shipped(name: str) -> bool:
    """Tell whether one shipped config has a name."""
    return len(_named(name)) == 1


def unknown_config(name: str) -> ConfigError:
    """Return what is said of a name that is no file, and not that of a shipped config."""
    if now := RENAMED_CONFIGS.get(_key(name)):
        return ConfigError(f"config {name}: this config is {now} now: set it in the place of the former")
    guess = nearest(_key(name).rpartition("/")[2], {known.rpartition("/")[2] for known in shipped()})
    return ConfigError(
        f"config {name}: cannot be read (No such file or directory), and no shipped one has that name{guess}: "
        "see align config list"
    )


def config_place(name: str) -> str:
    """Return the file that a name means: one that is there, with `.yaml` behind it or not, else the shipped one.

    A folder is no file: a run in `dpo` hides no config. A name that is nothing of all this is returned as it is. Raises
    ConfigError for one that stands in two folders.
    """
    place = Path(name).expanduser()
    if not name or (place.exists() and not place.is_dir()):
        return name
    if Path(f"{name}.yaml").expanduser().is_file():
        return f"{name}.yaml"
    return str(find_shipped(name)) if _named(name) else name


def with_shipped(words: Sequence[str]) -> list[str]:
    """Return a command in which a config that is no file here is the shipped one. Raises ConfigError as above."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in ("-c", "--config"):
            found.append(config_place(word))
        elif word.startswith("--config="):
            found.append("--config=" + config_place(word.removeprefix("--config=")))
        elif word.startswith("-c") and word != "-c":
            found.append("-c=" + config_place(word.removeprefix("-c").removeprefix("=")))
        else:
            found.append(word)
    return found


def _key(name: str) -> str:
    return Path(name).as_posix().removeprefix("configs/").removesuffix(".yaml")


def _named(name: str) -> list[str]:
    """Return the shipped configs that a name fits."""
    key = _key(name)
    return [key] if key in shipped() else [known for known in shipped() if known.rpartition("/")[2] == key]
