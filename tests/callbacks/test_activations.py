"""RepresentationTargets vectors, the heat map, and steering from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.activations.artefact import VectorNote, load_note, load_vectors, save_vectors
from align.activations.steering import Steering, steered
from align.callbacks.activations import ActivationCollector
from align.callbacks.heat_map import LayerHeatMap, picture
from align.cli.main import main
from align.data.splits import Splits
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.hir import HIRModule
from align.modules.sft import SFTModule
from align.records import Message
from align.rewards.reward_model_scorer import RewardModelScorer
from tests.modules.aligned import TEXTS, adapters, dual, tiny
from tests.modules.fitting import fit, pairs_data
from tests.tiny import save_reward_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny(tmp_path)


def test_vectors_of_a_run_and_their_note(base: Path, tmp_path: Path, pairs_file: Path) -> None:
    data = pairs_data(pairs_file, splits=Splits(0.5))
    collector = ActivationCollector([1, 3], pairs=12, at_start=True)
    log = fit(DPOModule(Backbone(str(base))), data, callbacks=[collector], default_root_dir=str(tmp_path / "run"))
    (logged,) = (row for row in log.rows if "probe/length_only" in row)
    for place in (tmp_path / "run" / "activations", tmp_path / "run" / "activations" / "start"):
        vectors, note = load_vectors(place / "vectors.safetensors"), load_note(place / "vectors.safetensors")
        assert list(vectors) == [1, 3]
        assert vectors[1].shape == (32,)
        assert note["contrast"] == "chosen - rejected"
        assert note["examples"] == 12
        assert note["fingerprint"] == data.fingerprint
        accuracy = note["measures"]["accuracy"]
        assert set(accuracy) == {"mean", "pca", "logistic", "random", "shuffled_labels"}
        assert note["measures"]["length_only"]["value"] == 0  # the chosen responses of this file are the shorter ones
        assert set(accuracy["mean"]) == {"1", "3"}
    assert logged["probe/length_only"] == 0
    assert logged["probe/layer_03/random"] == accuracy["random"]["3"]["value"]


def test_with_instructions_vectors_are_theirs(base: Path, tmp_path: Path, pairs_file: Path) -> None:
    module = HIRModule(Backbone(str(base)), instructions=TEXTS)
    collector = ActivationCollector([2], pairs=8, folder=str(tmp_path / "v"))
    log = fit(module, pairs_data(pairs_file), callbacks=[collector])
    note = load_note(tmp_path / "v" / "vectors.safetensors")
    assert note["contrast"] == "good instruction - bad instruction"
    assert note["instructions"]["positive"] == "be good"
    assert set(note["measures"]["instructed_accuracy"]) == {"2"}
    assert {"train/nll", "train/margin/chosen", "train/swap_accuracy/rejected"} <= set(log.rows[0])


def test_single_responses_are_refused(base: Path, tmp_path: Path, pairs_file: Path) -> None:
    with pytest.raises(ConfigError, match="needs pairs"):
        fit(
            SFTModule(Backbone(str(base))),
            pairs_data(pairs_file),
            callbacks=[ActivationCollector([1])],
            default_root_dir=str(tmp_path),
        )


def test_heat_map_is_written(base: Path, tmp_path: Path, pairs_file: Path) -> None:
    module = dual(base, adapters(base, tmp_path / "s", ["good", "bad"]))
    fit(module, pairs_data(pairs_file), callbacks=[LayerHeatMap(4)], default_root_dir=str(tmp_path / "run"))
    assert (tmp_path / "run" / "alignment.png").stat().st_size > 1000
    told = json.loads((tmp_path / "run" / "alignment.json").read_text())
    assert told["layers"] == [1, 2]
    assert told["positions"] == ["0", "1", "2", "3", "4", "5", "6", "7+"]
    assert [len(row) for row in told["left"]] == [8, 8]
    assert told["left"][0][0] > 0
    assert module.profile.read() is None
    assert picture(torch.rand(2, 8), [1, 2]).axes[0].get_ylabel() == "layer"


def test_steering_from_the_command_line(
    base: Path, tmp_path: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    fit(
        DPOModule(Backbone(str(base))),
        pairs_data(pairs_file),
        callbacks=[ActivationCollector([1, 2], pairs=8)],
        default_root_dir=str(run),
    )
    vectors = run / "activations" / "vectors.safetensors"
    words = ["generate", "--model.path", str(base), "--prompt", "a cat", "--generation.temperature", "0"]
    words += ["--generation.max_new_tokens", "12"]
    texts = []
    for more in (
        [],
        ["--steer", str(vectors), "--coefficient", "0"],
        ["--steer", str(vectors), "--coefficient", "200"],
    ):
        assert main([*words, *more, "--out", str(tmp_path / "out.jsonl")]) == 0
        texts.append(json.loads((tmp_path / "out.jsonl").read_text())["completion"])
    assert texts[0] == texts[1] != texts[2]
    capsys.readouterr()
    assert main([*words, "--steer", str(vectors), "--layers", "[3]"]) == 2
    assert "has layers [1, 2], not 3" in capsys.readouterr().err
    assert main([*words, "--under", "positive", "--instructions.positive", "be good"]) == 0
    asked = tmp_path / "prompts.jsonl"
    asked.write_text('{"prompt": "a cat"}\n{"prompt": "a mat"}\n')
    out = str(tmp_path / "sweep.json")
    words = [
        "steer",
        "sweep",
        "--model.path",
        str(base),
        "--steer",
        str(vectors),
        "--prompts",
        str(asked),
        "--out",
        out,
    ]
    assert main([*words, "--coefficients", "[0.0, 5.0]", "--generation.max_new_tokens", "5"]) == 0
    points = json.loads(Path(out).read_text())
    assert points[0]["rewards"] == {}
    assert [p["coefficient"] for p in points] == [0, 5]
    assert points[0]["kl"]["value"] == 0
    assert points[1]["kl"]["value"] != 0


def test_a_sweep_is_scored_by_reward_models(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mean is that of the oracle on the same completions, here one greedy completion per prompt."""
    vectors, out = tmp_path / "vectors.safetensors", tmp_path / "sweep.json"
    save_vectors(vectors, {"mean": torch.ones(1, 32)}, VectorNote((2,), "test", str(base)))
    folder = str(save_reward_model(tmp_path / "rm"))
    asked = tmp_path / "prompts.jsonl"
    asked.write_text('{"prompt": "a cat"}\n{"prompt": "the red birds"}\n')
    greedy = ["--prompts", str(asked), "--generation.max_new_tokens", "6", "--generation.temperature", "0"]
    greedy += ["--generation.num_samples", "1"]
    words = ["steer", "sweep", "--model.path", str(base), "--steer", str(vectors), "--coefficients", "[0.0]", *greedy]
    assert main([*words, "--rewards", f"[{folder}]", "--out", str(out)]) == 0
    assert f"reward, {folder}" in capsys.readouterr().out
    generated = tmp_path / "out.jsonl"
    assert main(["generate", "--model.path", str(base), *greedy, "--out", str(generated)]) == 0
    texts = [json.loads(line)["completion"] for line in generated.read_text().splitlines()]
    scores = RewardModelScorer(folder).score([(Message("user", t),) for t in ("a cat", "the red birds")], texts)
    (point,) = json.loads(out.read_text())
    assert point["rewards"][folder]["value"] == pytest.approx(scores.mean().item(), rel=1e-5)
    assert main([*words, "--rewards", f"[{base}]"]) == 2
    assert "has no reward head" in capsys.readouterr().err


def test_vectors_become_a_control_vector(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read back as repeng does; added to what block N puts out, counted from 0, it steers as ours does."""
    gguf = pytest.importorskip("gguf")
    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    vectors, out = tmp_path / "vectors.safetensors", tmp_path / "vectors.gguf"
    save_vectors(vectors, {"mean": rows}, VectorNote((1, 2), "test", str(base)))
    words = ["steer", "export", "--steer", str(vectors), "--out", str(out)]
    assert main(words) == 2
    assert "layers has 1, the first block, which llama.cpp cannot steer" in capsys.readouterr().err
    assert main([*words, "--layers", "[2]"]) == 0
    reader = gguf.GGUFReader(out)
    text = lambda name: bytes(reader.get_field(name).parts[-1]).decode()  # noqa: E731
    assert text("general.architecture") == "controlvector"
    assert text("controlvector.model_hint") == "llama"
    assert reader.get_field("controlvector.layer_count").parts[-1][0] == 1
    (tensor,) = reader.tensors
    assert tensor.name == "direction.1"
    assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    vector = torch.from_numpy(tensor.data.copy())
    assert torch.equal(vector, rows[1])
    model, ids = AutoModelForCausalLM.from_pretrained(base), torch.tensor([[5, 6, 7]])
    with steered(model, {2: rows[1]}, Steering(0.5)):
        ours = model(ids).logits
    model.model.layers[int(tensor.name.split(".")[1])].register_forward_hook(lambda m, i, o: o + 0.5 * vector)
    torch.testing.assert_close(model(ids).logits, ours)
    assert main([*words, "--layers", "[2]", "--model", str(tmp_path)]) == 2
    assert "no configuration there" in capsys.readouterr().err
