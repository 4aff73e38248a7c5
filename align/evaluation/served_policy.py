"""A policy that lies in a folder, asked by servers: written as they take it, and compared with what they draw."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.errors import ConfigError, StoreError
from align.evaluation.policy import Policy
from align.models.adapters import has_adapters
from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.records import PromptFormat
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation
from align.sampling.policy_server import ServedPolicy, Takes
from align.sampling.policy_server_finding import OURS
from align.sampling.pool_engine import PoolEngine
from align.sampling.pool_servers import PoolServers
from align.sampling.served_folder import write_for_servers
from align.sampling.server_pool import ServerPool
from align.sampling.stopping_criteria import StopCriteria


def check_unsteered(asking: ModelAsking, model: str, option: str = "--pool") -> None:
    """Raise ConfigError for a model that is steered, which no other engine than ours does."""
    if asking.steer is not None:
        raise ConfigError(
            f"{model} is {asking.told}, which changes states inside the model: leave out {option}, or ask with plain "
            "true"
        )


@contextmanager
def served(policy: Policy, backbone: Backbone, pool: ServerPool, settings: Generation) -> Iterator[PoolEngine]:
    """Return the engine that asks the servers of a pool for a policy, which they hold until the context ends.

    A server that was started with the model is asked as it is; what others load lies in the folder of temporary files
    (`TMPDIR`), which has to be on a disk that they share.

    Raises ConfigError for a server that cannot be given the model, Paused where none answers.
    """
    check_unsteered(policy.asking, backbone.path)
    adapted = has_adapters(policy.model)
    servers = PoolServers(pool, adapted=adapted, on_tokens=False, corrected=False, asked=backbone.path)
    ends = StopCriteria(policy.tokenizer, policy.eos_ids, policy.encoder.template.stop)
    difference = EngineDifference(policy.model, settings, pool.most_difference, backbone, setting=servers.setting)
    with tempfile.TemporaryDirectory(prefix=f"{OURS}served-") as place:
        name = Path(place).name  # another in every process

        def write(takes: Takes) -> ServedPolicy:
            folder = Path(place) / takes
            if takes == "nothing":
                return ServedPolicy(backbone.path, Path(backbone.path), backbone.path)
            if not folder.exists():
                _write(policy, folder, whole=takes == "folder")
            return ServedPolicy(name, folder, name)

        engine = PoolEngine(servers, ends, settings, write=write, difference=difference)
        engine.ready()
        try:
            yield engine
        finally:
            engine.leave()


def _write(policy: Policy, folder: Path, *, whole: bool) -> None:
    template = policy.encoder.template
    written = PromptFormat(template.eos_id, template.jinja)
    try:
        write_for_servers(policy.model, policy.tokenizer, folder, written, whole=whole, eos_ids=policy.eos_ids)
    except OSError as error:
        raise StoreError(
            f"model for servers {folder} not written: {error.strerror}: make room, or set TMPDIR"
        ) from error
