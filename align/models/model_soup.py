"""Models made of models: folders with interpolated weights, adapters with the exact sum of their updates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align.errors import ConfigError, ModelError
from align.files import atomic_folder
from align.models.adapter_folder import ADAPTER_WEIGHTS, changes_base
from align.models.condition_file import CONDITION_FILE, STEERING_FILE, read_asking
from align.models.folder_checks import ADAPTER_CONFIG, PICKLED, base_of, check_weights, local_folder, read_json
from align.records.asking import Ask
from align.strict_json import json_text

PLAIN: dict[str, Any] = {
    "use_dora": False,
    "use_rslora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}
"""Adapter settings under which an update is alpha / r B A and nothing else."""
Weights = dict[str, Tensor]


def write_soup(out: Path, models: Sequence[str], factors: Sequence[float], base: str | None = None) -> None:
    """Write theta_0 + sum f_i (theta_i - theta_0) as a folder of the models' kind.

    Models of factor 0 are left out, and one model of factor 1 is copied as it is. `base` is the common start of full
    models; it is needed where the factors do not add up to 1.

    Raises ModelError for models that do not fit together.
    """
    folders = [_folder(path) for path in models]
    used = [(folder, f) for folder, f in zip(folders, factors, strict=True) if f]
    if not used:
        raise ConfigError("every factor of the soup is 0: that is the start itself")
    adapters = _are_adapters(folders)
    _check_tokenizers(folders)
    conditioned = _conditioned([folder for folder, _ in used])
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"out {out}: the folder is not empty")
    if base is not None and adapters:
        raise ConfigError(
            f"base {base}: adapters bring theirs, and a start without an update adds nothing: leave it out"
        )
    with atomic_folder(out) as part:
        if len(used) == 1 and used[0][1] == 1:
            shutil.copytree(used[0][0], part, dirs_exist_ok=True)
        elif adapters:
            _write_adapter(part, used)
        else:
            _write_full(part, used, None if base is None else _folder(base))
        if conditioned is not None:
            _copy_condition(conditioned, part)
        told = {"base": base, "models": dict(zip(models, factors, strict=True))}
        (part / "soup.json").write_text(json_text(told, indent=1))


def _are_adapters(folders: Sequence[Path]) -> bool:
    found = {(folder / ADAPTER_CONFIG).exists() for folder in folders}
    if len(found) == 2:
        raise ModelError("a soup takes full models or adapters, not both: merge the adapters first (align export)")
    return found.pop()


def _copy_condition(folder: Path, out: Path) -> None:
    shutil.copy2(folder / CONDITION_FILE, out / CONDITION_FILE)
    if (vectors := (folder / STEERING_FILE).parent).exists():
        shutil.copytree(vectors, out / vectors.name, dirs_exist_ok=True)


def interpolate(models: Sequence[tuple[Weights, float]], base: Weights | None) -> Weights:
    """Return the weighted sum of models, summed in float64; the rest to 1 is the base's."""
    rest = 1 - sum(factor for _, factor in models)
    terms = list(models)
    if abs(rest) > 1e-9:
        if base is None:
            raise ConfigError("the factors do not add up to 1: name the models' common start with --base")
        terms.append((base, rest))
    first = terms[0][0]
    for weights, _ in terms[1:]:
        _check_same({k: v.shape for k, v in first.items()}, {k: v.shape for k, v in weights.items()})
    return {
        name: sum((f * weights[name].double() for weights, f in terms), torch.zeros((), dtype=torch.float64)).to(
            own.dtype
        )
        for name, own in first.items()
    }


def concatenate(adapters: Sequence[tuple[Weights, float]]) -> Weights:
    """Return one adapter whose update is the sum of all: [A_1; A_2] and [f_1 B_1, f_2 B_2], alpha / r in the factors.

    Averaging A and B apart would not be the average of their products.
    """
    first = adapters[0][0]
    for weights, _ in adapters[1:]:
        _check_same(dict.fromkeys(first), dict.fromkeys(weights))
    joined: Weights = {}
    for name, own in first.items():
        if ".lora_A." in name:
            joined[name] = torch.cat([weights[name] for weights, _ in adapters], 0)
        elif ".lora_B." in name:
            scaled = [(f * weights[name].double()).to(own.dtype) for weights, f in adapters]
            joined[name] = torch.cat(scaled, 1)
        else:
            raise ModelError(f"adapter weight {name}: only LoRA on linear layers can be added up exactly")
    return {name: values.contiguous() for name, values in joined.items()}


def _write_adapter(out: Path, used: Sequence[tuple[Path, float]]) -> None:
    configs = [read_json(folder / ADAPTER_CONFIG) for folder, _ in used]
    bases = {base_of(folder) for folder, _ in used}
    if len(bases) > 1:
        raise ModelError(f"the adapters have different base models: {', '.join(sorted(bases))}")
    for (folder, _), config in zip(used, configs, strict=True):
        if unusual := [key for key, plain in PLAIN.items() if (config.get(key) or plain) != plain]:
            raise ModelError(
                f"adapter {folder}: {unusual[0]} {config[unusual[0]]!r} cannot be added up: merge it first"
            )
        if changes_base(config):
            raise ModelError(
                f"adapter {folder}: init_lora_weights {config['init_lora_weights']!r} is no update of the plain base: "
                "merge it first"
            )
    scaled = [
        (load_file(folder / ADAPTER_WEIGHTS), factor * config["lora_alpha"] / config["r"])
        for (folder, factor), config in zip(used, configs, strict=True)
    ]
    joined = concatenate(scaled)
    _copy_files(used[0][0], out)
    rank = sum(config["r"] for config in configs)
    (out / ADAPTER_CONFIG).write_text(json.dumps({**configs[0], "r": rank, "lora_alpha": rank}, indent=2) + "\n")
    save_file(joined, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _write_full(out: Path, used: Sequence[tuple[Path, float]], base: Path | None) -> None:
    models = [(_load(folder), factor) for folder, factor in used]
    weights = interpolate(models, None if base is None else _load(base))
    _copy_files(used[0][0], out)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def _load(folder: Path) -> Weights:
    check_weights(folder)
    return {name: values for file in sorted(folder.glob("*.safetensors")) for name, values in load_file(file).items()}


def _copy_files(folder: Path, out: Path) -> None:
    """Copy what is beside the weights: configuration and tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        weights = file.suffix in (".safetensors", *PICKLED) or file.name in (
            "model.safetensors.index.json",
            "README.md",
        )
        if file.is_file() and not weights:
            shutil.copy2(file, out / file.name)


def _folder(path: str) -> Path:
    folder = local_folder(path)
    if folder is None:
        raise ModelError(f"{path}: a soup needs model folders on disk")
    return folder


def _check_tokenizers(folders: Sequence[Path]) -> None:
    files = {f.joinpath("tokenizer.json").read_bytes() for f in folders if f.joinpath("tokenizer.json").exists()}
    if len(files) > 1:
        raise ModelError("the models of the soup have different tokenizers")


def _conditioned(folders: Sequence[Path]) -> Path | None:
    """Return a folder that says how the soup is asked, None where no model was trained under conditions."""
    asked = {repr(own): folder for folder in folders if (own := read_asking(str(folder))) != (None, Ask())}
    if len(asked) > 1:
        raise ModelError("the models of the soup were trained under different conditions: none says how it is asked")
    return next(iter(asked.values()), None)


def _check_same(first: dict[str, object], other: dict[str, object]) -> None:
    wrong = sorted(
        name for name in first.keys() | other.keys() if first.get(name, "missing") != other.get(name, "missing")
    )
    if wrong:
        raise ModelError(
            f"the models of the soup do not fit together: {len(wrong)} tensors differ, first {wrong[0]} "
            f"({first.get(wrong[0], 'missing')} and {other.get(wrong[0], 'missing')})"
        )
