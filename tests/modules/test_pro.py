"""Learning from lists: exact losses whatever shares the batch, order and rewards of the data, real data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from align.data.preference_file import PreferenceFileDataModule
from align.data.scored_lists import ScoredLists
from align.data.splits import Splits
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import FrozenCopy
from align.modules.pro import PROModule
from align.objectives.ranking import PRO
from align.records import CandidateBatch, EncodedGroup
from align.training.optimizer import Optimizer
from align.training.reference_code_eos import without_longest_ends
from tests.formulas.lists import pro, released_pro
from tests.modules.fitting import fit, pairs_data
from tests.tiny import WORDS


def group(name: str, sizes: list[int], scores: list[list[float]]) -> EncodedGroup:
    responses = [[5 + 7 * n + j for j in range(size)] for n, size in enumerate(sizes)]
    return EncodedGroup(name, [9, 10, 11], responses, list(range(len(sizes))), scores, 1.0, [False] * len(sizes))


GROUPS = [group("a", [3, 1, 2], [[2.0], [1.0], [-1.0]]), group("b", [2, 4], [[0.5], [0.0]])]


def built(folder: Path, **options) -> PROModule:
    module = PROModule(Backbone(str(folder), dtype="float64"), **options)
    module.build_model()
    return module


def lists_file(path: Path, count: int = 24) -> Path:
    rows = []
    for n in range(count):
        texts = [WORDS[k] + " x" * (n % 4) for k in range(2 + n % 3)]
        rows.append({"prompt": f"question {n}?", "completions": texts, "scores": [float(k) for k in range(len(texts))]})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


class TestPRO:
    def test_loss_is_the_mean_over_records(self, model_folder: Path) -> None:
        module = built(model_folder)
        batch = CandidateBatch.of(GROUPS)
        scores = module.score(batch)
        means, sums = scores.means.tolist(), scores.logprobs.tolist()
        first = pro(means[:3], [2.0, 1.0, -1.0]) - 0.05 * 4 * sums[0]
        second = pro(means[3:], [0.5, 0.0]) - 0.05 * sums[3]
        assert module.loss(batch, batch.totals).item() == pytest.approx((first + second) / 2, rel=1e-9)

    def test_other_records_of_a_batch_change_nothing(self, model_folder: Path) -> None:
        module = built(model_folder)
        batch = CandidateBatch.of(GROUPS)
        alone = [CandidateBatch.of([g]) for g in GROUPS]
        parts = sum(module.loss(b, batch.totals).item() for b in alone)
        assert module.loss(batch, batch.totals).item() == pytest.approx(parts, rel=1e-12)

    def test_metrics(self, model_folder: Path) -> None:
        module = built(model_folder)
        batch = CandidateBatch.of(GROUPS)
        module.loss(batch, batch.totals)
        found = {k: v.item() for k, v in module._means["train"].read(lambda sums: sums).items()}
        s = module.score(batch).means.tolist()
        rejected = [(s[1] + s[2]) / 2, s[4]]
        assert found["rewards/chosen"] == pytest.approx((s[0] + s[3]) / 2, rel=1e-6)
        assert found["rewards/margins"] == pytest.approx((s[0] - rejected[0] + s[3] - rejected[1]) / 2, rel=1e-6)
        assert found["rm/chosen"] == pytest.approx(1.25)
        assert found["rm/margin"] == pytest.approx((2 + 0.5) / 2)
        assert found["pro/gap_mean"] == pytest.approx((2 + 0.5) / 2)  # gaps 1, 3, 2 and 0.5
        assert found["pro/gap_max"] == pytest.approx((3 + 0.5) / 2)
        assert (found["pro/frac_tied"], found["pro/frac_no_reward"]) == (0, 0)
        pairs = [(0, 1), (0, 2), (1, 2)]
        tau = [sum(math.copysign(1, s[i] - s[j]) for i, j in pairs) / 3, math.copysign(1, s[3] - s[4])]
        assert found["pro/kendall_tau"] == pytest.approx(sum(tau) / 2)
        assert found["loss/pro_k2"] == pytest.approx(module.objective.parts(*_lists(module, batch))["pro_k2"][0].item())

    def test_processes_with_shorter_lists_add_up_the_same_names(self, model_folder: Path) -> None:
        """A process that had no list of three summed fewer numbers than the others, which ends a collective."""
        module = built(model_folder)
        batch = CandidateBatch.of(GROUPS)
        totals, sizes = batch.totals._replace(group_candidates=3), list[int]()
        for part in (CandidateBatch.of([g], totals) for g in GROUPS):
            module.loss(part, totals)
            found = module._means["train"].read(lambda sums: sizes.append(len(sums)) or sums)
            assert ("loss/pro_k2" in found) == (part.group_sizes == (3,))
        assert sizes[0] == sizes[1]

    def test_records_without_rewards_are_counted(self, model_folder: Path) -> None:
        module = built(model_folder)
        batch = CandidateBatch.of([GROUPS[0], group("c", [2, 2], [[math.nan], [1.0]])])
        assert module.loss(batch, batch.totals).isfinite()
        assert module._means["train"].read(lambda sums: sums)["pro/frac_no_reward"].item() == 0.5

    def test_settings_that_have_no_effect(self, model_folder: Path) -> None:
        with pytest.raises(ConfigError, match="PRO has no reference"):
            PROModule(Backbone(str(model_folder)), reference=FrozenCopy())


def _lists(module: PROModule, batch: CandidateBatch):
    from align.records import ListScores

    policy = ListScores.of(module.score(batch), batch, module.rewards(batch))
    return policy, policy


class TestReleased:
    def test_eos_is_scored_but_in_the_longest_row(self) -> None:
        eos = 1
        rows = [[[5, 6, 7, eos], [8, eos]], [[5, 6, eos], [9, 9, 9]], [[eos], [5, 5, eos]]]
        groups = [group("x", [1, 1], [[1.0], [0.0]])._replace(response_ids=r) for r in rows]
        groups[1] = groups[1]._replace(prompt_ids=[9])
        found = without_longest_ends(CandidateBatch.of(groups), eos)
        # without EOS the rows have 6, 4, 3, 4, 4 (the EOS alone) and 5 tokens; the response 9 9 9 was cut
        assert found.response_lengths == (3, 2, 3, 3, 1, 3)
        assert found.response_ids.tolist() == [5, 6, 7, 8, eos, 5, 6, eos, 9, 9, 9, eos, 5, 5, eos]

    def test_loss_equals_the_published_one(self, model_folder: Path) -> None:
        """Token log-probabilities from a plain forward of each padded row, the mask as the published collator has it."""
        eos, module = 1, built(model_folder, objective=PRO(eps=1e-10), eos="reference_code")
        prompts, texts = [[9, 10, 11], [20, 21]], [[[5, 6, 7], [8]], [[5, 6], [9, 9, 9, 9]]]
        rewards = [[2.0, 1.0], [0.5, -4.0]]
        groups = [
            EncodedGroup(str(n), p, [[*r, eos] for r in rs], [0, 1], [[x] for x in g], 1.0, [False] * 2)
            for n, (p, rs, g) in enumerate(zip(prompts, texts, rewards, strict=True))
        ]
        width = max(len(p) + len(r) for p, rs in zip(prompts, texts, strict=True) for r in rs)
        tokens = []
        for prompt, responses in zip(prompts, texts, strict=True):
            tokens.append([])
            for response in responses:
                row = [*prompt, *response, *[eos] * (width - len(prompt) - len(response))]
                logits = module.model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
                scored = range(len(prompt), min(len(prompt) + len(response) + 1, width))
                tokens[-1].append(torch.stack([logits[n - 1, row[n]] for n in scored]))
        batch = CandidateBatch.of(groups)
        expected = released_pro(tokens, torch.tensor(rewards, dtype=torch.float64), sft_weight=0.05)
        assert module.loss(batch, batch.totals).item() == pytest.approx(expected.item(), rel=1e-9)
        assert built(model_folder).loss(batch, batch.totals).item() != pytest.approx(expected.item(), rel=1e-4)


class TestTraining:
    def test_a_list_is_learnt(self, model_folder: Path, tmp_path: Path) -> None:
        """The reward is a matter of the words; lists of 2, 3 and 4 stand in one batch."""
        optimizer = Optimizer(learning_rate=3e-3)
        module = PROModule(Backbone(str(model_folder)), PRO(sft_beta=0), optimizer=optimizer)
        log = fit(module, pairs_data(lists_file(tmp_path / "lists.jsonl"), groups=6), max_epochs=6)
        accuracies = log.series("train/rewards/accuracies")
        assert sum(accuracies[:2]) / 2 < 0.7
        assert sum(accuracies[-4:]) / 4 > 0.9
        assert log.series("train/pro/kendall_tau")[-1] > 0.8

    def test_human_order_and_reward_order(self, model_folder: Path, tmp_path: Path) -> None:
        row = {"prompt": "Hi", "chosen": "good", "rejected": "bad", "score_chosen": 1.0, "score_rejected": 3.0}
        path = tmp_path / "pairs.jsonl"
        path.write_text("\n".join(json.dumps({**row, "prompt": f"Hi {n}"}) for n in range(3)))
        found = {}
        for source in ("rm", "human"):
            module = PROModule(Backbone(str(model_folder)), ranking_source=source)
            data = pairs_data(path)
            data.connect(module)
            found[source] = data.groups["train"][[0]][0]
        decode = lambda g: [module.tokenizer.decode(r[:-1]).strip() for r in g.response_ids]  # noqa: E731
        assert (decode(found["rm"]), found["rm"].scores) == (["bad", "good"], [[3.0], [1.0]])
        assert (decode(found["human"]), found["human"].scores) == (["good", "bad"], [[3.0], [1.0]])

    @pytest.mark.parametrize(
        ("name", "columns", "graded"),
        [
            pytest.param("alpaca-eval-ranked", None, True, marks=pytest.mark.slow),
            ("qa-feedback-ranked", "question", False),
        ],
    )
    def test_real_lists(self, shared: Path, name: str, columns: str | None, graded: bool) -> None:
        (path,) = (shared / name).glob("*.jsonl.gz")
        data = PreferenceFileDataModule(
            str(path),
            max_samples=16,
            columns={"prompt": columns} if columns else None,
            view=ScoredLists(max_responses=4),
            splits=Splits(0),
            seed=0,
        )
        module = PROModule(Backbone(str(shared / "stories260K-hf")), optimizer=Optimizer(learning_rate=1e-4))
        log = fit(module, data, max_steps=2)
        assert data.reports[f"{path.name.split('.')[0]}/train"].kept >= 10
        assert log.series("train/pro/frac_no_reward") == [0.0 if graded else 1.0] * len(log.series("train/loss"))
        assert all(math.isfinite(value) for value in log.series("train/loss"))
        assert log.series("train/responses")[0] > 2


def test_gradients_reach_every_candidate(model_folder: Path) -> None:
    module = built(model_folder, objective=PRO(sft_beta=0))
    batch = CandidateBatch.of(GROUPS)
    scores = module.score(batch)
    logprobs = scores.logprobs.detach().requires_grad_()
    policy = _lists(module, batch)[0]._replace(logprobs=batch.matrix(logprobs))
    (found,) = torch.autograd.grad(module.objective(policy, policy).sum(), logprobs)
    assert (found != 0).all()
