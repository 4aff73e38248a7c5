"""Where a data module gets its training batches from when a run makes its own data, round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from align.data.data_module import PreferenceDataModule
from align.data.encoded_groups import EncodedGroups
from align.data.loader import BatchLoader
from align.data.source import Report
from align.data.steps import tell_steps
from align.data.views import View
from align.distributed import on_first
from align.encoding.encoder import Encoder
from align.encoding.truncation import Truncation
from align.errors import ResumeError
from align.models.kept_casts import casts_kept
from align.records import Conditioning, Example, PromptFormat, SampledRound
from align.rewards.components import PolicyNow, Training
from align.rounds.encoded_rounds import encoded_round
from align.rounds.manifest import summary
from align.rounds.pipeline import make_round
from align.rounds.plan import RoundPlan
from align.rounds.prompt_supply import PromptSupply
from align.rounds.refused_conditions import check_drawn
from align.rounds.round_engine import RoundEngine
from align.rounds.round_folder import RoundFolder
from align.rounds.round_prompts import conditioning_of_method, note_of, under_the_base_sentence
from align.rounds.round_store import RoundRow
from align.rounds.rounds_ahead import RoundsAhead
from align.rounds.sampled_rounds import sampled_round
from align.rounds.schedule import in_last_round
from align.rounds.settings import RoundSettings
from align.rounds.weights import policy_hash, reference_hash
from align.sampling.server_pool import IMPORTANCE_CAP


class RoundLoader:
    """Makes a round when its first batch is asked for; by then the weights of the round before are on disk."""

    def __init__(
        self,
        trainer: Any,
        data: PreferenceDataModule,
        folder: Path,
        settings: RoundSettings,
        *,
        epochs: int,
        training: Training,
    ) -> None:
        self.trainer, self.data, self.settings = trainer, data, settings
        self.epochs, self.training = epochs, training
        self.rounds, self.engine = RoundFolder(folder), RoundEngine(settings, folder)
        self.acknowledged: dict[int, str] = {}
        """Hashes of the rounds that this run, or its checkpoint, has trained on."""
        self._loaders: dict[int, BatchLoader] = {}
        self._trained_on: EncodedGroups | None = None
        self._followed, self._hashed = -1, (-1, "")
        self.supply = PromptSupply(trainer, data, settings, self.rounds)
        self.ahead = RoundsAhead(
            self.rounds, self._plan, lambda policy, *, gone: self.engine.ahead(*self._drawn_from, policy, gone=gone)
        )

    @property
    def number(self) -> int:
        """Return the round of the current epoch."""
        return int(self.trainer.current_epoch) // self.epochs

    @property
    def conditioning(self) -> Conditioning | None:
        """Return how the method writes conditions, None in rounds without them."""
        return conditioning_of_method(self.trainer.lightning_module, self.settings)

    def note(self, number: int) -> dict[str, Any]:
        """Return what the records of a round ask for; nothing in rounds without conditions."""
        return note_of(self.rounds, self.settings, self.conditioning, number)

    def loader(self) -> BatchLoader:
        """Return the batches of the current round, made, finished or read."""
        number = self.number
        if number not in self._loaders:
            sha256 = self._sealed(number)
            groups = encoded_round(self.rounds, number, sha256, data=self.data, view=self._view())
            self._trained_on, self._loaders = groups, {number: self.data.steps_of(groups, sha256)}
            tell_steps(groups, self.data.step_groups, f"round {number}: ", asked=self.settings.prompts or 0)
            self.acknowledged[number] = sha256
        loader = self._loaders[number]
        self._mend_progress(len(loader))
        return loader

    def draw_ahead(self, *, first: bool) -> None:
        """Have servers draw the next round while this one is trained on, where that is set, once; every process calls.

        `first` tells that no step was taken on this round: the model has the weights it began with.
        """
        module: Any = self.trainer.lightning_module
        known, self._followed = self._followed == self.number, self.number
        learns_ratings = self.settings.rated(self.number)  # which the next round is asked for
        if self.settings.ahead and not (known or learns_ratings or in_last_round(self.trainer, self.epochs)):
            with self.trainer.precision_plugin.forward_context(), casts_kept(module.model):
                step, policy = self._hashed
                if first and step != self.trainer.global_step:
                    policy = policy_hash(module)
                self.ahead.begin(self.number + 1, policy if first else None)

    def finish(self) -> None:
        """Let go of what was held for the run, but the policy that a round is drawn from which a run may go on with."""
        self.ahead.stop()
        drawn = self.ahead.drawn
        keep = on_first(lambda: drawn is not None and not drawn.done)
        if keep:
            rank_zero_info(
                f"{self.engine.policies.folder} is kept: a run that goes on draws round {self.number + 1} by it"
            )
        self.engine.finish(keep=keep)

    def sampled(self) -> SampledRound:
        """Return the samples of the current round, for a method that trains on them as they were drawn."""
        assert self._trained_on is not None
        groups, number = self._trained_on, self.number
        sha256, pool = self.acknowledged[number], self.settings.engine
        return sampled_round(
            groups,
            number,
            drawn=self.rounds.told(number, sha256),
            importance_cap=pool.importance_cap if pool else IMPORTANCE_CAP,
            temperature=self.settings.generation.temperature,
            steps=len(self._loaders[number]) * self.epochs,
            batches=lambda: self.data.pass_over(groups, sha256),
            path=self.rounds.folder / f"rollouts-{number:06d}.safetensors",
            sha256=sha256,
        )

    def _mend_progress(self, length: int) -> None:
        """Let a run that goes on from the last batch of an epoch begin the next one at its first batch.

        Lightning compares the batches of the finished epoch with the number of the new one, so that a longer epoch
        would lose its first batches.
        """
        loop = self.trainer.fit_loop.epoch_loop
        if loop.restarted_on_train_batch_end and loop.batch_progress.is_last_batch:
            current = loop.batch_progress.current
            current.completed = max(current.completed, length)

    def _sealed(self, number: int) -> str:
        """Return the hash of the round's file, which is made where it is not sealed."""
        known, sha256 = self.acknowledged.get(number), self.rounds.sealed(number)
        if known is not None and known != sha256:
            found = f"sealed as {sha256[:12]}" if sha256 else "not sealed"
            raise ResumeError(
                f"round {number} in {self.rounds.folder} is {found}, the checkpoint has trained on {known[:12]}: put "
                "its file and store back; weights from inside a round cannot make it anew"
            )
        if sha256 is None:
            sha256 = self._make(number).sha256
            assert sha256 is not None
        return sha256

    def _make(self, number: int) -> RoundRow:
        module: Any = self.trainer.lightning_module
        policy = policy_hash(module)
        self._hashed = self.trainer.global_step, policy
        writer = Encoder(module.tokenizer, self.data.encoder.template, Truncation())  # type: ignore[union-attr]
        self.training.now = PolicyNow(module.model, module.tokenizer, writer, module.asking, module.backbone, policy)
        replayed, turn = self._replayed(number), self.ahead.turn(number)
        plan = turn.plan if turn else self._plan(number, policy)
        engine = turn.engine if turn else self.engine.of(*self._drawn_from, policy)
        with self.trainer.precision_plugin.forward_context(), casts_kept(module.model):
            waited, drawn_by = turn.waited if turn else 0.0, None if self.settings.rated(number) else engine
            row = make_round(self.rounds, plan, replayed, drawn_by, self.supply.further, waited=waited)
        told = {f"rounds/{name}": value for name, value in row.manifest["metrics"].items()}
        for logger in self.trainer.loggers:
            logger.log_metrics(told, step=self.trainer.global_step)
        rank_zero_info(f"round {number}: {summary(row.manifest)}")
        return row

    def _plan(self, number: int, policy: str) -> RoundPlan:
        check_drawn(self.settings, number)
        prompts, taken = self.supply.of_round(number)
        reference = reference_hash(self.trainer.lightning_module) if self.settings.mixture else ""
        template = self.data.encoder.template  # type: ignore[union-attr]
        return RoundPlan(number, self.settings, prompts, policy, self.conditioning, reference, taken, template=template)

    @property
    def _drawn_from(self) -> tuple[Any, PromptFormat, tuple[str, ...]]:
        assert self.data.encoder is not None
        return self.trainer.lightning_module, self.data.prompt_format, self.data.encoder.template.stop

    def _replayed(self, number: int) -> list[Example]:
        """Return the data that replay draws from: of this round's half, and without a condition."""
        if self.settings.replay is None:
            return []
        examples = self._view().apply(self.settings.share(self.supply.pool(), number), Report())
        return under_the_base_sentence(examples, self.conditioning)

    def _view(self) -> View:
        return self.data.view_of(self.trainer.lightning_module)
