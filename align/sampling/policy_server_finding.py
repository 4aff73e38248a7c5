"""Which kind of server answers at an address, found by what it says to requests that change nothing."""

from __future__ import annotations

from typing import Any

from align.errors import ConfigError
from align.sampling.policy_server import PolicyServer
from align.sampling.policy_server_kinds import SHORT, AdapterServer, FolderServer
from align.sampling.replaced_weights import ReplacedWeights
from align.sampling.server_faults import printable
from align.sampling.sglang_servers import SGLangAdapterServer, SGLangWeightsServer, weights_of
from align.sampling.wire import Refused, Wire

OURS = "align-"
"""What the names of all policies begin with."""


async def kind_of(
    wire: Wire, url: str, setting: str = "engine", *, adapted: bool = True, trained: bool = True
) -> PolicyServer:
    """Find out how a server takes a policy.

    Args:
        wire: Leads to it.
        url: Its address.
        setting: What the pool is called in settings.
        adapted: Whether the policy is an adapter.
        trained: Whether a run gives it one policy after another. vLLM's own weights are replaced for no less: it goes
            on under its model's name.

    Raises ConfigError for one that takes none, ServiceStopped or Transient for one that does not answer.
    """
    if (version := await weights_of(wire)) is not None:
        return _sglang(url, version, setting, adapted=adapted)
    if not adapted and trained and await _known(wire, "/collective_rpc", {}, setting, root=True):
        return ReplacedWeights(url)
    if await _known(wire, "/load_lora_adapter", {"lora_name": "", "lora_path": ""}, setting, root=False):
        return AdapterServer(url)
    if await _known(wire, "/load_model", {}, setting, root=True):
        return FolderServer(url)
    raise ConfigError(
        f"{setting}.urls: server {url} cannot be given a policy, it would sample from what it was started with: it "
        "knows neither /v1/load_lora_adapter (vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True) nor "
        "/model_info (SGLang) nor /load_model (transformers serve)"
    )


def _sglang(url: str, version: str, setting: str, *, adapted: bool) -> PolicyServer:
    if not adapted:
        return SGLangWeightsServer(url)
    if version.startswith(OURS):
        raise ConfigError(
            f"{setting}.urls: server {url} has the weights that a run gave it ({printable(version)}), and adapters are "
            "for the model it was started with: start it anew"
        )
    return SGLangAdapterServer(url)


async def _known(wire: Wire, path: str, body: dict[str, Any], setting: str, *, root: bool) -> bool:
    try:
        await wire.post(path, body, SHORT, root=root)
    except Refused as error:
        if error.status in (401, 403):
            raise ConfigError(
                f"{setting}.urls: {error}: {setting}.api_key_env names the variable that holds the key"
            ) from None
        return error.status in (400, 422)  # with which all say that nothing is named
    return False
