"""Soups: worked numbers, endpoints to the bit, adapters equal to the sum of their updates."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from align.activations.artefact import VectorNote, save_vectors
from align.cli.main import main
from align.errors import ConfigError, ModelError
from align.models.asked import asking_of, vectors_of
from align.models.condition_file import write_condition_file
from align.models.model_soup import interpolate, write_soup
from align.models.soup_weights import Signed, Simplex, TaskArithmetic
from align.records import Message
from align.records.asking import Ask
from tests.tiny import save_tiny

START, A, B = ({"w": torch.tensor(values)} for values in ((1.0, 2.0), (2.0, 2.0), (1.0, 4.0)))


def test_worked_numbers() -> None:
    """(1, 2), (2, 2), (1, 4): halves give (1.5, 3); (.8, -.6) around the start gives (1.8, .8)."""
    assert interpolate([(A, 0.5), (B, 0.5)], None)["w"].tolist() == [1.5, 3.0]
    assert interpolate([(A, 0.8), (B, -0.6)], START)["w"].tolist() == pytest.approx([1.8, 0.8])
    with pytest.raises(ConfigError, match="--base"):
        interpolate([(A, 0.8), (B, -0.6)], None)


def test_factors() -> None:
    assert Simplex().factors([0.25, 0.75]) == [0.25, 0.75]
    assert Signed().factors([0.8, -0.6]) == pytest.approx([0.8 / 1.4, 0.6 / 1.4])
    assert TaskArithmetic().factors([0.8, -0.6]) == [0.8, -0.6]
    for wrong in ([0.8, 0.6], [1.5, -0.5]):
        with pytest.raises(ConfigError, match="add up to 1"):
            Simplex().factors(wrong)
    with pytest.raises(ConfigError, match="all 0"):
        Signed().factors([0.0, 0.0])


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Three full models: a start and two that moved."""
    folders = [str(save_tiny(tmp_path / name)) for name in ("start", "one", "two")]
    for number, folder in enumerate(folders[1:]):
        model = AutoModelForCausalLM.from_pretrained(folder)
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
    return folders


def weights(folder: Any) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_full_models(models: list[str], tmp_path: Path) -> None:
    start, one, two = models
    write_soup(tmp_path / "end", [one, two], [1.0, 0.0])
    assert all(torch.equal(v, weights(one)[k]) for k, v in weights(tmp_path / "end").items())
    write_soup(tmp_path / "ab", [one, two], [0.3, 0.7])
    write_soup(tmp_path / "ba", [two, one], [0.7, 0.3])
    for name, value in weights(tmp_path / "ab").items():
        torch.testing.assert_close(value, 0.3 * weights(one)[name] + 0.7 * weights(two)[name])
        assert torch.equal(value, weights(tmp_path / "ba")[name])
    write_soup(tmp_path / "arithmetic", [one, two], [0.8, -0.6], base=start)
    for name, value in weights(tmp_path / "arithmetic").items():
        zero = weights(start)[name]
        torch.testing.assert_close(value, zero + 0.8 * (weights(one)[name] - zero) - 0.6 * (weights(two)[name] - zero))


def adapter(base: str, folder: Path, rank: int, seed: int) -> str:
    torch.manual_seed(seed)
    settings = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=rank, lora_alpha=3 * rank - 1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    return str(folder)


def merged(base: str, folder: Any) -> dict[str, torch.Tensor]:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).merge_and_unload().state_dict()


def test_adapters_of_different_ranks(model_folder: Path, tmp_path: Path) -> None:
    """The soup of adapters is the soup of what they merge to; averaging their factors would not be."""
    base = str(model_folder)
    one, two = adapter(base, tmp_path / "one", 2, 0), adapter(base, tmp_path / "two", 3, 1)
    for factors in ([0.3, 0.7], [0.8, -0.6]):
        out = tmp_path / f"soup{factors[0]}"
        write_soup(out, [one, two], factors)
        zero = weights(base)
        for name, value in merged(base, out).items():
            expected = zero[name] + sum(
                f * (merged(base, a)[name] - zero[name]) for f, a in zip(factors, (one, two), strict=True)
            )
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    write_soup(tmp_path / "end", [one, two], [0.0, 1.0])
    assert all(torch.equal(v, merged(base, two)[k]) for k, v in merged(base, tmp_path / "end").items())


def test_what_does_not_fit(models: list[str], model_folder: Path, tmp_path: Path) -> None:
    lora = adapter(str(model_folder), tmp_path / "lora", 2, 0)
    with pytest.raises(ModelError, match="not both"):
        write_soup(tmp_path / "x", [models[0], lora], [0.5, 0.5])
    other = adapter(models[0], tmp_path / "other", 2, 0)
    with pytest.raises(ModelError, match="different base models"):
        write_soup(tmp_path / "x", [lora, other], [0.5, 0.5])
    wide = str(save_tiny(tmp_path / "wide", hidden_size=64))
    with pytest.raises(ModelError, match=r"tensors differ, first .*"):
        write_soup(tmp_path / "x", [models[0], wide], [0.5, 0.5])
    with pytest.raises(ConfigError, match="not empty"):
        write_soup(Path(models[1]), models[:2], [0.5, 0.5])


def test_the_verb(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "soup")
    words = ["merge", "--models", f"[{models[1]}, {models[2]}]", "--out", out]
    assert main([*words, "--weights", "[0.8, -0.6]", "--kind", "Signed"]) == 0
    assert "0.571429" in capsys.readouterr().out
    assert weights(out)
    assert main([*words, "--weights", "[0.8, 0.6]"]) == 2
    assert "add up to 1" in capsys.readouterr().err


def test_models_and_weights_by_name(models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The order of the names of either does not matter."""
    out = [str(tmp_path / name) for name in ("listed", "named", "no")]
    assert main(["merge", "--models", f"[{models[1]}, {models[2]}]", "--weights", "[0.8, 0.2]", "--out", out[0]]) == 0
    named = ["merge", "--models.a", models[1], "--models.b", models[2], "--weights.b", "0.2"]
    assert main([*named, "--weights.a", "0.8", "--out", out[1]]) == 0
    first, second = (weights(folder) for folder in out[:2])
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    capsys.readouterr()
    assert main([*named, "--weights.c", "0.8", "--out", out[2]]) == 2
    assert "weights: expected a number for each of a, b, got b, c" in capsys.readouterr().err


def test_a_soup_is_asked_as_the_model_that_says_how(tmp_path: Path) -> None:
    """Also where only the second says so, its vectors included; two that differ are refused."""
    plain, brief, long = (save_tiny(tmp_path / name) for name in ("plain", "brief", "long"))
    vector = torch.linspace(-1, 1, 32)
    save_vectors(tmp_path / "v.safetensors", {"mean": vector[None]}, VectorNote((1,), "a - b"))
    write_condition_file(None, brief, Ask(system="Be brief.", steer=str(tmp_path / "v.safetensors"), coefficient=2.0))
    write_condition_file(None, long, Ask(system="Be long."))
    write_soup(tmp_path / "soup", [str(plain), str(brief)], [0.5, 0.5])
    for folder in (plain, brief):
        shutil.rmtree(folder / "steering", ignore_errors=True)  # the soup does without what it was made of
    asking = asking_of(str(tmp_path / "soup"))
    assert asking.apply((Message("user", "Hi"),))[0] == Message("system", "Be brief.")
    assert asking.steer is not None
    assert asking.steer.coefficient == 2.0
    assert torch.equal(vectors_of(asking.steer)[1], vector)
    with pytest.raises(ModelError, match="trained under different conditions"):
        write_soup(tmp_path / "other", [str(long), str(brief)], [0.5, 0.5])
