"""The model card of an exported folder: what it is, what it was trained on and with, how it measured."""

from __future__ import annotations

import dataclasses
import inspect
import platform
from importlib.metadata import version
from typing import Any

import yaml

from align.models.foreign_code import OPTION, is_trusted

PACKAGES = ("align-lm", "lightning", "torch", "transformers", "peft", "datasets")


def settings(owner: object) -> dict[str, Any]:
    """Return the constructor's arguments of an object as plain values; it keeps each under its own name."""
    names = inspect.signature(type(owner)).parameters
    return {name: _plain(getattr(owner, name)) for name in names}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "class": type(value).__name__,
            **{f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)},
        }
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else str(value)


def model_card(method: str, base: str, config: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return Markdown with a Hugging Face header.

    `config` is the configuration of the run; `facts` has `fingerprint`, `seed` and `metrics`.
    """
    header = {"base_model": base, "library_name": "transformers", "tags": ["align", method.lower()]}
    versions = "\n".join(f"- {name} {version(name)}" for name in PACKAGES)
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(facts.get("metrics", {}).items()))
    code = f" Loaded with the Python code of the model's folder ({OPTION})." if is_trusted() else ""
    return f"""---
{yaml.safe_dump(header).strip()}
---

# {method} from {base}

Trained with align. Data fingerprint `{facts.get("fingerprint") or "none"}`, seed {facts.get("seed")}.

Self-check: {facts.get("check") or "none"}.{code}

## Metrics at the end of training

| metric | value |
|---|---|
{rows}

## Configuration

```yaml
{yaml.safe_dump(config, sort_keys=False).strip()}
```

## Versions

- Python {platform.python_version()}
{versions}
"""
