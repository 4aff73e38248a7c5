"""Files of settings that name others: `config: [dpo, synthetic]` in a file is `-c dpo -c synthetic` before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from align.cli.shipped_configs import config_place, find_shipped, is_shipped, with_shipped
from align.cli.yaml_check import check_config, checked_value, read_settings
from align.errors import ConfigError, shorten

KEY = "config"


def with_configs(words: Sequence[str]) -> list[str]:
    """Return a command in which every file of settings stands behind those it names, and shipped ones by their place.

    A class that the command names for `data` stands before the first file with settings for whatever data it is, too:
    they would have none otherwise.

    Raises ConfigError for files that name each other in a circle, and for what is no list of names.
    """
    found: list[str] = []
    for word in with_shipped(words):
        if found and found[-1] in ("-c", "--config"):
            found[-1:] = [part for file in _with_named(word, ()) for part in ("-c", file)]
            continue
        name = _attached(word)
        if name is not None:
            found += [part for file in _with_named(name, ()) for part in ("-c", file)]
        else:
            found.append(word)
    return _data_first(found)


def _data_first(words: list[str]) -> list[str]:
    """Return the words with the class of data also before the first file that has settings of data and no class."""
    named = next((n for n, word in enumerate(words[:-1]) if word == "--data"), len(words))
    for place, word in enumerate(words[: min(named, len(words) - 1)]):
        if word == "-c" and _has_open_data(words[place + 1]):
            return [*words[:place], *words[named : named + 2], *words[place:]]
    return words


def _has_open_data(file: str) -> bool:
    """Tell whether a file has settings of data whose class it leaves open; its faults are told by the checks."""
    try:
        content = content_of(file)
    except ConfigError:
        return False
    part = content.get("data") if isinstance(content, dict) else None
    return isinstance(part, dict) and "init_args" in part and "class_path" not in part


def configs_of(words: Sequence[str]) -> list[tuple[Path, Any]]:
    """Return the files of settings that a command reads, in their order, with what they hold."""
    full = with_configs(words)
    files = [full[place + 1] for place, word in enumerate(full[:-1]) if word in ("-c", "--config")]
    for file in files:
        check_config(file)
    return [(Path(file).expanduser(), content_of(file)) for file in files]


def content_of(file: str) -> Any:
    """Return what a file of settings holds. Raises ConfigError for one that cannot be read."""
    place = f"config {file}"
    return checked_value(read_settings(Path(file).expanduser(), place), place)


def _attached(word: str) -> str | None:
    """Return the file of `--config=FILE` and `-cFILE`, None for other words."""
    if word.startswith("--config="):
        return word.removeprefix("--config=")
    return word.removeprefix("-c").removeprefix("=") if word.startswith("-c") and word != "-c" else None


def _with_named(file: str, within: tuple[str, ...]) -> Iterator[str]:
    """Yield a file behind those it names; one that cannot be read is told by the checks that follow."""
    if file in within:
        raise ConfigError(f"config {file}: it names itself, by {' and '.join(within)}")
    path = Path(file).expanduser()
    if path.is_file() and path.suffix != ".json":
        for name in _named(file):
            place = _meant(name, path)
            if not Path(place).expanduser().is_file():
                raise ConfigError(f"config {file}: {KEY} names {name!r}, which is no file and no shipped config")
            yield from _with_named(place, (*within, file))
    yield file


def _meant(name: str, within: Path) -> str:
    """Return the file that a file names: beside it, else by its name; `dpo` in a `dpo.yaml` is the shipped one."""
    beside = within.parent / name
    place = str(beside) if beside.is_file() else config_place(name)
    itself = Path(place).expanduser().is_file() and Path(place).expanduser().samefile(within)
    return str(find_shipped(name)) if itself and is_shipped(name) and place != name else place


def _named(file: str) -> list[str]:
    try:
        content = content_of(file)
    except ConfigError:
        return []
    named = content.get(KEY) if isinstance(content, dict) else None
    if named is None:
        return []
    if not isinstance(named, list) or not all(isinstance(name, str) and name for name in named):
        raise ConfigError(f"config {file}: {KEY} takes a list of files or shipped configs, got {shorten(named, 60)}")
    return named
