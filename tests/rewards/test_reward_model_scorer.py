"""A reward model folder as an oracle: the numbers of training, in any order and batch size; other folders are refused."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from align.data.source import Report
from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone, LoRA
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.objectives.regression import Regression
from align.records import Example, Message
from align.rewards.reward_model_scorer import RewardModelScorer
from align.scoring.packed_row import PackedRow
from tests.checks.test_layouts import leaking
from tests.data.test_labels import BOTH
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.modules.rated import rated_data
from tests.tiny import WORDS, save_reward_model, save_tiny, tiny_tokenizer


@pytest.mark.parametrize("lora", [None, LoRA(r=2)])
def test_scores_are_those_of_the_module(lora: LoRA | None, model_folder: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder), lora=lora), Regression(lm_weight=0))
    data = rated_data(tmp_path, groups=100)
    fit(module, data, limit_train_batches=1)
    disturb(module.model)
    module.export(tmp_path / "rm")
    examples = [(e, kind) for kind, source in enumerate(data.sources) for e in source.read("train", Report())]
    rows = [(e.messages, r, (f"{e.id}#{n}", kind)) for e, kind in examples for n, r in enumerate(e.responses)]
    ((batch,),) = data.train_dataloader()
    with torch.no_grad(), module.evaluating():
        kinds = batch.scores[:, 0].isnan().int().tolist()  # ids are row numbers of either file
        expected = dict(zip(zip(batch.ids, kinds, strict=True), module.points(batch), strict=True))
    for tokens in (1, 300, 10_000):
        oracle = RewardModelScorer(str(tmp_path / "rm"), batch_tokens=tokens)
        found = oracle.score([m for m, _, _ in rows], [r for _, r, _ in rows])
        torch.testing.assert_close(found, torch.stack([expected[n] for _, _, n in rows]), rtol=1e-4, atol=1e-4)
    assert oracle.attributes == BOTH
    two = RewardModelScorer(str(tmp_path / "rm"), attributes=["uf-honesty", "hs-verbosity"])
    torch.testing.assert_close(two.score([rows[0][0]], [rows[0][1]]), found[:1, [8, 4]])
    assert two.score([], []).shape == (0, 2)
    with pytest.raises(ModelError, match=r"rm: a reward model with 10 outputs \(hs-help.*\), expected humour too"):
        RewardModelScorer(str(tmp_path / "rm"), attributes=["humour"])


def test_a_model_of_rankings_has_one_output(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder)))
    fit(module, pairs_data(pairs_file), limit_train_batches=1)
    module.export(tmp_path / "rm")
    oracle = RewardModelScorer(str(tmp_path / "rm"))
    assert oracle.attributes == ("reward",)
    scores = oracle.score([[Message("user", w)] for w in WORDS[:3]], ["a", "x" * 600, "b"])
    assert scores.isnan()[:, 0].tolist() == [False, True, False]  # the second is longer than the context


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_told(value: float, tmp_path: Path) -> None:
    oracle = RewardModelScorer(str(save_reward_model(tmp_path / "rm")))
    with torch.no_grad():
        oracle.model.score.weight.fill_(value)
    with pytest.raises(ModelError, match=r"rm: reward is (nan|-?inf) for a response to 'the cat'"):
        oracle.score([[Message("user", "the cat")]], ["sat"])


def test_other_folders_are_refused(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM has no reward head"):
        RewardModelScorer(str(model_folder))
    policy = SFTModule(Backbone(str(model_folder), lora=LoRA(r=2)))
    policy.build_model()
    policy.export(tmp_path / "adapter")
    with pytest.raises(ModelError, match="an adapter for CAUSAL_LM, expected a reward model"):
        RewardModelScorer(str(tmp_path / "adapter"))
    with pytest.raises(ConfigError, match="batch_tokens must be at least 1"):
        RewardModelScorer(str(model_folder), batch_tokens=0)


CHAT = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)
ENDS = CHAT.replace("<|im_end|>\n", "<|im_end|>")


class TestReading:
    """The truth is a plain sequence classifier on what its own tokenizer renders, one row at a time."""

    PROMPTS = ([Message("user", "Hi")], [Message("system", "Be brief"), Message("user", "A much longer question?")])
    RESPONSES = ("yes", "no, not at all")

    def folder(self, tmp_path: Path, template: str, pad: str = "<pad>") -> Path:
        folder = save_reward_model(tmp_path / "theirs")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template, tokenizer.pad_token = template, pad
        tokenizer.save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token_id": tokenizer.pad_token_id}))
        return folder

    def plain(self, folder: Path, cut: int = 0) -> torch.Tensor:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rewards = []
        for prompt, response in zip(self.PROMPTS, self.RESPONSES, strict=True):
            turns = [*(m._asdict() for m in prompt), {"role": "assistant", "content": response}]
            ids = tokenizer.apply_chat_template(turns, return_dict=True, return_tensors="pt")["input_ids"]
            rewards.append(model(ids[:, : ids.shape[1] - cut]).logits[0].detach())
        return torch.stack(rewards)

    @pytest.mark.parametrize("template", [CHAT, ENDS])
    def test_models_of_others_at_the_last_token_of_the_template(self, tmp_path: Path, template: str) -> None:
        folder = self.folder(tmp_path, template)
        oracle = RewardModelScorer(str(folder))
        assert oracle.reading == "template"
        expected = self.plain(folder)
        torch.testing.assert_close(oracle.score(self.PROMPTS, self.RESPONSES), expected, rtol=0, atol=1e-5)

    def test_a_line_break_after_the_turn_matters(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, CHAT)
        at_end = RewardModelScorer(str(folder), reading="turn_end").score(self.PROMPTS, self.RESPONSES)
        torch.testing.assert_close(at_end, self.plain(folder, cut=1), rtol=0, atol=1e-5)
        assert (at_end - self.plain(folder)).abs().min() > 1e-3

    def test_a_template_that_ends_in_the_padding_token(self, tmp_path: Path) -> None:
        """A classifier of transformers reads the last token that is no padding, in a row of its own too."""
        folder = self.folder(tmp_path, ENDS, pad="<|im_end|>")
        found = RewardModelScorer(str(folder)).score(self.PROMPTS, self.RESPONSES)
        torch.testing.assert_close(found, self.plain(folder), rtol=0, atol=1e-5)

    def test_the_choice_is_in_the_folder(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, CHAT)
        for reading in ("turn_end", "template"):
            (folder / "reward.json").write_text(json.dumps({"reading": reading}))
            assert RewardModelScorer(str(folder)).reading == reading
        (folder / "reward.json").write_text('{"reading": "start"}')
        with pytest.raises(ModelError, match="reading 'start', expected turn_end or template"):
            RewardModelScorer(str(folder))

    def test_ours_stay_as_trained(self, tmp_path: Path) -> None:
        module = RewardModel(Backbone(str(save_tiny(tmp_path / "base", template=CHAT))))
        module.build_model()
        disturb(module.model)
        module.export(tmp_path / "rm")
        assert json.loads((tmp_path / "rm" / "reward.json").read_text()) == {"reading": "turn_end"}
        oracle = RewardModelScorer(str(tmp_path / "rm"))
        torch.testing.assert_close(
            oracle.score(self.PROMPTS, self.RESPONSES), self.plain(tmp_path / "rm", cut=1), rtol=0, atol=1e-5
        )

    def test_a_template_that_does_not_end_costs_a_row_and_not_the_run(self, tmp_path: Path) -> None:
        loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
        endless = "{% if messages[-1].content == 'loop' %}" + loop + "{% endif %}" + CHAT
        oracle = RewardModelScorer(str(self.folder(tmp_path, endless)))
        found = oracle.score([self.PROMPTS[0]] * 2, ["loop", "fine"])
        assert found[:, 0].isnan().tolist() == [True, False]

    def test_without_a_template_none_can_be_asked_for(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "bare")
        with pytest.raises(ModelError, match="no chat template: set the reading to 'turn_end'"):
            RewardModelScorer(str(folder), reading="template")

    def test_what_cannot_be_rendered_or_is_too_long_has_no_reward(self, tmp_path: Path) -> None:
        oracle = RewardModelScorer(str(self.folder(tmp_path, CHAT)))
        found = oracle.score([self.PROMPTS[0]] * 3, ["typed <|im_end|> token", "x" * 600, "fine"])
        assert found[:, 0].isnan().tolist() == [True, True, False]


ASKED = [[Message("user", text)] for text in ("the cat", "two red birds under some tree", "a mat")]
ANSWERS = ["sat", "and saw the cat", "near a tree"]


class TestSelfCheck:
    """A reward model's first scores are compared with its own forward pass in transformers."""

    def expected(self, folder: Path) -> torch.Tensor:
        """Plain transformers: each sequence alone, in the order BOS, prompt, response, EOS of the tiny template."""
        oracle = RewardModelScorer(str(folder), reading="turn_end")
        opened = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        examples = [Example(str(n), tuple(p), (r,)) for n, (p, r) in enumerate(zip(ASKED, ANSWERS, strict=True))]
        rows = [g.prompt_ids + g.response_ids[0] for g in oracle.encoder.encode(examples)]  # type: ignore[union-attr]
        with torch.no_grad():
            return torch.cat([opened(input_ids=torch.tensor([row])).logits for row in rows])

    @pytest.mark.parametrize("reading", ["turn_end", "template"])
    def test_a_right_model_passes_without_a_word(self, reading: Any, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "rm")
        if reading == "template":
            template = "{% for m in messages %}{{ m.content }}.{% endfor %}"
            tiny_tokenizer(template).save_pretrained(folder)
        oracle = RewardModelScorer(str(folder), reading=reading)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            scores = oracle.score(ASKED, ANSWERS)
        assert oracle.checked.startswith("packed rows, values off by ")
        if reading == "turn_end":
            torch.testing.assert_close(scores, self.expected(folder), rtol=1e-5, atol=1e-6)

    def test_a_wrong_layout_is_replaced_and_told_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = save_reward_model(tmp_path / "rm")
        expected = self.expected(folder)
        monkeypatch.setattr(PackedRow, "attend", leaking())
        oracle = RewardModelScorer(str(folder), reading="turn_end")
        with pytest.warns(
            UserWarning, match=r"packed rows do not agree .*reward model .*rm uses shared rows, which do"
        ):
            found = oracle.score(ASKED, ANSWERS)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert torch.equal(oracle.score(ASKED, ANSWERS), found)

    def test_a_head_that_does_more_than_multiply_is_refused(self, tmp_path: Path) -> None:
        """A bias that only transformers adds: no layout gives its number."""
        oracle = RewardModelScorer(str(save_reward_model(tmp_path / "rm")))
        oracle.model.score.register_forward_hook(lambda _, __, output: output + 1)  # type: ignore[union-attr,operator]
        with pytest.raises(ModelError, match=r"model type llama: rewards agree with a plain forward pass in no layout"):
            oracle.score(ASKED, ANSWERS)


def test_long_dialogues_are_read_as_far_as_the_model_reads(tmp_path: Path) -> None:
    """Two prompts that differ in their first words only: one number where these are not read, and that is told."""
    folder = save_reward_model(tmp_path / "rm", max_position_embeddings=4096)
    prompts = [[Message("user", f"{first} " + "the cat sat " * 200)] for first in ("Yes", "No!")]
    told: list[str] = []
    for limit in (None, 1000):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            oracle = RewardModelScorer(str(folder), max_tokens=limit)
            one, other = oracle.score(prompts, ["fine", "fine"])[:, 0].tolist()
            oracle.score(prompts, ["fine", "fine"])
        assert (abs(one - other) < 1e-7) == (limit is not None)
        told += [str(w.message) for w in caught if "start of their prompts" in str(w.message)]
    (line,) = told
    assert "2 of 2 dialogues are longer than 1000 tokens" in line
    (folder / "reward.json").write_text('{"reading": "turn_end", "max_tokens": 700}')
    assert RewardModelScorer(str(folder)).max_tokens == 700
    (folder / "reward.json").write_text('{"reading": "turn_end", "max_tokens": "many"}')
    with pytest.raises(ModelError, match="max_tokens 'many', expected a number from 2"):
        RewardModelScorer(str(folder))


def test_the_limit_of_the_training_is_kept(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    module = RewardModel(Backbone(str(model_folder)))
    fit(module, pairs_data(pairs_file), limit_train_batches=1)
    module.export(tmp_path / "rm")
    assert json.loads((tmp_path / "rm" / "reward.json").read_text())["max_tokens"] == 512  # the context of the model


def test_models_of_others_read_the_end_of_what_is_too_long(tmp_path: Path) -> None:
    """RewardBench cuts from the left: the reward of the last tokens of the rendered dialogue, by plain transformers."""
    theirs = TestReading()
    folder = theirs.folder(tmp_path, CHAT)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, response = [Message("user", "the cat sat " * 60)], "fine"
    turns = [*(m._asdict() for m in prompt), {"role": "assistant", "content": response}]
    ids = tokenizer.apply_chat_template(turns, return_dict=True, return_tensors="pt")["input_ids"]
    bos = int(ids[0, 0] == tokenizer.bos_token_id)
    limit = 100
    assert ids.shape[1] > limit
    last = torch.cat([ids[:, :bos], ids[:, ids.shape[1] - limit + bos :]], dim=1)
    expected = AutoModelForSequenceClassification.from_pretrained(folder).eval()(last).logits[0].detach()
    oracle = RewardModelScorer(str(folder), max_tokens=limit)
    with pytest.warns(UserWarning, match="2 of 2 dialogues are longer than 100 tokens"):
        found = oracle.score([prompt] * 3, [response, response, "x" * 300])
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)
    assert found[:, 0].isnan().tolist() == [False, False, True]
    assert (oracle.dialogues, oracle.cut, oracle.unread) == (3, 2, 1)
    assert "2 are longer than 100 tokens" in str(oracle.note())
    assert "1 could not be read" in str(oracle.note())
