"""What every method shares beside its model: scoring, the self-check of a run, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from align.checks.checked_rows import GroupsOfBatch
from align.models.asked import PLAIN, ModelAsking
from align.models.backbone import Backbone
from align.models.sharding import refuse_sharded_files
from align.models.world_settings import check_same_world, world_settings
from align.records import CandidateBatch, ResponseScores, RowLayout, Step, TruncationPreset
from align.scoring import score_responses
from align.scoring.chosen_layout import row_layout
from align.scoring.decoder import choose_layout
from align.scoring.layouts import count_positions
from align.training.built_module import BuiltModule
from align.training.checkpoint_contents import fix_last_batch
from align.training.checkpoint_io import write_whole
from align.training.optimizer import Optimizer
from align.training.predicting import asking_of_predictions
from align.training.run_data import data_of
from align.training.run_length import check_length
from align.training.seeding import seed_step
from align.training.self_check import check_layouts
from align.training.sharded_strategy import ShardedStrategy
from align.training.unreached import wait_for_reached


class AlignModule(BuiltModule):
    """A method: subclasses compute the loss of a batch and record what they log."""

    def __init__(self, backbone: Backbone, optimizer: Optimizer, truncation: TruncationPreset | None = None) -> None:
        super().__init__(backbone, optimizer, truncation)
        self.start_checked = False
        self.predicted = PLAIN  # how the prompts are asked whose responses are predicted

    def score(self, batch: CandidateBatch) -> ResponseScores:
        """Return the response log-probabilities of the model as it is."""
        return self.scored(self.model, batch)

    def scored(self, model: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return the response log-probabilities of any model, in this backbone's layout and tiles."""
        return score_responses(model, batch, layout=self.backbone.layout, logit_bytes=self.backbone.logit_bytes)

    def positions(self, batch: CandidateBatch) -> tuple[int, int]:
        """Return how many positions the model computes for a batch, and how many of them hold a token."""
        return count_positions(batch, choose_layout(self.model, batch, self.backbone.layout))

    def row_layout(self) -> RowLayout:
        """Return how the model lays batches out, what was asked for where it is not built yet."""
        asked = self.backbone.layout
        if not hasattr(self, "model"):
            return RowLayout() if asked == "auto" else RowLayout(asked)
        return row_layout(self.model, asked, self.max_positions, self.device)

    def setup(self, stage: str) -> None:
        """Write checkpoints whole or not at all, and remove what a killed run left behind.

        Raises ConfigError for a model of one synthetic world on data of another.
        """
        own = (f"model {self.backbone.path}", world_settings(self.backbone.path))
        data = data_of(self.trainer)
        for other in data.worlds.items() if data else ():
            check_same_world(own, other)
        strategy = self.trainer.strategy
        if stage == "fit":
            if not isinstance(strategy, ShardedStrategy):
                refuse_sharded_files(strategy)
            check_length(self.trainer, self.optimizer)
        write_whole(strategy, Path(self.trainer.default_root_dir) / "checkpoints")

    def configure_model(self) -> None:
        """Load the model, and tell DDP whether a step reaches all that is trained."""
        super().configure_model()
        if self.trainer.training:
            wait_for_reached(self.trainer.strategy, self.models())

    def on_fit_start(self) -> None:
        """Compare the model with plain forward passes, on rows of the data, before it scores any."""
        self._check(gradients=True)

    def on_train_start(self) -> None:
        """Begin the epoch that a run goes on with at its first step."""
        fix_last_batch(self.trainer)

    def on_validation_start(self) -> None:
        """Compare the model with plain forward passes, unless training did."""
        self._check()

    def on_test_start(self) -> None:
        """Compare the model with plain forward passes."""
        self._check()

    def on_predict_start(self) -> None:
        """Compare the model with plain forward passes."""
        self._check()

    def _check(self, *, gradients: bool = False) -> None:
        data = data_of(self.trainer)
        if not self.checked and data is not None and "train" in data.groups:
            self.checked = check_layouts(self, data.groups["train"], gradients=gradients)

    def check_labels(self, batch: CandidateBatch) -> None:
        """Look at the labels of a batch on the CPU: on a device that would be to wait for it at every batch.

        Raises DataError where the method cannot use them.
        """

    def lacks_for_loss(self, *, drawn_in_rounds: bool) -> str | None:
        """Return what has to be awaited before a loss can be computed, None where the data are enough.

        Args:
            drawn_in_rounds: Whether rows of the data are prompts, whose responses rounds draw.
        """
        return "the first round: it is of the policy's own samples" if drawn_in_rounds else None

    def on_train_batch_start(self, batch: Step | CandidateBatch, batch_idx: int) -> None:
        """Give every step a random stream of its own, the same after a resume."""
        if not self.checked:  # the data came without a data module, or in rounds
            first = batch[0] if isinstance(batch, Step) else batch
            self.checked = check_layouts(self, GroupsOfBatch(first), gradients=True)
        if data_of(self.trainer) is None:  # ours have it look at every batch
            for part in batch if isinstance(batch, Step) else (batch,):
                self.check_labels(part.to("cpu"))
        seed_step(self.global_rank, self.current_epoch, batch_idx)

    def predict_step(self, batch: CandidateBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return one row per candidate: group id, place in the group, and its scores; none of padding."""
        with self.predicted.steering(self.model):
            columns = {name: values.tolist() for name, values in self.predictions(batch).items()}
        if batch.padding:
            return []
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [{"id": group, "candidate": n, **row} for (group, n), row in zip(batch.places(), rows, strict=True)]

    def ask_predicted(self, *, views: bool) -> ModelAsking:
        """Settle how prompts are asked whose responses are predicted.

        Args:
            views: Whether the data's view puts something into prompts already.
        """
        self.predicted = asking_of_predictions(self, loaded=bool(self._facts), views=views)
        return self.predicted

    def predictions(self, batch: CandidateBatch) -> dict[str, Tensor]:
        """Return the scores of every candidate by name."""
        scores = self.score(batch)
        return {"logprob": scores.logprobs, "tokens": scores.lengths}
