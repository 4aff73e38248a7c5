"""How the processes of a run were started: by Lightning, torchrun, `fabric run`, SLURM, or not at all."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment


def is_first_process() -> bool:
    """Tell whether this process is the first of its run, on all machines together."""
    if "RANK" in os.environ:  # torchrun, and `fabric run`, which calls it
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"))


def is_one_of_several() -> bool:
    """Tell whether this process was started together with others, which could not agree on a folder by themselves."""
    by_slurm = SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1
    return by_slurm or "LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ


def rank_of() -> int | None:
    """Return which of several processes this one is, None where it is alone."""
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if os.environ.get(rank, "").isdigit() and os.environ.get(world) != "1":
            return int(os.environ[rank])
    local = os.environ.get("LOCAL_RANK", "")  # of Lightning, which takes WORLD_SIZE away once a run has failed
    return int(local) if local.isdigit() and os.environ.get("WORLD_SIZE") != "1" else None


def under_torchrun() -> bool:
    """Tell whether this process was started by torchrun, which may start it again."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "LOCAL_RANK" in os.environ


def may_come_back() -> bool:
    """Tell whether a launcher may have started this process in the place of one that is lost."""
    return under_torchrun() or "SLURM_RESTART_COUNT" in os.environ


def shuts_out_machines() -> bool:
    """Tell whether torchrun was asked to start lost machines again, in a way in which they cannot come back.

    It shares its store with the processes then, and does not tell a machine that comes back where that is (torch 2.13;
    https://github.com/pytorch/pytorch/issues/135712).
    """
    asked = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and os.environ.get("GROUP_WORLD_SIZE", "1") != "1"
    return asked and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
