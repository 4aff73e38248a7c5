"""The settings in the run folder, written once every process of the run is known to see that folder."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info

from align.cli.launch import shuts_out_machines
from align.cli.run_folder import CONFIG, save_settings
from align.cli.shared_folder import check_same_data, check_same_start, check_shared


class _RunConfig(SaveConfigCallback):
    """Saves the settings in the run folder; only `fit` replaces those that are there."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compare what the processes see, then save. Raises ConfigError, ResumeError where that differs."""
        if stage == "fit" and not self.already_saved:
            root = Path(trainer.default_root_dir)
            check_shared(root)
            check_same_start(root, self.config.get("ckpt_path"))
            check_same_data(str(getattr(trainer.datamodule, "fingerprint", "")))  # type: ignore[attr-defined]
            if shuts_out_machines():
                rank_zero_info(
                    "WARNING a machine that is lost cannot come back to this torchrun: set "
                    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on every machine"
                )
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write `config.yaml`."""
        root = Path(trainer.default_root_dir)
        if stage == "fit" or not (root / CONFIG).exists():
            save_settings(root, self.parser.dump(self.config, skip_unset=False, skip_validation=True))


SAVES_CONFIG: type[SaveConfigCallback] = _RunConfig
