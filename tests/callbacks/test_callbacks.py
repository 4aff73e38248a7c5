"""Callbacks do their one thing at their moment and leave training as it was."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from align.callbacks.hf_export import HFExport
from align.callbacks.predictions import PredictionFile
from align.callbacks.progress import Progress
from align.callbacks.samples import SampleTable, cell, table
from align.callbacks.throughput import Throughput
from align.data.splits import Splits
from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.sampling.generation import Generation
from align.training.optimizer import Optimizer
from tests.modules.fitting import fit, pairs_data


def sft(folder: Path, **options) -> SFTModule:
    return SFTModule(Backbone(str(folder), **options), optimizer=Optimizer(learning_rate=1e-2))


class TestSampleTable:
    def events(self, folder: Path) -> list[str]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
        if "samples/text_summary" not in events.Tags()["tensors"]:
            return []
        return [e.tensor_proto.string_val[0].decode() for e in events.Tensors("samples/text_summary")]

    def test_before_and_after_training(self, model_folder: Path, pairs_file: Path) -> None:
        logger = TensorBoardLogger("log", name="", version="")
        callback = SampleTable(2, Generation(max_new_tokens=4))
        fit(sft(model_folder), pairs_data(pairs_file, splits=Splits(0.2)), logger=logger, callbacks=[callback])
        tables = self.events(Path("log"))
        assert len(tables) == 2
        assert all(t.startswith("| prompt | completion |") and t.count("\n") == 3 for t in tables)
        assert "Human&#58;" in tables[0] or "Human:" in tables[0]

    def test_reward_models_write_none(self, model_folder: Path, pairs_file: Path) -> None:
        logger = TensorBoardLogger("log", name="", version="")
        fit(RewardModel(Backbone(str(model_folder))), pairs_data(pairs_file), logger=logger, callbacks=[SampleTable()])
        assert self.events(Path("log")) == []

    @pytest.mark.parametrize("lora", [None, LoRA(r=2, lora_dropout=0.3)])
    def test_sampling_changes_no_weight(self, lora: LoRA | None, model_folder: Path, pairs_file: Path) -> None:
        runs = []
        for callbacks in ([], [SampleTable(2, Generation(max_new_tokens=4))]):
            module = DPOModule(Backbone(str(model_folder), lora=lora), optimizer=Optimizer(learning_rate=1e-2))
            logger = TensorBoardLogger(f"log{len(runs)}", name="", version="")
            fit(
                module,
                pairs_data(pairs_file, splits=Splits(0.2)),
                logger=logger,
                callbacks=callbacks,
                val_check_interval=0.5,
            )
            runs.append(torch.cat([p.detach().flatten() for p in module.model.parameters()]))
        assert torch.equal(*runs)

    def test_hostile_text_is_inert(self) -> None:
        text = cell("<script>alert(1)</script> | [x](javascript:y) *b* `c`\n# d \\| e")
        for mark in ("<script", "|", "[", "*", "`", "\n", "\\"):
            assert mark not in text.replace("<br>", "")
        assert table([("a|b", "c\nd")]).splitlines()[2] == "| a&#124;b | c<br>d |"


class TestExport:
    def test_writes_into_the_run_folder(self, model_folder: Path, pairs_file: Path) -> None:
        fit(sft(model_folder), pairs_data(pairs_file), callbacks=[HFExport()], default_root_dir="run")
        card = Path("run/model/README.md").read_text()
        assert "reduction: token_mean" in card
        assert "train/loss" in card

    def test_merged_and_elsewhere(self, model_folder: Path, pairs_file: Path) -> None:
        callback = HFExport("there", merge=True)
        fit(sft(model_folder, lora=LoRA(r=2)), pairs_data(pairs_file), callbacks=[callback])
        assert Path("there/config.json").exists()
        assert not Path("there/adapter_config.json").exists()

    def test_a_trial_run_writes_nothing(self, model_folder: Path, pairs_file: Path) -> None:
        fit(
            sft(model_folder), pairs_data(pairs_file), callbacks=[HFExport()], fast_dev_run=True, default_root_dir="run"
        )
        assert not Path("run/model").exists()


def test_throughput(model_folder: Path, pairs_file: Path) -> None:
    data = pairs_data(pairs_file)
    log = fit(sft(model_folder), data, callbacks=[Throughput()], max_epochs=2)
    groups = data.groups["train"]
    tokens = int(groups.prompt_tokens.sum() + groups.response_tokens.sum())
    assert log.series("train/num_tokens")[-1] == 2 * tokens
    assert log.series("train/tokens_per_second")[-1] > 0
    assert 0.05 < log.series("train/memory_gb")[-1] < 20
    again = Throughput()
    again.load_state_dict({"tokens": 7})
    assert again.state_dict() == {"tokens": 7}


def test_padding_is_the_share_of_empty_positions(model_folder: Path, pairs_file: Path) -> None:
    """Counted anew from the batches: padded rows are as long as the longest; packed segments have none."""
    shares = {}
    for layout in ("padded", "packed"):
        data = pairs_data(pairs_file)
        module = DPOModule(Backbone(str(model_folder), layout=layout))
        shares[layout] = fit(module, data, callbacks=[Throughput()]).series("train/padding")[-1]
        slots = held = 0
        for (batch,) in data.train_dataloader():
            rows = [batch.prompt_lengths[p] + n for p, n in zip(batch.prompt_of, batch.response_lengths, strict=True)]
            slots, held = slots + len(rows) * max(rows), held + sum(rows)
    assert shares == {"padded": pytest.approx(1 - held / slots), "packed": 0}


def test_progress_shows_short_names(model_folder: Path, pairs_file: Path) -> None:
    shown = {}

    class Spy(L.Callback):
        def on_train_batch_end(self, trainer, module, *_) -> None:
            shown.update(trainer.progress_bar_callback.get_metrics(trainer, module))

    fit(
        DPOModule(Backbone(str(model_folder))),
        pairs_data(pairs_file),
        callbacks=[Progress(), Throughput(), Spy()],
        enable_progress_bar=True,
    )
    assert set(shown) == {"loss", "accuracy", "margin", "tok/s"}
    assert shown["loss"] == pytest.approx(0.693, abs=0.01)


def test_predictions(model_folder: Path, pairs_file: Path) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[PredictionFile()],
        default_root_dir="run",
        enable_checkpointing=False,
    )
    module = RewardModel(Backbone(str(model_folder)))
    trainer.predict(module, pairs_data(pairs_file))
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 80
    assert set(rows[0]) == {"id", "candidate", "reward"}


class TestGoldEvaluation:
    """Gold rewards while a policy trains in the synthetic world."""

    FEW = Generation(max_new_tokens=6, num_samples=2)

    def run(self, folder: Path, **options) -> tuple[L.Trainer, SFTModule]:
        from align.callbacks.gold import GoldEvaluation
        from align.data.synthetic import SyntheticDataModule
        from align.models.small import new_llama, word_tokenizer
        from align.world.language import TAGS, vocabulary
        from align.world.preferences import Preferences

        tokenizer = word_tokenizer(vocabulary(), TAGS)
        new_llama(tokenizer, hidden_size=32, num_hidden_layers=1, num_attention_heads=2).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        data = SyntheticDataModule(Preferences(size=12, held_out_size=4), seed=0)
        callback = GoldEvaluation(4, 2, generation=self.FEW)
        module = sft(folder, **options)
        return fit(module, data, callbacks=[callback], max_epochs=2, default_root_dir="run"), module

    @pytest.mark.parametrize("options", [{}, {"lora": LoRA(r=2)}])
    def test_one_line_before_and_after_every_epoch(self, tmp_path: Path, options: dict) -> None:
        self.run(tmp_path / "world", **options)
        rows = [json.loads(line) for line in Path("run/gold.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
        assert len(rows) == 3
        assert (rows[0]["kl"], rows[0]["share_of_optimum"]) == (0.0, 0.0)
        assert rows[-1]["kl"] != 0.0
        assert {"reward", "helpfulness", "verbosity", "harmlessness", "refusal_rate", "true_facts"} < set(rows[0])

    def test_training_is_not_changed_by_looking(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from align.callbacks.gold import GoldEvaluation

        _, watched = self.run(tmp_path / "a")
        monkeypatch.setattr(GoldEvaluation, "on_fit_start", lambda *a: None)
        _, alone = self.run(tmp_path / "a")
        for left, right in zip(watched.parameters(), alone.parameters(), strict=True):
            assert torch.equal(left, right)

    def test_other_data_is_refused(self, model_folder: Path, pairs_file: Path) -> None:
        from align.callbacks.gold import GoldEvaluation
        from align.errors import ConfigError

        with pytest.raises(ConfigError, match="use --data SyntheticDataModule"):
            fit(sft(model_folder), pairs_data(pairs_file), callbacks=[GoldEvaluation()])
