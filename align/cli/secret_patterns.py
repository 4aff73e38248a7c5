"""What keys look like: the patterns of detect-secrets, of services it does not know, and drawn values under names."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

SCANNERS = (
    *("artifactory.ArtifactoryDetector", "aws.AWSKeyDetector", "azure_storage_key.AzureStorageKeyDetector"),
    *("discord.DiscordBotTokenDetector", "github_token.GitHubTokenDetector", "gitlab_token.GitLabTokenDetector"),
    *("jwt.JwtTokenDetector", "mailchimp.MailchimpDetector", "npm.NpmDetector", "openai.OpenAIDetector"),
    *("private_key.PrivateKeyDetector", "pypi_token.PypiTokenDetector", "sendgrid.SendGridDetector"),
    *("slack.SlackDetector", "square_oauth.SquareOAuthDetector", "stripe.StripeDetector"),
    *("telegram_token.TelegramBotTokenDetector", "twilio.TwilioKeyDetector"),
)
"""Of detect-secrets, those that know a form; its guesses by entropy and keyword take hashes and settings for keys."""
FORMS = re.compile(
    r"\b(?:sk-(?:[a-z0-9]{1,12}-){0,3}[A-Za-z0-9]{20,}"  # OpenAI, Anthropic, OpenRouter, DeepSeek
    r"|sk-(?:proj|ant|svcacct|admin)-[A-Za-z0-9_-]{20,}"
    r"|hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,}"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"
    r"|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,}"  # Google
    r"|xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}"  # Slack
    r"|(?:gsk|r8|xai|pplx|nvapi|fw|csk|dop_v1|shpat|rk_live|sk_live|whsec|lsv2_pt|lsv2_sk|jina|wandb_v1)[-_]\w{24,}"
    r"|[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34})\b"  # Azure applications
)
BEARER = re.compile(r"\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{12,})", re.IGNORECASE)
USER = re.compile(
    r"(?<![a-z0-9])[a-z][a-z0-9+.-]{0,20}:/{1,2}(?:[^\s/:@\"'<>{}]*:(?![${<])[^\s/@\"'<>]+|([^\s/:@\"'<>]{12,}))@",
    re.IGNORECASE,
)
WEBHOOK = re.compile(
    r"hooks\.slack\.com/(?:services|workflows)/\w+/\w+|discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}"
)
_VALUE = r"[\"']?\s*(?:[:=]|=>|%3D)\s*(?:[|>][+-]?\s*)?(?:!\S+\s+)?[\"']?"
_SECRET = r"(?:pass(?:word|wd|phrase)|pwd|secrets?)"
_END = r"(?=[\"']?\s*(?:$|[,;&}\]'\"#]))"
PASSWORD = re.compile(
    rf"(?:^|[\"'{{,?&;:#_.-])[ \t]*[\w.-]{{0,60}}{_SECRET}{_VALUE}([^\s\"'&,;{{}}\[\]$<*]{{6,}}){_END}",
    re.IGNORECASE | re.MULTILINE,
)
NAMED = re.compile(
    rf"(?:keys?|tokens?|{_SECRET}|credentials?|auth|authorization|sig|signature)(?:[_-]?(?:id|env|value|base64|b64|hex))?"
    rf"{_VALUE}([A-Za-z0-9+/=_~.%-]{{16,}})",
    re.IGNORECASE,
)
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
PLAIN = ("null", "none", "true", "false")


def key_in(text: str) -> str:
    """Return what kind of key a text holds, or nothing."""
    return next(_kinds(text), "")


def _kinds(text: str) -> Iterator[str]:
    if FORMS.search(text) or WEBHOOK.search(text):
        yield "a secret key"
    if any(_random(found.group(1)) for found in BEARER.finditer(text)):
        yield "a secret key of a request"
    if any(found.group(1) is None or _random(found.group(1)) for found in USER.finditer(text)):
        yield "a secret key or password in an address"
    if any(_random(found.group(1)) for found in NAMED.finditer(text)):
        yield "a secret key"
    if any(found.group(1).lower() not in PLAIN and not _is_name(found.group(1)) for found in PASSWORD.finditer(text)):
        yield "a secret key or password"
    for scanner in _scanners():
        if any(map(bool, scanner.analyze_string(text))):
            yield f"a secret key ({scanner.secret_type})"


@cache
def _scanners() -> list[Any]:
    from importlib import import_module

    places = (name.split(".") for name in SCANNERS)
    found = [getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in places]
    logging.captureWarnings(False)  # detect-secrets turns it on when it is imported, and nobody would see a warning
    return found


def _random(value: str) -> bool:
    """Tell whether a value looks drawn, not written: a long run of letters and digits, each of which is rare."""
    if _is_name(value):
        return False
    if UUID.fullmatch(value):
        return True
    runs = re.findall(r"[A-Za-z0-9]{16,}", value)
    if any(_mixed(run) and _entropy(run) > 3.0 for run in runs):
        return True
    return len(value) >= 24 and _mixed(value) and value.lower() != value and _entropy(value) > 4.2


def _mixed(text: str) -> bool:
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def _is_name(value: str) -> bool:
    """Tell whether this is the name of an environment variable."""
    return re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", value) is not None and not re.search(r"[0-9]{5}", value)


def _entropy(text: str) -> float:
    """Return bits per character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)
