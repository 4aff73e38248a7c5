"""One line out of the parser's many: which key, what is wrong, what to do."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence

from align.cli.known_settings import known_classes, known_options, settings_of
from align.cli.renamed import RENAMED_SETTINGS
from align.errors import did_you_mean, nearest, shorten

MAX_KNOWN = 300
"""Longest list of class names that a message holds, in characters."""

_KEY = re.compile(r'Parser key "([^"]+)":?\s*(.*)', re.DOTALL)
_INNER = re.compile(r'^(.*)Parser key "([\w.]+)"', re.MULTILINE)
_UNKNOWN = re.compile(r"ption '([^']+)' is not accepted|nrecognized arguments: --([\w.-]+)|not accept option '([^']+)'")
_MISSING = re.compile(r"following arguments are required: (.+)|Key \"([^\"]+)\" is required", re.IGNORECASE)
_VERB = re.compile(r"^(fit|validate|test|predict)\.")
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_NOT_A_CLASS = re.compile(r"^(.*?)(?:no class named '([^']*)'|'([^']*)' is no (.+)) among (.*)$", re.MULTILINE)
_NO_FILE = re.compile(r"Unable to load config '([^']*)'")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")
_RENAMED = re.compile(r"'([\w.]+)' is now ([\w.]+)")
_FORMER_BATCHING = re.compile(r"\b(FixedSize|TokenBudget)\b")
_NOISE = (
    "Does not validate against",
    "Subtypes:",
    "Errors:",
    "Given value type:",
    "Given value:",
    "Expected a <class 'NoneType'>",
    "Not a valid subclass of",
    "Subclass types expect one of",
    "a class path (str)",
    "a dict with",
    "Parser key",
    "Expected a path but",
)


def explain(error: Exception, options: Sequence[str] = (), instead: Mapping[str, str] = {}) -> str | None:
    """Return one line for an error of the parser or of a setting's own check, None for any other exception.

    `options` are the settings of a verb that is a function, `instead` says how it spells others.
    """
    text = str(error)
    from_parser = isinstance(error, argparse.ArgumentError) or "Does not validate against" in text
    if not from_parser:
        return None
    found = _KEY.search(text)
    key, body = (found.group(1), found.group(2)) if found else ("", text.removeprefix("argument "))
    inner = [name for name in _inner_keys(body) if name != key]
    place = f"--{'.'.join([key, *inner])}: " if key else ""
    for line in (
        _renamed(place, body),
        _former(body),
        _denied(body),
        _class_name(place, body),
        _unknown(key, body, options, instead),
        _missing(key, body),
        _no_settings(key, body, options),
    ):
        if line is not None:
            return line
    reasons = _reasons(body)
    return place + shorten("; ".join(dict.fromkeys(reasons)) or body, 300)


def _inner_keys(body: str) -> list[str]:
    """Return the keys that lead to the innermost fault: a message is indented further for each."""
    path: list[tuple[int, str]] = []
    longest: list[tuple[int, str]] = []
    for match in _INNER.finditer(body):
        depth = len(match[1])
        path = [step for step in path if step[0] < depth] + [(depth, match[2])]
        longest = max(longest, path, key=len)
    return [name for _, name in longest]


def _reasons(body: str) -> list[str]:
    """Return the lines of a message that say something, in words."""
    lines = (line.strip().lstrip("- ") for line in body.splitlines())
    said = (line for line in lines if line and not line.startswith(_NOISE) and not _CLASS.match(line))
    kept = [line for line in said if not _NOT_A_CLASS.search(line)]
    value = re.search(r"Given value: (.+)", body)
    plain = [re.sub(r"Expected a <class '(?:\w+\.)*(\w+)'>", r"expected \1", line) for line in kept]
    plain = [re.sub(r"Expected a typing\.Literal\[(.+)\]", _words, line) for line in plain]
    got = (re.fullmatch(r"(expected [^.,]+)\. Got value: (.+)", line) for line in plain)
    plain = [f"{m[1]}, got {shorten(m[2], 60)!r}" if m else line for m, line in zip(got, plain, strict=True)]
    expected = [line.removeprefix("expected ") for line in plain if re.fullmatch(r"expected [^,]+", line)]
    if expected and len(expected) == len(plain) and value:
        got_one = shorten(value.group(1), 60)
        fix = f": write [{got_one}], or {{NAME: {got_one}}}" if expected == ["dict", "list"] else ""
        return [f"expected {' or '.join(expected)}, got {got_one!r}{fix}"]
    of_another_kind = [line for line in plain if "does not correspond to a subclass" in line]
    return [line for line in plain if line not in of_another_kind] or of_another_kind


def _words(literal: re.Match[str]) -> str:
    return f"expected {literal[1].replace(', ', ' or ')}"


def _renamed(place: str, body: str) -> str | None:
    found = _RENAMED.search(body)
    return found and f"{place}{found[1]} is now {found[2]}"


def _former(body: str) -> str | None:
    found = _FORMER_BATCHING.search(body)
    return found and (
        f"--data.batching: {found[1]} is gone, write --data.batching.groups 64 (in YAML `batching: {{groups: 64}}`): "
        "the groups of an optimiser step over all processes, and the tokens that one device computes at once"
    )


def _denied(body: str) -> str | None:
    found = _DENIED.search(body)
    if not found:
        return None
    package = found.group(1).split(".")[0]
    return (
        f"class_path {found.group(1)!r} is outside the packages a config may name: if you trust {package}, put "
        f"ALIGN_IMPORT_ALLOW={package} in front of the command"
    )


def _class_name(place: str, body: str) -> str | None:
    from align.cli.class_takers import takers

    found = list(_NOT_A_CLASS.finditer(body))
    if not found:
        return None
    deepest = max(len(match[1]) for match in found)  # outside it stand the types of a union that were not meant
    meant = [match for match in found if len(match[1]) == deepest]
    if _fits_another(meant[0][1], body):
        return None
    word = min(match[2] or match[3] for match in meant)
    kinds = list(dict.fromkeys(match[4] for match in meant if match[4]))
    names = sorted({name for match in meant for name in match[5].split(", ")})
    what = f"{word} is no {' or '.join(kinds)}" if kinds else f"no class named {word!r}"
    owners = takers(word)
    elsewhere = f" ({' and '.join(owners)} take{'s' * (len(owners) == 1)} it)" if owners else ""
    known = f" (known: {', '.join(names)})"
    guess = nearest(word.rsplit(".", 1)[-1], names)
    return f"{place}{what}{elsewhere}{guess}{known if len(known) < MAX_KNOWN else ''}"


def _fits_another(lead: str, body: str) -> bool:
    """Tell whether the class is of another type of the union, whose fault stands beside: it is that which counts."""
    beside = [line.removeprefix(lead) for line in body.splitlines() if line.startswith(lead)]
    return any(not _NOT_A_CLASS.search(line) and not line.startswith(_NOISE) for line in beside)


def _unknown(key: str, body: str, options: Sequence[str], instead: Mapping[str, str]) -> str | None:
    found = _UNKNOWN.search(body)
    if not found:
        return None
    word = next(group for group in found.groups() if group)
    before = body[: found.start()]
    owners, path = _CLASS.findall(before), ".".join([key, *(name for name in _inner_keys(before) if name != key)])
    place = word if not key or word.startswith(key) else f"{path}.{word}"
    if spelled := instead.get(place.partition(".")[0]):
        return f"unknown setting --{place}: {spelled}"
    inner = owners[1:] and settings_of(owners[-1])
    names = inner or options or known_options(key, owners[0] if owners else "")
    now = RENAMED_SETTINGS.get(word)
    guess = f" (it is {now} now)" if now else did_you_mean(word, names) or did_you_mean(place, names)
    inside = f" of {owners[-1].rsplit('.', 1)[-1]}" if owners else ""
    return f"unknown setting --{place}{inside}{guess}: see align VERB --help"


def _missing(key: str, body: str) -> str | None:
    found = _MISSING.search(body)
    if not found:
        return None
    names = [_VERB.sub("", name.strip()) for name in (found.group(1) or found.group(2)).split(",")]
    flags = [f"--{key}.{name}" if key and not name.startswith(key) else f"--{name}" for name in names]
    kinds = [sorted(known_classes(flag[2:])) if flag in ("--data", "--model") else [] for flag in flags]
    hints = [f" (one of {', '.join(known)})" if known else "" for known in kinds]
    return "required: " + ", ".join(flag + hint for flag, hint in zip(flags, hints, strict=True))


def _no_settings(key: str, body: str, options: Sequence[str]) -> str | None:
    found = _NO_FILE.search(body)
    if not found:
        return None
    named = f"; a folder or hub id is named by --{key}.path" if f"{key}.path" in options else ""
    return f"--{key or 'config'}: expected a YAML file of settings, got {shorten(found[1], 200)!r}{named}"
