"""RAHF: representation alignment from human feedback, with one instructed model or with a good and a bad one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from align.activations.layers import DUAL_DEPTHS, SINGLE_DEPTHS
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.response_states import RepresentationTargets, reading_vector
from align.models.sizes_only import sizes_only
from align.models.stage import check_note, read_note, stage_adapters
from align.objectives.representation import RepresentationAlignment
from align.records import CandidateBatch, Instructions, TruncationPreset
from align.training.activation_settings import ActivationSettings
from align.training.optimizer import Optimizer
from align.training.representation_module import NO_STAGE, RepresentationModule

CONSTANT = Optimizer(warmup_ratio=0.0, lr_scheduler_type="constant")
STAGE = "stage1"


class RAHFSingleModule(RepresentationModule):
    """RAHF-SCIT (Liu et al. 2023, arXiv:2312.15997, section 3.1): one model that reacts to instructions.

    The difference of its states under the good and the bad instruction, over the same response, is added alpha times to
    the states of the plain prompt; an adapter learns to produce them. Without a first stage (`stage1: none`,
    `target_init: sft`) this is LoRRA (Zou et al. 2023, arXiv:2310.01405, section 3.2.3).
    """

    learning_rates = (3e-4, 3e-4)
    instructions: Instructions

    def __init__(
        self,
        backbone: Backbone,
        objective: RepresentationAlignment = RepresentationAlignment(),
        *,
        stage1: str | None = None,
        target_init: Literal["stage1", "sft"] = "stage1",
        reading: ActivationSettings = ActivationSettings(max_response=512, response_source="random"),
        instructions: Instructions = Instructions(),
        optimizer: Optimizer = CONSTANT,
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure the second stage.

        Args:
            backbone: The base, frozen; `lora` null takes rank 8 on query and value projections.
            objective: Target and distance.
            stage1: Adapter folder of the first stage (HIRModule); null where `backbone.path` itself is the full model
                the first stage trained; `none` for no first stage.
            target_init: Whether the adapter starts from the first stage's model, which the released code does, or from
                the base, as the paper says ("manipulate the original model").
            reading: Which responses and states.
            instructions: The same texts as in the first stage.
            optimizer: AdamW and its schedule.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(
            backbone, objective, stage1=stage1, reading=reading, optimizer=optimizer, truncation=truncation
        )
        self.target_init, self.instructions = target_init, instructions
        self.states_settings = (target_init, None)
        if stage1 == NO_STAGE and target_init != "sft":
            raise ConfigError("model.stage1 is none, so no first stage can be the start: set target_init to sft")

    def build(self) -> nn.Module:
        """Load the base, the first stage's adapter, and a fresh one."""
        self.collector = self._collector()
        folders = {STAGE: stage_adapters(self.stage1, ["."], "RAHFSingleModule")["."]} if self.collector else {}
        self.start = self.collector if self.target_init == "stage1" else []
        self.reads_states = [self.collector, self.start]
        return self.assemble(SINGLE_DEPTHS, folders)

    def _collector(self) -> list[str]:
        """Return the adapters of the model that reads instructions."""
        if self.stage1 == NO_STAGE:
            return []
        if self.stage1 is not None:
            return [STAGE]
        if sizes_only():
            return []
        if not read_note(self.backbone.path):
            raise ConfigError(
                "model.stage1 is null and backbone.path holds no model of a first stage: name its adapter folder, or "
                "say `none` for LoRRA"
            )
        if self.target_init == "sft":
            raise ConfigError("target_init sft needs the first stage as an adapter: train HIRModule with backbone.lora")
        check_note(self.backbone.path, "", self.instructions)
        return []

    @property
    def step_groups(self) -> int:
        """Return RAHF's 64, or LoRRA's 16 without a first stage."""
        return 16 if self.stage1 == NO_STAGE else 64

    def plain(self, batch: CandidateBatch) -> CandidateBatch:
        """Return the batch as it is: the policy is trained and used without an instruction."""
        return batch

    def collect(self, batch: CandidateBatch) -> RepresentationTargets:
        """Return plain states of the start, and the effect of the instructions on the first stage's model."""
        vectors = self.instructed_states(batch, self.collector, self.collector)
        return RepresentationTargets(self.frozen_states(batch, self.start), vectors)


@dataclass(frozen=True)
class DualPrompts:
    """Under which prompts the good and the bad model, and the policy, read responses."""

    dual_instruction: Literal["same", "contrast"] = "same"
    """`same`: both read the policy's prompt, so that only weights differ (the released code, with the good instruction
    for all); `contrast`: each reads its own instruction (the paper)."""
    orig_instruction: Literal["none", "positive"] = "none"
    """Prompt of the policy; the released code trains under the good instruction and generates without it."""
    texts: Instructions = field(default_factory=Instructions)
    """The instructions, where one is used."""

    @property
    def used(self) -> Instructions | None:
        """Return the instructions, or None when every prompt is plain."""
        plain = self.dual_instruction == "same" and self.orig_instruction == "none"
        return None if plain else self.texts


class RAHFDualModule(RepresentationModule):
    """RAHF-Dual (Liu et al. 2023, arXiv:2312.15997, section 3.2): a good and a bad model on one frozen base.

    The difference of their states over the same text is added alpha times to the states of the start. With the good
    model as start and the same prompt for all, the plain states are the good model's: one pass less, and the target is
    `(1 + alpha) good - alpha bad`.
    """

    learning_rates = (9e-6, 9e-6)
    usual_groups = 8

    def __init__(
        self,
        backbone: Backbone,
        objective: RepresentationAlignment = RepresentationAlignment(),
        *,
        stage1: str | None = None,
        target_init: Literal["good", "sft"] = "good",
        prompts: DualPrompts = DualPrompts(),
        reading: ActivationSettings = ActivationSettings(),
        optimizer: Optimizer = CONSTANT,
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure the second stage.

        Args:
            backbone: The base, frozen; `lora` null takes rank 8 on query and value projections.
            objective: Target and distance.
            stage1: Folder with the adapters `good` and `bad` (PreferredDispreferredModule writes it).
            target_init: Whether the adapter starts from the good model, as the released code does, or from the base.
            prompts: Which instructions are used, if any.
            reading: Which responses and states.
            optimizer: AdamW and its schedule.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(
            backbone, objective, stage1=stage1, reading=reading, optimizer=optimizer, truncation=truncation
        )
        self.target_init, self.prompts, self.instructions = target_init, prompts, prompts.used
        self.states_settings = (target_init, prompts)

    def build(self) -> nn.Module:
        """Load the base, the good and the bad adapter, and a fresh one."""
        folders = stage_adapters(self.stage1, ["good", "bad"], "RAHFDualModule")
        self.start = ["good"] if self.target_init == "good" else []
        self.reads_states = [["good"], ["bad"], self.start]
        return self.assemble(DUAL_DEPTHS, folders)

    def plain(self, batch: CandidateBatch) -> CandidateBatch:
        """Return the batch under the policy's prompt."""
        return batch.under(0) if self.prompts.orig_instruction == "positive" else batch

    def collect(self, batch: CandidateBatch) -> RepresentationTargets:
        """Return plain states of the start, and how good and bad differ."""
        plain = self.plain(batch)
        if self.prompts.dual_instruction == "contrast":
            vectors = self.instructed_states(batch, ["good"], ["bad"])
            return RepresentationTargets(self.frozen_states(plain, self.start), vectors)
        good = self.frozen_states(plain, ["good"])
        base = good if self.target_init == "good" else self.frozen_states(plain, self.start)
        return RepresentationTargets(base, reading_vector(good, self.frozen_states(plain, ["bad"])))
