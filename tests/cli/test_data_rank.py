"""`align data rank`: lists filled up from other models' generations, ranked by an exported reward model, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from align.cli.main import main
from align.data.augment import Expansion, by_prompt
from align.data.preference_file import PreferenceFile
from align.data.scored_lists import ScoredLists
from align.data.source import Report
from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone
from align.modules.reward_model import RewardModel
from align.records import Example, Message
from align.rewards.reward_model_scorer import RewardModelScorer
from tests.tiny import save_tiny

USER = (Message("user", "Hi"),)
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"


@pytest.fixture
def reward_folder(tmp_path: Path) -> Path:
    module = RewardModel(Backbone(str(save_tiny(tmp_path / "base", template=TEMPLATE))))
    module.build_model()
    module.export(tmp_path / "reward")
    return tmp_path / "reward"


def write(path: Path, *rows: dict) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


class TestRewardOracle:
    def test_equals_transformers_on_the_exported_folder(self, reward_folder: Path) -> None:
        oracle = RewardModelScorer(str(reward_folder), batch_tokens=40)
        prompts = [(Message("user", text),) for text in ("Hi", "Tell me more", "Hi", "x" * 30)]
        responses = ["yes", "no, not at all", "a longer answer than that", "z"]
        model = AutoModelForSequenceClassification.from_pretrained(reward_folder)
        tokenizer = AutoTokenizer.from_pretrained(reward_folder)
        expected = []
        for prompt, response in zip(prompts, responses, strict=True):
            turns = [{"role": "user", "content": prompt[0].content}, {"role": "assistant", "content": response}]
            ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
            expected.append(model(input_ids=ids["input_ids"]).logits[0].detach())
        torch.testing.assert_close(oracle.score(prompts, responses), torch.stack(expected), rtol=1e-4, atol=1e-5)
        assert oracle.attributes == ("reward",)

    def test_text_that_cannot_be_encoded_has_no_reward(self, reward_folder: Path) -> None:
        found = RewardModelScorer(str(reward_folder)).score([USER, USER], ["typed <|im_end|> token", "fine"])
        assert found.isnan().tolist() == [[True], [False]]

    def test_other_folders(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="has no reward head"):
            RewardModelScorer(str(save_tiny(tmp_path / "policy")))
        with pytest.raises(ModelError, match="no such folder"):
            RewardModelScorer(str(tmp_path / "nowhere"))


class TestExpansion:
    EXAMPLE = Example("e", USER, ("a", "b"), ranking=((0,), (1,)))
    FOUND: ClassVar = {
        "weak": by_prompt([Example("x", USER, ("w1", "w2", "w3"))]),
        "middle": by_prompt([Example("x", USER, ("m",))]),
        "strong": by_prompt([Example("x", USER, ("s1", "a"))]),
    }

    @pytest.mark.parametrize(
        ("plan", "length", "responses"),
        [
            (("weak", "weak", "weak"), 5, ("a", "b", "w1", "w2", "w3")),
            (("weak", "middle", "strong"), 4, ("a", "b", "w1", "m")),
            (("strong", "middle", "weak"), 4, ("a", "b", "s1", "m")),
            (("strong", "strong", "weak"), 5, ("a", "b", "s1", "w1")),  # the second strong one repeats a
            (("middle", "middle"), 4, ("a", "b", "m")),
            (("weak",), 2, ("a", "b")),
        ],
    )
    def test_plans(self, plan: tuple[str, ...], length: int, responses: tuple[str, ...]) -> None:
        report = Report()
        found = Expansion(length, plan).expand(self.EXAMPLE, self.FOUND, report)
        assert found.responses == responses
        assert found.origins == (
            "data",
            "data",
            *({"w": "weak", "m": "middle", "s": "strong"}[t[0]] for t in responses[2:]),
        )
        assert sum(report.dropped.values()) == min(len(plan), length - 2) - (len(responses) - 2)

    def test_random_order_is_a_matter_of_the_record(self) -> None:
        plan = Expansion(3, ("weak", "middle", "strong"), "random")
        found = {
            name: plan.expand(Example(name, USER, ("a", "b")), self.FOUND, Report()).origins[2]
            for name in map(str, range(40))
        }
        assert set(found.values()) == {"weak", "middle", "strong"}
        again = plan.expand(Example("7", USER, ("a", "b")), self.FOUND, Report()).origins[2]
        assert again == found["7"]

    def test_too_short(self) -> None:
        with pytest.raises(ConfigError, match="length must be at least 2"):
            Expansion(1, ())


class TestCommand:
    @pytest.fixture
    def words(self, tmp_path: Path, reward_folder: Path) -> list[str]:
        data = write(
            tmp_path / "pairs.jsonl", *({"prompt": f"Hi {n}", "chosen": "good", "rejected": "bad"} for n in range(4))
        )
        weak = write(tmp_path / "weak.jsonl", *({"prompt": f"Hi {n}", "completion": f"weak {n}"} for n in (0, 1, 2, 9)))
        strong = write(
            tmp_path / "strong.jsonl",
            *({"prompt": f"Hi {n}", "completion": ["good", "strong"][n % 2]} for n in range(4)),
        )
        files = ("--add.weak", str(weak), "--add.strong", str(strong))
        return [
            "data",
            "rank",
            "--data",
            str(data),
            "--rewards",
            str(reward_folder),
            "--out",
            str(tmp_path / "x" / "ranked.jsonl"),
            *files,
        ]

    def test_lists_are_written_and_read_back(
        self, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        assert main([*words, "--length", "4"]) == 0
        told = capsys.readouterr().out
        for line in (
            "data: 4 rows, 4 groups kept, none dropped",
            "weak: generations for 4 prompts, 1 of them not in the data",
            "2 generation of strong repeats a response (line 1, line 3)",
            "1 no generation of weak (line 4)",
            "4 lists written (by responses: 3 of 3, 1 of 4)",
        ):
            assert line in told
        out = tmp_path / "x" / "ranked.jsonl"
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        for row in rows:
            assert row["scores"] == sorted(row["scores"], reverse=True)
            ranks = dict(zip(row["completions"], row["ranks"], strict=True))
            assert (ranks.pop("good"), ranks.pop("bad")) == (0, 1)
            assert set(ranks.values()) == {None}
        for example, row in zip(PreferenceFile(str(out)).read("train", Report()), rows, strict=True):
            (group,) = ScoredLists().groups(example)
            assert list(group.responses) == row["completions"]
            assert [s[0] for s in group.scores] == row["scores"]
            assert list(group.origins) == row["origins"]

    def test_pairs_keep_their_labels(self, words: list[str], tmp_path: Path) -> None:
        assert main([*words[:8], "--length", "2"]) == 0
        for example in PreferenceFile(str(tmp_path / "x" / "ranked.jsonl")).read("train", Report()):
            (group,) = ScoredLists("human").groups(example)
            assert group.responses == ("good", "bad")
            assert group.scores[0][0] > group.scores[1][0]

    @pytest.mark.parametrize(
        ("more", "line"),
        [
            (["--plan", "[strong, best]"], "plan names 'best', which --add does not have (there: weak, strong)"),
            (["--attributes.x", "1"], "attributes names 'x', the reward model has reward"),
            (["--length", "1"], "length must be at least 2, got 1"),
        ],
    )
    def test_mistakes(self, words: list[str], more: list[str], line: str, capsys: pytest.CaptureFixture) -> None:
        assert main([*words, *more]) == 2
        assert line in capsys.readouterr().err
