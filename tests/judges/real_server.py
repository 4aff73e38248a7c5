"""`transformers serve`, a real server of the OpenAI kind, as a process; and a model that answers what it is told to."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import torch
from transformers import AutoModelForCausalLM

from tests.cli.things import TEMPLATE
from tests.tiny import tiny_config, tiny_tokenizer

PATIENCE = 300.0
"""Seconds for a process to start on a machine under load."""


@contextmanager
def transformers_serve(log: Path) -> Iterator[str]:
    """Start the server on the CPU and yield its address once it answers; it loads the folders it is asked for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [str(program), "serve", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"transformers serve ended: {log.read_text()[-2000:]}"
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"transformers serve does not answer: {log.read_text()[-2000:]}")


def save_chain(folder: Path, chain: str) -> Path:
    """Write a chat model whose next token depends on the one before alone: along a chain of characters, then the end.

    Its residual stream is the token itself: attention and feed-forward layers add nothing.
    """
    tokenizer = tiny_tokenizer(TEMPLATE)
    width = -(-len(tokenizer) // 8) * 8
    sizes = {"hidden_size": width, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": len(tokenizer)}
    model = AutoModelForCausalLM.from_config(tiny_config("llama", **sizes, max_position_embeddings=4096))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(len(tokenizer), width))
        model.lm_head.weight[tokenizer.eos_token_id] = 1.0
        ids = tokenizer(chain, add_special_tokens=False)["input_ids"]
        for one, after in itertools.pairwise(ids):
            model.lm_head.weight[:, one] = 0
            model.lm_head.weight[after, one] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
