"""The key of a service: read from the environment, sent to its host alone, and taken out of what comes back."""

from __future__ import annotations

import base64
import html
import os
import re
from functools import cached_property
from urllib.parse import urlsplit

from align.errors import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PLACEHOLDER = "[key]"
BREAKS = r"(?:\\[nrt]|[\s\u200b-\u200d\u2060\ufeff]){0,2}"
"""What may stand between two characters of a key that is broken over lines, or spaced out."""


ESCAPED = re.compile(
    r"(?<!\\)\\++(?:(?:u\{?|x)0{0,4}([0-9a-f]{2})\}?|[nrt])|%([0-9a-f]{2})|&(?:amp;){0,4}#x0{0,4}([0-9a-f]{2});?"
    r"|&(?:amp;){0,4}#0{0,4}(\d{2,3});?",
    re.IGNORECASE,
)
MAILED = re.compile(r"=(?:3D)?([0-9a-f]{2})", re.IGNORECASE)
LONG = 20_000
"""Characters of a text that is looked at more quickly first."""
SHORTEST = 8
"""Characters. Of a shorter key, which is a word such as EMPTY that some server wants, the word alone is taken out."""


def check_address(base_url: str, key_variable: str | None, setting: str = "base_url") -> None:
    """Raise ConfigError for an address that is none, or to which a key would travel unprotected."""
    if "://" not in base_url:
        raise ConfigError(f"{setting} has no scheme: expected http(s)://HOST/PATH")
    try:
        url = urlsplit(base_url)
        good = url.scheme in ("http", "https") and url.hostname and url.port != 0
        good = good and not (url.username or url.query or url.fragment) and base_url.isprintable()
    except ValueError:  # a port or an IPv6 host that is none
        raise ConfigError(f"{setting}: expected http(s)://HOST/PATH, got another host or port") from None
    if not good:
        raise ConfigError(
            f"{setting} {url.scheme}://{url.hostname}: expected http(s)://HOST/PATH without user or query"
        )
    if url.scheme == "http" and url.hostname not in LOOPBACK and key_variable is not None:
        raise ConfigError(
            f"{setting} http://{url.hostname}: a key would travel unprotected: use https, or api_key_env null"
        )


def read_key(variable: str | None, owner: str) -> str | None:
    """Return the key a variable holds, None where none is named. Raises ConfigError where there is none to send."""
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"environment variable {variable} is not set: it must hold the {owner}'s key")
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(f"environment variable {variable} holds characters that no key has: set it anew")
    return value


class KeySpellings:
    """Finds a key in text: as it is, in other case, escaped, encoded, reversed, and broken over lines."""

    def __init__(self, key: str | None) -> None:
        self._key, self._texts = key, _encoded(key) if key and len(key) >= SHORTEST else []

    def removed(self, text: str) -> str:
        """Return the text with a placeholder wherever the key stood."""
        if not self._key:
            return text
        if not self._texts:
            return text.replace(self._key, PLACEHOLDER)
        if len(text) > LONG and not self._may_hold(text):
            return text
        return self._pattern.sub(PLACEHOLDER, text)

    def found(self, text: str) -> bool:
        """Return whether the key stands in a text."""
        return self._may_hold(text) and self._pattern.search(text) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(BREAKS.join(map(_letter, text)) for text in self._texts), re.IGNORECASE)

    @cached_property
    def _cores(self) -> list[str]:
        return [_core(text) for text in self._texts]

    def _may_hold(self, text: str) -> bool:
        """Tell by letters and digits alone, which takes a hundredth of the time, whether a spelling can be there."""
        forms = [_core(form) for form in (text, unescaped(text), MAILED.sub(_unescaped, text))]
        return any(core in form for core in self._cores for form in forms)


def unescaped(text: str) -> str:
    """Return a text without the escapes of JSON, URLs, HTML and program text, and without those inside them."""
    for _ in range(5):
        text = ESCAPED.sub(_unescaped, text)
    return html.unescape(text)


def _unescaped(found: re.Match[str]) -> str:
    if found.lastindex is None:  # a line break
        return ""
    return chr(int(found.group(found.lastindex), 10 if found.lastindex == 4 else 16))


def _core(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def _encoded(key: str) -> list[str]:
    data = key.encode()
    return [key, key[::-1], data.hex(), base64.b32encode(data).decode().rstrip("="), *_in_base64(data)]


def _letter(letter: str) -> str:
    """Match a character as it is or in any escape of JSON, URLs, HTML, mail and program text, escaped again or not."""
    code = f"{ord(letter):x}"
    spellings = [
        re.escape(letter),
        re.escape(html.escape(letter)),
        rf"\\{{1,8}}(?:u\{{?|x)0{{0,4}}{code}\}}?",
        rf"%(?:25){{0,4}}{code}",
        rf"&(?:amp;){{0,4}}\#(?:x0{{0,4}}{code}|0{{0,4}}{ord(letter)});?",
        rf"=(?:3D)?{code}",
    ]
    return rf"\\{{0,4}}(?:{'|'.join(dict.fromkeys(spellings))})"


def _in_base64(data: bytes) -> list[str]:
    """Return what of a key is always the same inside base64, wherever in the encoded bytes it begins."""
    found = []
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        inner = text[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        found += [inner, inner.replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(found))
