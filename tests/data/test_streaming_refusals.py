"""What a stream refuses: shards and settings that changed, and what would need all rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Trainer

from align.callbacks.activations import ActivationCollector
from align.data.batching import Batching
from align.data.encoding import EncodingConfig
from align.data.helpsteer import HelpSteerDataModule
from align.data.mixture import MixtureDataModule
from align.data.preference_file import PreferenceFile
from align.data.splits import Splits
from align.data.streaming import check_trainer
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError, ResumeError
from align.training.optimizer import Optimizer
from align.training.run_length import check_length, optimiser_steps
from tests.data.streams import lines, mapped, module, pairs, resumed, shards, streamed
from tests.data.test_module import needs


def grown(folder: Path) -> None:
    with (folder / "train-00000-of-00003.jsonl").open("a") as file:
        file.write(lines(pairs(1, 99)))


def rewritten(folder: Path) -> None:
    path = folder / "train-00000-of-00003.jsonl"
    path.write_text(path.read_text().replace("Question 1?", "Question 2?"))


def missing(folder: Path) -> None:
    (folder / "train-00002-of-00003.parquet").unlink()


def added(folder: Path) -> None:
    (folder / "train-00003-of-00003.jsonl").write_text(lines(pairs(2, 50)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (grown, "shard train-00000-of-00003.jsonl had [0-9,]+ bytes and has [0-9,]+ now"),
        (rewritten, "shard train-00000-of-00003.jsonl begins with other bytes than before"),
        (missing, "shard train-00002-of-00003.parquet is missing"),
        (added, "shard train-00003-of-00003.jsonl is new"),
    ],
)
def test_a_source_that_changed_is_refused(tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    path = shards(tmp_path / "data")
    state = streamed(path, 7).train_dataloader().state_dict()
    change(path)
    with pytest.raises(ResumeError, match=f"cannot resume: {told}: put back"):
        resumed(streamed(path, 7), state)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"window": 8}, "shuffle_window was 7 in the checkpoint and is 8 now"),
        ({"window": 7, "seed": 4}, "seed was 3"),
        ({"window": 7, "splits": Splits(half="first")}, "fingerprint was"),
    ],
)
def test_settings_that_changed_are_refused(tmp_path: Path, now: dict[str, Any], told: str) -> None:
    path = shards(tmp_path / "data")
    state = streamed(path, 7).train_dataloader().state_dict()
    with pytest.raises(ResumeError, match=told):
        resumed(streamed(path, **now), state)


def test_streamed_and_not_are_told_apart(tmp_path: Path) -> None:
    path = shards(tmp_path / "data")
    one, other = streamed(path).train_dataloader(), mapped(path).train_dataloader()
    with pytest.raises(ResumeError, match=r"set data.streaming false"):
        one.load_state_dict(other.state_dict())
    with pytest.raises(ResumeError, match=r"set data.streaming true"):
        other.load_state_dict(one.state_dict())


@pytest.mark.bad_input
class TestRefused:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"max_samples": 5}, "data.max_samples 5 chooses among all rows"),
            ({"splits": Splits(val_fraction=0.1)}, "data.splits.val_fraction 0.1 would have to read all rows first"),
            ({"splits": Splits(test_fraction=0.1)}, "data.splits.test_fraction 0.1 would have to"),
            ({"splits": Splits(folds=2, fold=0)}, "data.splits.folds 2 would have to"),
            ({"encoding": EncodingConfig(cache_dir="there")}, "data.encoding.cache_dir there has no effect"),
            ({"batching": Batching(num_workers=2)}, "data.batching.num_workers 2: one process reads a stream"),
            (
                {"batching": Batching(num_workers=1), "encoding": EncodingConfig(num_proc=2)},
                "data.encoding.num_proc 2 has no place inside a loader process",
            ),
        ],
    )
    def test_what_needs_all_rows(self, tmp_path: Path, options: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigError, match=f"data.streaming true: {told}"):
            streamed(shards(tmp_path / "data"), **options)

    def test_windows(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"shuffle_window 5 has no effect without data.streaming"):
            module(tmp_path, 5, streaming=False)
        with pytest.raises(ConfigError, match="shuffle_window must not be negative, got -1"):
            module(tmp_path, -1)

    def test_sources(self, tmp_path: Path) -> None:
        path = shards(tmp_path / "data")
        file = str(path / "train-00000-of-00003.jsonl")
        two = MixtureDataModule([PreferenceFile(file), PreferenceFile(str(path))], streaming=True)
        weighed = MixtureDataModule([PreferenceFile(str(path), weight=0.5)], streaming=True)
        for data, told in (
            (two, "data.sources is several datasets"),
            (weighed, "weight 0.5 draws from all rows"),
            (SyntheticDataModule(streaming=True), "Synthetic makes its rows itself"),
            (HelpSteerDataModule(file, streaming=True), "HelpSteer makes an example of rows anywhere in the data"),
        ):
            with pytest.raises(ConfigError, match=f"data.streaming true: {told}"):
                data.connect(needs())

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("rows.csv", "prompt,chosen,rejected\nq,a,b\n"),
            ("rows.json", json.dumps([{"prompt": "q", "chosen": "a", "rejected": "b"}])),
        ],
    )
    def test_files_that_are_read_whole(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=f"{name} can only be read as a whole .* convert it to JSONL"):
            streamed(tmp_path / name)

    @pytest.mark.parametrize(
        ("name", "value"), [("val_check_interval", 0.5), ("limit_train_batches", 0.1), ("overfit_batches", 3)]
    )
    def test_parts_of_an_epoch(self, name: str, value: float) -> None:
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **{name: value})
        check_trainer(trainer, "fit", streaming=False)
        check_trainer(trainer, "validate", streaming=True)
        with pytest.raises(ConfigError, match=f"data.streaming true: trainer.{name} {value} is a part"):
            check_trainer(trainer, "fit", streaming=True)
        check_trainer(Trainer(accelerator="cpu", logger=False, limit_train_batches=5), "fit", streaming=True)

    def test_a_schedule_over_a_number_of_steps_that_nobody_knows(self) -> None:
        run = {"callbacks": [], "max_epochs": 1, "datamodule": module(Path("x"))}
        endless, ended = (SimpleNamespace(max_steps=n, **run) for n in (-1, 30))
        with pytest.raises(ConfigError, match=r"lr_scheduler_type cosine needs the number of steps.*trainer.max_steps"):
            check_length(endless, Optimizer())
        check_length(endless, Optimizer(lr_scheduler_type="constant"))
        check_length(ended, Optimizer())
        assert (optimiser_steps(endless), optimiser_steps(ended)) == (0, 30)

    def test_callbacks_that_read_all_rows(self) -> None:
        trainer: Any = SimpleNamespace(datamodule=module(Path("x")), global_step=0)
        with pytest.raises(
            ConfigError, match=r"data.streaming true: align.callbacks.activations.ActivationCollector, which"
        ):
            ActivationCollector().on_fit_start(trainer, SimpleNamespace())  # type: ignore[arg-type]

    def test_passes_over_all_rows(self, tmp_path: Path) -> None:
        data = streamed(shards(tmp_path / "data"))
        for act in (lambda: next(data.all_batches()), lambda: data.batches_of("train"), data.predict_dataloader):
            with pytest.raises(ConfigError, match=r"data.streaming true: .* needs all rows at once"):
                act()
