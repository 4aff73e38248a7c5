"""Loading a tokenizer, and the padding token a reward model is exported with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE
from transformers.utils.hub import cached_file

from align.errors import ConfigError, ModelError, shorten
from align.models.backbone import Backbone
from align.models.folder_checks import ADAPTER_CONFIG, base_of, local_folder
from align.models.foreign_code import may_run_code, refuse_code


def load_tokenizer(backbone: Backbone) -> Any:
    """Return the backbone's tokenizer with its chat template replaced where the backbone names one."""
    path = backbone.tokenizer or backbone.path
    folder = local_folder(path)
    if backbone.revision is not None and local_folder(backbone.path) is not None:
        raise ConfigError(
            f"backbone.revision {backbone.revision!r} is a commit of a hub repository, but backbone.path "
            f"{backbone.path} is a folder: leave it out"
        )
    if folder is not None and not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab*")):
        if not (folder / ADAPTER_CONFIG).exists():
            raise ModelError(f"{folder}: no tokenizer files: set model.backbone.tokenizer to a folder that has them")
        path = base_of(folder)
    revision = backbone.revision if folder is None else None
    trusted = may_run_code(path, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trusted)
    except Exception as error:  # the tokenizers library raises nothing narrower for a damaged file
        refuse_code(path, error)
        raise ModelError(f"tokenizer {path}: cannot be loaded ({shorten(error, 160)})") from error
    if backbone.chat_template is not None:
        tokenizer.chat_template = _read_template(backbone.chat_template)
    elif not tokenizer.chat_template:
        tokenizer.chat_template = _of_processor(path, revision)
    return tokenizer


def choose_pad_token(tokenizer: Any) -> str | None:
    """Return a padding token that can never end a response, or None when the vocabulary has none to spare.

    A sequence classifier finds the last token of a row as the right-most one that is not padding, so padding with EOS
    would make it read the token before EOS. A reserved or the unknown token serves as well.
    """
    ends = {tokenizer.eos_token, tokenizer.bos_token}
    special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
    spare = [t for t in special if re.search("pad|reserved|unused", t, re.IGNORECASE)]
    candidates = [tokenizer.pad_token, *spare, tokenizer.unk_token]
    template = tokenizer.chat_template or ""
    return next((t for t in candidates if t is not None and t not in ends and t not in template), None)


def _of_processor(path: str, revision: str | None) -> str | None:
    """Return the chat template that a processor of pictures and text kept beside a tokenizer without one, if any."""
    found = cached_file(
        path,
        LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return None
    try:
        return str(json.loads(Path(found).read_text(encoding="utf-8"))["chat_template"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{found}: expected an object with chat_template ({error})") from error


def _read_template(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"model.backbone.chat_template {path}: cannot be read ({error})") from error
