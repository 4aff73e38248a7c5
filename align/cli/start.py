"""What a verb does before it reads its settings: checks, the import policy, and silence of libraries."""

from __future__ import annotations

import logging
import sys
import warnings

from transformers.utils import logging as transformers_logging

from align.cli.class_paths import mean_classes
from align.cli.explaining import explain_settings
from align.cli.own_packages import allow_imports
from align.cli.settings_files import check_all_settings
from align.cli.trainer_check import check_launcher
from align.cli.yaml_check import check_configs


def prepare(words: list[str]) -> None:
    """Check config files and set the import policy."""
    check_configs(words)
    prepare_loading()
    check_all_settings()
    mean_classes()
    allow_imports()
    explain_settings(words)


def prepare_loading() -> None:
    """Do what a verb does before it loads a model."""
    check_launcher()
    quiet()


def quiet() -> None:
    """Leave out what libraries say that a user of ours can do nothing about."""
    for message in (
        ".*is_gradient_checkpointing.*",  # PEFT calls transformers by an old name
        ".*isinstance.treespec.*",  # Lightning calls torch by an old name
        r".*module\(s\) in eval mode.*",  # a frozen reference model is meant to be
        "The variance of predictions or target is close.*",  # a constant has no correlation, none is logged
        "Total length of `list` across ranks is zero.*",  # data without a validation split
        ".*sync_dist=True.*",  # what we log is summed over all processes already
    ):
        warnings.filterwarnings("ignore", message=message)
    unwanted = ("Tip:", "`Trainer.fit` stopped")  # `ended_by` says the latter, and knows our callbacks
    noisy = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    noisy.addFilter(lambda record: not any(words in record.getMessage() for words in unwanted))
    transformers_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
