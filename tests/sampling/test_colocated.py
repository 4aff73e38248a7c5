"""vLLM in the training process, against a stand-in of its API: whose weights it draws by, when it sleeps, what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone
from align.records import PromptFormat
from align.sampling import vllm as shared
from align.sampling.colocated import ColocatedEngine, ColocatedVLLM
from align.sampling.engine_kind import RoundPolicy, RunEngine, SampledRun
from align.sampling.generation import Generation, Request, sample_key
from align.sampling.sampler import Sampler
from align.sampling.vllm import VLLMEngine, check_served, lora_id
from align.sampling.written_policies import WrittenPolicies
from tests.rounds.runs import save_world_model
from tests.sampling.vllm_stand_in import LLM, install

SETTINGS = Generation(max_new_tokens=5, num_samples=3, temperature=0.8, seed=3)
ASKED = [Request(name, [1, *range(10, 10 + length)]) for name, length in (("a", 3), ("b", 9))]


class Training:
    """A module as its run goes on: other weights in every round."""

    def __init__(self, folder: Path, *, adapted: bool, rank: int = 4) -> None:
        base, self.adapted = save_world_model(folder / "base"), adapted
        torch.manual_seed(1)
        self.model: Any = AutoModelForCausalLM.from_pretrained(base)
        if adapted:
            config = peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj", "down_proj"])
            self.model = peft.get_peft_model(self.model, config)
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        backbone = Backbone(str(base))
        module: Any = SimpleNamespace(model=self.model, tokenizer=self.tokenizer, backbone=backbone)
        policies = WrittenPolicies(folder / "rounds")
        self.run = SampledRun(module, SETTINGS, policies, adapted=adapted, on_tokens=True, corrected=True)
        self.number = 0

    def step(self) -> None:
        """Move the weights."""
        self.number += 1
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if not self.adapted or "lora_B" in name:
                    parameter.add_(0.3 * torch.randn_like(parameter))

    def round(self, engine: RunEngine) -> ColocatedEngine:
        """Draw a round and compare what is told with a plain forward pass."""
        weights = f"{self.number + 1:x}" * 16
        drawing: Any = engine.of(RoundPolicy(PromptFormat(self.tokenizer.eos_token_id, None), (), weights))
        drawing.ready()
        for sample in Sampler(drawing, SETTINGS, round_number=self.number).sample(ASKED):
            prompt = list(ASKED[sample.prompt].ids)
            with torch.no_grad():
                logits = self.model(torch.tensor([[*prompt, *sample.ids]])).logits[0, len(prompt) - 1 : -1] / 0.8
            expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
            assert sample.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
        drawing.rest()
        return drawing


def names(calls: list[dict[str, Any]]) -> list[str]:
    return [call["call"] for call in calls]


@pytest.mark.parametrize("adapted", [True, False])
def test_every_round_is_drawn_by_its_own_weights(adapted: bool, tmp_path: Path, monkeypatch: Any) -> None:
    called = install(monkeypatch, tmp_path / "calls")
    training = Training(tmp_path, adapted=adapted)
    engine = ColocatedVLLM(options={"dtype": "float32"}).begin(training.run)
    assert called() == []
    random = torch.get_rng_state()
    for _ in range(3):
        training.step()
        random = torch.get_rng_state()
        drawing = training.round(engine)
        assert torch.equal(torch.get_rng_state(), random)
        assert drawing.measured()["engine_difference_max"] < 1e-5
    calls = called()
    wakes = [["weights"], ["kv_cache"]] * 2
    assert [call["tags"] for call in calls if call["call"] == "wake_up"] == wakes
    assert [call["level"] for call in calls if call["call"] == "sleep"] == [1 if adapted else 2] * 3
    made = calls[0]
    assert names(calls).count("LLM") == 1
    assert (made["gpu_memory_utilization"], made["enable_sleep_mode"], made["dtype"]) == (0.3, True, "float32")
    asked = [call for call in calls if call["call"] == "generate"]
    seeds = {sample_key(3, 3, request.id, k) % 2**31 for request in ASKED for k in range(3)}
    assert set(asked[-1]["seeds"]) == seeds
    if adapted:
        assert [call["lora"] for call in asked] == [lora_id(f"{n:x}" * 16) for n in (2, 3, 4)]
        assert (made["max_lora_rank"], made["max_loras"]) == (8, 1)
        return
    between = names(calls)[-6:]
    assert between == ["wake_up", "reload_weights", "wake_up", "reset_prefix_cache", "generate", "sleep"]
    assert [call["lora"] for call in asked] == [0, 0, 0]


def test_a_constant_integer_would_answer_by_the_former_adapter(tmp_path: Path, monkeypatch: Any) -> None:
    """What the hash is for: the comparison with our scorer sees the mistake."""
    install(monkeypatch, tmp_path / "calls")
    monkeypatch.setattr(shared, "lora_id", lambda weights: 1)
    training = Training(tmp_path, adapted=True)
    engine = ColocatedVLLM(most_difference=0.01).begin(training.run)
    training.step()
    training.round(engine)
    training.step()
    with pytest.raises(ModelError, match="vLLM in this process draws with log-probabilities that are"):
        training.round(engine)


@pytest.mark.parametrize("forgotten", ["reset_prefix_cache", "collective_rpc"])
def test_what_is_forgotten_is_seen(forgotten: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Prompts read with former weights where it does not sleep, and weights that are noise after level 2."""
    install(monkeypatch, tmp_path / "calls", **{forgotten: lambda self, *args, **options: None})
    training = Training(tmp_path, adapted=False)
    engine = ColocatedVLLM(sleep=forgotten != "reset_prefix_cache", most_difference=0.01).begin(training.run)
    training.step()
    training.round(engine)
    training.step()
    with pytest.raises(ModelError, match=r"that are .* nats a token from ours"):
        training.round(engine)


def test_what_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    training = Training(tmp_path, adapted=False)
    with pytest.raises(ConfigError, match=r"pip install 'align-lm\[vllm\]'"):
        ColocatedVLLM().begin(training.run)
    install(monkeypatch, tmp_path / "calls", sleeps=False)
    with pytest.raises(ConfigError, match="vLLM cannot sleep on cpu, it needs CUDA or ROCm: set sleep to false"):
        ColocatedVLLM().begin(training.run)
    ColocatedVLLM(sleep=False).begin(training.run)
    install(monkeypatch, tmp_path / "calls", without_path=True)
    with pytest.raises(ConfigError, match="reads no weights from a folder in the place of its own"):
        training.round(ColocatedVLLM().begin(training.run))
    monkeypatch.delattr(LLM, "sleep")
    install(monkeypatch, tmp_path / "calls")
    with pytest.raises(ConfigError, match=r"this vLLM has no LLM.sleep: install 0.11 or later"):
        ColocatedVLLM().begin(training.run)
    with pytest.raises(ConfigError, match="options must not set enable_lora, seed"):
        ColocatedVLLM(options={"seed": 3, "enable_lora": True})
    with pytest.raises(ConfigError, match=r"gpu_memory_utilization must lie in \(0, 1\)"):
        ColocatedVLLM(gpu_memory_utilization=1.0)


def test_a_rank_beyond_is_refused_before_vllm_is_loaded(tmp_path: Path, monkeypatch: Any) -> None:
    called = install(monkeypatch, tmp_path / "calls")
    training = Training(tmp_path, adapted=True, rank=600)
    with pytest.raises(ConfigError, match="rank 512 at most, this one has 600"):
        training.round(ColocatedVLLM().begin(training.run))
    assert called() == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules that are trained whole"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, "rows of the embedding"),
        ({"bias": "lora_only"}, "biases of adapters"),
        ({"peft_type": "IA3"}, "adapters of the kind IA3"),
    ],
)
def test_adapters_that_it_does_not_serve(config: dict[str, Any], told: str) -> None:
    check_served({"r": 8, "bias": "none", "modules_to_save": None, "peft_type": "LORA"})
    with pytest.raises(ConfigError, match=f"vLLM does not serve {told}"):
        check_served({"r": 8, **config})


def test_generate_asks_for_an_adapter_by_its_hash(tmp_path: Path, monkeypatch: Any) -> None:
    """Two adapter folders of one base are two integers; the samples are those of the folder."""
    called = install(monkeypatch, tmp_path / "calls")
    training = Training(tmp_path, adapted=True)
    for name in ("one", "two"):
        training.step()
        training.model.save_pretrained(tmp_path / name)
        engine = VLLMEngine(str(tmp_path / name), training.tokenizer, [training.tokenizer.eos_token_id], seed=0)
        found = Sampler(engine, SETTINGS).sample(ASKED)
        assert all(len(s.logprobs or []) == len(s.ids) for s in found)
    first, second = (call["lora"] for call in called() if call["call"] == "generate")
    assert first != second
