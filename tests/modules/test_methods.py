"""SFT and reward models: exact start values, packing, pooling, TRL on the same batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from align.models.backbone import Backbone, LoRA
from align.models.packed_attention import use_packed_attention
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.objectives.reward import BradleyTerry
from align.records import CandidateBatch, EncodedGroup
from tests.tiny import random_batch

PAIRS = random_batch([2, 2, 2], vocab=200)
LISTS = random_batch([4, 2, 3], vocab=200)
SINGLES = random_batch([1, 1, 1], vocab=200)


def built(method: type, folder: Path, lora: LoRA | None = None, **options):
    module = method(Backbone(str(folder), dtype="float64", lora=lora), **options)
    module.build_model()
    return module


class TestSFT:
    def test_token_mean_and_sequence_sum(self, model_folder: Path) -> None:
        mean, total = (built(SFTModule, model_folder, reduction=r) for r in ("token_mean", "sequence_sum"))
        scores = mean.score(SINGLES)
        assert mean.loss(SINGLES, SINGLES.totals).item() == pytest.approx(
            -(scores.logprobs.sum() / scores.lengths.sum()).item()
        )
        assert total.loss(SINGLES, SINGLES.totals).item() == pytest.approx(-scores.logprobs.mean().item())

    def test_packing_does_not_mix_examples(self, model_folder: Path) -> None:
        """The loss of a plain forward with labels over each example alone; concatenating without isolation differs."""
        module = built(SFTModule, model_folder)
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)
        nll, tokens, joined, labels = 0.0, 0, [], []
        for prompt, response in zip(
            split(SINGLES.prompt_ids, SINGLES.prompt_lengths),
            split(SINGLES.response_ids, SINGLES.response_lengths),
            strict=True,
        ):
            ids = torch.cat([prompt, response])
            marks = torch.cat([torch.full_like(prompt, -100), response])
            nll += model(input_ids=ids[None], labels=marks[None]).loss.item() * len(response)
            tokens += len(response)
            joined.append(ids)
            labels.append(marks)
        loss = module.loss(SINGLES, SINGLES.totals).item()
        assert loss == pytest.approx(nll / tokens, rel=1e-6)
        mixed = model(input_ids=torch.cat(joined)[None], labels=torch.cat(labels)[None]).loss.item()
        assert mixed != pytest.approx(loss, rel=1e-6)

    def test_scoring_everything_counts_prompt_tokens(self, model_folder: Path) -> None:
        module = built(SFTModule, model_folder, loss_on="all")
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)
        one = random_batch([1], vocab=200)
        ids = torch.cat([one.prompt_ids, one.response_ids])[None]
        assert module.loss(one, one.totals).item() == pytest.approx(
            model(input_ids=ids, labels=ids).loss.item(), rel=1e-6
        )

    def test_uniform_logits_give_log_vocabulary(self, model_folder: Path) -> None:
        module = built(SFTModule, model_folder)
        with torch.no_grad():
            module.model.lm_head.weight.zero_()
        assert module.loss(SINGLES, SINGLES.totals).item() == pytest.approx(math.log(261))

    def test_equals_trl(self, model_folder: Path, tmp_path: Path) -> None:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        from tests.tiny import tiny_tokenizer

        model = AutoModelForCausalLM.from_pretrained(model_folder)
        args = SFTConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False)
        rows = Dataset.from_list([{"prompt": "a", "completion": "b"}])
        trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tiny_tokenizer())
        examples = []
        for prompt, response in zip(
            split(SINGLES.prompt_ids, SINGLES.prompt_lengths),
            split(SINGLES.response_ids, SINGLES.response_lengths),
            strict=True,
        ):
            labels = [-100] * len(prompt) + response.tolist()
            examples.append({"input_ids": [*prompt.tolist(), *response.tolist()], "labels": labels})
        inputs = DataCollatorForLanguageModeling(pad_token_id=2)(examples)
        theirs = trainer.compute_loss(model, inputs)
        module = SFTModule(Backbone(str(model_folder)))
        module.build_model()
        assert module.loss(SINGLES, SINGLES.totals).item() == pytest.approx(theirs.item(), rel=1e-5)


class TestRewardModel:
    def test_reads_the_last_token_whatever_the_layout(self, model_folder: Path) -> None:
        modules = [built(RewardModel, model_folder) for _ in range(3)]
        for module, layout in zip(modules, ("padded", "shared", "packed"), strict=True):
            module.backbone = Backbone(str(model_folder), dtype="float64", layout=layout)
            module.load_state_dict(modules[0].state_dict())
        rewards = [m.rewards(LISTS) for m in modules]
        torch.testing.assert_close(rewards[1], rewards[0], rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(rewards[2], rewards[0], rtol=1e-7, atol=1e-9)
        prompt, response = (
            split(LISTS.prompt_ids, LISTS.prompt_lengths)[1],
            split(LISTS.response_ids, LISTS.response_lengths)[4],
        )
        inner = modules[0].model
        hidden = inner.model(input_ids=torch.cat([prompt, response])[None]).last_hidden_state[0, -1]
        torch.testing.assert_close(rewards[0][4], inner.score(hidden)[0], rtol=1e-7, atol=1e-9)

    def test_a_pad_or_eos_inside_the_text_is_not_the_end(self, model_folder: Path) -> None:
        module = built(RewardModel, model_folder)
        group = EncodedGroup("g", [9, 10], [[11, 1, 2, 12, 1], [11, 13]], [0, 1], [[], []], 1.0, [False] * 2)
        hidden = module.model.model(input_ids=torch.tensor([[9, 10, 11, 1, 2, 12, 1]])).last_hidden_state[0, -1]
        torch.testing.assert_close(
            module.rewards(CandidateBatch.of([group]))[0], module.model.score(hidden)[0], rtol=1e-7, atol=1e-9
        )

    def test_equal_responses_give_log_two(self, model_folder: Path) -> None:
        module = built(RewardModel, model_folder)
        same = EncodedGroup("g", [9], [[5, 1], [5, 1]], [0, 1], [[], []], 1.0, [False] * 2)
        batch = CandidateBatch.of([same])
        assert module.loss(batch, batch.totals).item() == pytest.approx(math.log(2), abs=1e-12)

    def test_lists_of_different_lengths_average_over_groups(self, model_folder: Path) -> None:
        from tests.formulas.rewards import list_loss

        module = built(RewardModel, model_folder, objective=BradleyTerry(centering=0.1))
        rewards = [r.tolist() for r in module.rewards(LISTS).split(list(LISTS.group_sizes))]
        expected = [list_loss(r, list(range(len(r))), centering=0.1) for r in rewards]
        assert module.loss(LISTS, LISTS.totals).item() == pytest.approx(sum(expected) / 3, rel=1e-9)

    def test_margins_come_from_the_scores_of_the_data(self, model_folder: Path) -> None:
        module = built(RewardModel, model_folder, objective=BradleyTerry(margin_scale=0.5))
        scored = PAIRS._replace(scores=torch.tensor([[1.0], [0.0]] * 3))
        r = module.rewards(scored).view(3, 2)
        expected = -torch.nn.functional.logsigmoid(r[:, 0] - r[:, 1] - 0.5).mean()
        assert module.loss(scored, scored.totals).item() == pytest.approx(expected.item(), rel=1e-6)

    def test_equals_trl(self, model_folder: Path, tmp_path: Path) -> None:
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer

        from tests.tiny import tiny_tokenizer

        module = RewardModel(Backbone(str(model_folder)), objective=BradleyTerry(centering=0.01))
        module.build_model()
        module.export(tmp_path / "rm")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
        args = RewardConfig(
            output_dir=str(tmp_path / "trl"), center_rewards_coefficient=0.01, report_to=[], use_cpu=True, bf16=False,
            gradient_checkpointing=False,
        )  # fmt: skip
        rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
        trainer = RewardTrainer(model=model, args=args, train_dataset=rows, processing_class=tiny_tokenizer())
        prompts, responses = (
            split(PAIRS.prompt_ids, PAIRS.prompt_lengths),
            split(PAIRS.response_ids, PAIRS.response_lengths),
        )
        sequences = [torch.cat([prompts[i // 2], r]) for i, r in enumerate(responses)]
        ordered = sequences[0::2] + sequences[1::2]  # all chosen, then all rejected
        ids = torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True, padding_value=model.config.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(s) for s in ordered], batch_first=True)
        theirs = trainer.compute_loss(model, {"input_ids": ids, "attention_mask": mask})
        assert module.loss(PAIRS, PAIRS.totals).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_generation_still_works_with_our_attention(model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    ids, mask = torch.tensor([[2, 2, 9, 10], [9, 10, 11, 12]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    plain = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=2)
    use_packed_attention(model)
    ours = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=2)
    assert torch.equal(plain, ours)


def split(ids: torch.Tensor, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    return list(torch.split(ids, list(lengths)))
