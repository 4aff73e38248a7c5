"""`align fit|validate|test|predict`: LightningCLI in subclass mode, with defaults, run folders and an import policy."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

import align
from align.cli.class_names import import_all
from align.cli.gpu import precision_of, settle_precision, usual_log_interval
from align.cli.included_configs import with_configs
from align.cli.launch import is_first_process, is_one_of_several
from align.cli.lost_ranks import ending_together
from align.cli.meeting import meetings
from align.cli.monitors import watch
from align.cli.own_packages import check_functions
from align.cli.pushing_runs import PUBLIC, PUSH, push_model, target_of
from align.cli.run_config import SAVES_CONFIG
from align.cli.run_folder import check_whole, checkpoint_to_go_on_from, claim, mark_finished, release
from align.cli.run_logger import RunLogger
from align.cli.secrets import check_secret_settings
from align.cli.settings_files import INTERPOLATED, check_all_settings, rooted
from align.cli.start import prepare
from align.cli.trainer import AlignTrainer
from align.cli.trainer_check import check_settings, ended_by
from align.cli.trusting import given_trust
from align.cli.verbs import LISTED
from align.errors import ConfigError

DEFAULTS = str(Path(align.__file__).parent / "cli" / "defaults.yaml")
CHECK = "`off` leaves out the comparison with plain forward passes (the same as model.backbone.check)"


def run(words: list[str]) -> int:
    """Parse and run a verb of the Trainer."""
    words = with_configs(words)
    prepare(words)
    try:
        with ending_together():
            AlignCLI(words)
    finally:
        release()
    return 0


class AlignCLI(LightningCLI):
    """LightningCLI with subclass mode for model and data, one folder per run whatever the logger."""

    def __init__(self, words: list[str]) -> None:
        for package in ("align.modules", "align.data"):
            import_all(package)
        check_all_settings(words[0])
        sys.argv = [sys.argv[0], *words, *given_trust()]  # processes that Lightning starts run the same command
        strict = {"exit_on_error": False, "allow_abbrev": False, "parser_mode": INTERPOLATED}
        told = LISTED[words[0]]
        subparser: dict[str, Any] = {"description": told, "default_config_files": [DEFAULTS], **strict}
        own = {words[0]: LightningCLI.subcommands()[words[0]]}
        self.subcommands = lambda: own  # type: ignore[method-assign]  # the other verbs' parsers take as long each
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            trainer_class=AlignTrainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=SAVES_CONFIG,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"prog": "align", **strict, words[0]: subparser},
        )

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Add the options that are ours."""
        parser.add_argument("--check", type=bool | None, default=None, help=CHECK)
        parser.add_argument("--push_to_hub", type=str | None, default=None, help=PUSH)
        parser.add_argument("--public", type=bool, default=False, help=PUBLIC)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse, then check what Lightning does not."""
        words = sys.argv[1:] if args is None else args
        self.config = parser.parse_args([rooted(word, words[0]) for word in words])
        config = self.config[self.config.subcommand]
        check_secret_settings(config)
        check_functions(config)
        if config.check is not None:
            config.model.init_args.backbone.check = config.check
        check_settings(config)
        self._target = target_of(config, self.config.subcommand)

    def before_instantiate_classes(self) -> None:
        """Choose the run folder, and refuse to fit in one that holds another run."""
        assert self.subcommand is not None
        config = self.config[self.subcommand]
        root = config.trainer.default_root_dir or _new_root(self.subcommand, config.model.class_path)
        config.trainer.default_root_dir = str(root)
        settle_precision(config.trainer, precision_of(Path(root)) if self.subcommand == "fit" else None)
        given = config.get("ckpt_path")
        if given not in (None, "last", "best", "hpc"):
            check_whole(given)
        if self.subcommand == "fit":
            self._count_steps_ourselves(config.trainer)
            self.use_folder(Path(root))

    def use_folder(self, root: Path) -> None:
        """Claim the run folder, and go on with the run it holds if this command is the one that started it."""
        config = self.config["fit"]
        if is_first_process():
            claim(root)
        if config.get("ckpt_path") is None:
            parser = self._parser("fit")
            settings = yaml.safe_load(parser.dump(config, skip_unset=False, skip_validation=True))
            config.ckpt_path = checkpoint_to_go_on_from(root, settings)

    def after_fit(self) -> None:
        """Say what ended the run, and note that it is finished."""
        rank_zero_info(ended_by(self.trainer))
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            mark_finished(Path(self.trainer.default_root_dir), self.trainer.global_step)
            if self._target is not None:
                push_model(self.trainer, self._target)

    @staticmethod
    def _count_steps_ourselves(trainer: Any) -> None:
        """Turn `max_steps` into a callback: with it, Lightning ends a resumed run too early."""
        if (trainer.max_steps or -1) > 0:
            stop = {"class_path": "align.callbacks.stop_at.StopAt", "init_args": {"max_steps": trainer.max_steps}}
            trainer.callbacks = [*(trainer.callbacks or []), Namespace(stop)]  # type: ignore[no-untyped-call]
            trainer.max_steps = -1

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Log to the files of the run folder, and to tensorboard there unless the config names a logger.

        Of our callbacks that keep a state, of which Lightning refuses two, or that write one file, the last of each
        class counts, so that one given anew replaces the default.
        """
        trainer = self._get(self.config_init, "trainer", default={})
        bar = trainer.get("enable_progress_bar") is not False
        given = [c for c in trainer.get("callbacks") or [] if bar or not isinstance(c, ProgressBar)]
        last = {type(c): c for c in given if _keeps_state(c) or getattr(c, "writes_one_file", False)}
        kept = [c for c in given if last.get(type(c), c) is c]
        ordered = sorted(kept, key=lambda callback: getattr(callback, "acts_last", False))
        trainer.callbacks = [*ordered, watch(ordered), meetings()]
        if trainer.get("log_every_n_steps") is None:
            trainer.log_every_n_steps = usual_log_interval(trainer)
        if not trainer.get("fast_dev_run"):
            kwargs["logger"] = _loggers(trainer.get("logger"), trainer.get("default_root_dir") or ".")
        return super().instantiate_trainer(**kwargs)


def _loggers(given: Any, root: str) -> list[Logger]:
    """Return the loggers that were asked for, tensorboard where nothing was, and always the run folder's own."""
    if given in (None, True):
        given = TensorBoardLogger(root, name="", version="")
    return [*(given if isinstance(given, list) else [given] if given else []), RunLogger(Path(root))]


def _keeps_state(callback: L.Callback) -> bool:
    own = type(callback).__module__.startswith("align.callbacks.")
    return own and type(callback).state_dict is not L.Callback.state_dict


def _new_root(verb: str, class_path: str) -> str:
    """Return a fresh folder under runs/, the same for all processes that one command starts."""
    if is_one_of_several():
        if "ALIGN_RUN_DIR" in os.environ:  # set by the process of ours that started this one
            return os.environ["ALIGN_RUN_DIR"]
        raise ConfigError(
            "several processes are launched from outside: name their folder with --trainer.default_root_dir"
        )
    method = class_path.rsplit(".", 1)[-1].removesuffix("Module").lower()
    name = method if verb == "fit" else f"{verb}-{method}"
    os.environ["ALIGN_RUN_DIR"] = f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}"
    return os.environ["ALIGN_RUN_DIR"]
