"""Two synthetic worlds are never mixed: models, data, gold rewards and measures of different ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.errors import ConfigError
from align.evaluation.model_world import world_of
from align.models.folder_checks import BASE_REPORT
from align.models.small import new_llama, word_tokenizer
from align.models.world_settings import check_same_world, world_settings
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import GoldRewards
from align.world.language import TAGS, vocabulary
from align.world.universe import World

SECOND = World(version=2, seed=3)


def save(folder: Path, world: World | None) -> Path:
    """Write a model as `init world` does, or one that is of no world."""
    tokenizer = word_tokenizer(vocabulary(2), TAGS)
    model = new_llama(tokenizer, hidden_size=32, num_hidden_layers=1, max_positions=256, tied=False)
    if world is not None:
        model.config.synthetic_world = world.settings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_models_inherit_their_world(tmp_path: Path) -> None:
    base = save(tmp_path / "base", SECOND)
    assert world_settings(str(base)) == SECOND.settings
    model = AutoModelForCausalLM.from_pretrained(base)
    model.save_pretrained(tmp_path / "tuned")
    assert world_settings(str(tmp_path / "tuned")) == SECOND.settings
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    assert world_settings(str(tmp_path / "adapter")) == SECOND.settings
    assert world_settings(str(save(tmp_path / "own", None))) is None
    assert world_settings("somebody/model") is None


def test_a_base_of_before_belongs_to_the_first_world(tmp_path: Path) -> None:
    """Its report has the seed of its training under the name of the world's, so that the world's is not known."""
    base = save(tmp_path / "base", None)
    (base / BASE_REPORT).write_text(json.dumps({"faults": [], "settings": {"entities": 16, "facts": 6, "seed": 4}}))
    assert world_settings(str(base)) == {"version": 1, "entities": 16, "facts": 6}
    check_same_world(("a", world_settings(str(base))), ("b", World(seed=2).settings))
    with pytest.raises(ConfigError, match="a and b are of different synthetic worlds: version 1 and 2"):
        check_same_world(("a", world_settings(str(base))), ("b", SECOND.settings))


def fit(tmp_path: Path, base: Path, *words: str) -> int:
    folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"  # each in its own
    few = ("-c", "dpo", "-c", "cpu", "--trainer.default_root_dir", str(folder), "--trainer.max_steps", "1")
    return main(["fit", *few, "--model.backbone.path", str(base), *words])


def test_a_run_on_data_of_another_world_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save(tmp_path / "base", SECOND)
    few = ("-c", "synthetic", "--data.preferences.size", "8", "--data.preferences.held_out_size", "4")
    assert fit(tmp_path, base, *few) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"model {base} and the synthetic data are of different synthetic worlds: version 2 and 1" in told
    assert "world.version" in told
    assert fit(tmp_path, base, *few, "--data.world.version", "2") == 2
    assert "different synthetic worlds: seed 3 and 0" in capsys.readouterr().err


def test_files_of_another_world_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--preferences.size", "6", "--preferences.held_out_size", "4", "--world.version", "2")
    assert main(["data", "world", "--out", str(tmp_path / "files"), *few]) == 0
    pairs = tmp_path / "files" / "pairs"
    base = save(tmp_path / "base", SECOND)
    for path in (pairs, pairs / "train.jsonl"):
        assert fit(tmp_path, base, "--data", "PreferenceFileDataModule", "--data.path", str(path)) == 2
        assert f"data {path} are of different synthetic worlds: seed 3 and 0" in capsys.readouterr().err


def test_measures_of_two_worlds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [save(tmp_path / name, world) for name, world in (("a", SECOND), ("own", None), ("b", World(version=2)))]
    assert main(["benchmark", "world", "--models", f"[{','.join(map(str, models))}]"]) == 2
    said = capsys.readouterr().err
    assert f"model {models[0]} and model {models[2]} are of different synthetic worlds: seed 3 and 0" in said
    with pytest.raises(ConfigError, match="the gold rewards and data x are of different synthetic worlds: version 1"):
        MinMaxScaled(GoldRewards(), {"helpfulness": (0, 1)}).check_world("data x", SECOND.settings)


def test_a_model_of_no_world_is_measured_in_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says of a world it never saw was measured as if it were of the first."""
    base, own = save(tmp_path / "base", SECOND), save(tmp_path / "own", None)
    few = ["--prompts", "{harmless: 2, harmful: 1}", "--temperatures", "[]", "--matched_base", "false"]
    for models in ([own], [base, own]):
        assert main(["benchmark", "world", "--models", f"[{','.join(map(str, models))}]", *few]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert told[-1].startswith(f"align benchmark world: model {own}: of no synthetic world")
        assert "name the world it belongs to, as in --world.seed 0" in told[-1]
    named = ["--world.version", "2", "--world.seed", "3", "--out", str(tmp_path / "found.json")]
    assert main(["benchmark", "world", "--models", f"[{base},{own}]", *few, *named]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["world"] == SECOND.settings
    assert main(["benchmark", "world", "--models", f"[{base}]", *few, "--world.version", "2"]) == 2
    assert f"--world and model {base} are of different synthetic worlds: seed 0 and 3" in capsys.readouterr().err


def test_a_world_without_a_seed_is_told(tmp_path: Path) -> None:
    """A base of before worlds had a seed: it is that of 0 unless another is named."""
    base = save(tmp_path / "base", None)
    (base / BASE_REPORT).write_text(json.dumps({"faults": [], "settings": {"entities": 9, "facts": 6, "seed": 4}}))
    with pytest.warns(UserWarning, match=r"does not say the seed of its world, so 0 is taken: .*--world\.seed"):
        assert world_of([str(base)]) == World(version=1, entities=9, facts=6, seed=0)
    assert world_of([str(base)], World(entities=9, seed=5)) == World(entities=9, held_out_entities=4, seed=5)


def test_a_name_that_is_no_folder_is_not_told_as_a_model_without_a_world() -> None:
    with pytest.raises(ConfigError, match="model nowhere: no such folder, and a model of the hub is of no synthetic"):
        world_of(["nowhere"])
