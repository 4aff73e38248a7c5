"""Steering with a key-value cache, vectors on disk, directions and probes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.activations import ActivationRecorder
from align.activations.artefact import VectorNote, load_note, load_vectors, save_vectors
from align.activations.probing import PairStates, accuracy_of, fit_probe, length_accuracy, projected, random_control
from align.activations.reading_vectors import reading_vectors
from align.activations.steering import Steering, steered
from align.errors import ConfigError, ModelError
from tests.activations.test_tap import IDS, body, hooks
from tests.tiny import tiny_model

VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(0))


def test_adds_exactly_the_vector_and_leaves_nothing() -> None:
    model = tiny_model(num_hidden_layers=3).eval()
    with ActivationRecorder(model, [2]) as tap:
        body(model)(IDS, use_cache=False)
    plain = tap.states()
    with steered(model, {2: VECTOR}, Steering(1.5)), ActivationRecorder(model, [2]) as tap:
        body(model)(IDS, use_cache=False)
    torch.testing.assert_close(tap.states(), plain + 1.5 * VECTOR)
    assert hooks(model) == 0
    with steered(model, {2: VECTOR}, Steering(1.5, keep_norm=True)), ActivationRecorder(model, [2]) as tap:
        body(model)(IDS, use_cache=False)
    torch.testing.assert_close(tap.states().norm(dim=-1), plain.norm(dim=-1))
    with steered(model, {2: VECTOR}, Steering(1.5, sign_aware=True)), ActivationRecorder(model, [2]) as tap:
        body(model)(IDS, use_cache=False)
    side = torch.sign(plain @ VECTOR)[..., None]
    torch.testing.assert_close(tap.states(), plain + 1.5 * side * VECTOR)


@pytest.mark.parametrize("where", ["all", "prompt", "generated"])
def test_the_cache_changes_nothing(where) -> None:
    """Greedy tokens with a cache equal those of full forward passes, in which the changed columns are marked."""
    model = tiny_model(num_hidden_layers=3).eval()
    # one step of the cache reads one token, so that the prompt must have two at least
    with steered(model, {1: VECTOR, 2: VECTOR}, Steering(0.3, where)):
        cached = model.generate(IDS[:1], max_new_tokens=6, do_sample=False, use_cache=True, pad_token_id=2)
    ids = IDS[:1]
    prompt = ids.shape[1]

    def change(block, inputs, output):
        moved = output.clone()
        part = {"all": slice(None), "prompt": slice(prompt), "generated": slice(prompt, None)}[where]
        moved[:, part] += 0.3 * VECTOR
        return moved

    handles = [model.model.layers[n].register_forward_hook(change) for n in (0, 1)]
    for _ in range(6):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    for handle in handles:
        handle.remove()
    assert torch.equal(cached, ids)


def test_vectors_that_do_not_fit_are_refused() -> None:
    model = tiny_model()
    with (
        pytest.raises(ConfigError, match=r"steering layer 3: the model has layers 1..2"),
        steered(model, {3: VECTOR}, Steering()),
    ):
        pass
    with pytest.raises(ConfigError, match="8 wide, the model has 32"), steered(model, {1: VECTOR[:8]}, Steering()):
        pass


def test_a_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "v" / "vectors.safetensors"
    note = VectorNote((2, 3), "positive - negative", "m", {"positive": "be good"}, "f", 7, {"probe": [0.5]})
    save_vectors(path, {"mean": torch.stack([VECTOR, -VECTOR]), "pca": torch.zeros(2, 32)}, note)
    found = load_vectors(path)
    assert list(found) == [2, 3]
    assert torch.equal(found[3], -VECTOR)
    assert load_note(path)["instructions"] == {"positive": "be good"}
    with pytest.raises(ConfigError, match=r"expected other.LAYER"):
        load_vectors(path, "other")
    with pytest.raises(ModelError, match="no such file"):
        load_vectors(tmp_path / "missing.safetensors")
    path.write_bytes(b"x" * 20)
    with pytest.raises(ModelError, match="damaged"):
        load_vectors(path)


def test_directions_find_a_planted_one() -> None:
    draw = torch.Generator().manual_seed(1)
    planted = torch.tensor([3.0, 0, 0, 0])
    values = planted + torch.randn(400, 2, 4, generator=draw) * torch.tensor([0.1, 1, 0.1, 0.1])
    found = reading_vectors(values)
    for layer in range(2):
        assert torch.cosine_similarity(found.mean[layer], planted, dim=0) > 0.99
        assert torch.cosine_similarity(found.pca[layer], planted, dim=0) > 0.99  # centred, it would be the second axis
    assert ((found.consistency > 0.85) & (found.consistency < 0.95)).all()  # 9 / (9 + 1 + 3 * 0.01) = 0.897
    assert reading_vectors(-values).pca[0] @ planted < 0  # the sign is that of the mean
    same = reading_vectors(planted.expand(5, 1, 4))
    assert same.consistency.item() == pytest.approx(1)


def test_probes_beat_their_controls_where_there_is_something_to_find() -> None:
    draw = torch.Generator().manual_seed(2)
    noise = lambda: torch.randn(300, 1, 8, generator=draw)  # noqa: E731
    signal = torch.zeros(8)
    signal[3] = 2.0
    lengths = torch.arange(300) % 7 + 1.0
    pairs = PairStates(noise() + signal, noise(), lengths, lengths.flip(0))
    train, held = (PairStates(*(t[part] for t in pairs)) for part in (slice(200), slice(200, 300)))
    probe = projected(held, fit_probe(train))[0]
    assert probe.low < 0.921 < probe.high  # unit normals 2 apart: P = Phi(2 / sqrt 2) = .921
    assert probe.low > 0.75
    assert projected(held, fit_probe(train, shuffled=0))[0].value < 0.8
    assert 0.2 < random_control(held)[0].value < 0.8
    assert length_accuracy(held).low < 0.5 < length_accuracy(held).high


def test_ties_count_half() -> None:
    assert accuracy_of(torch.tensor([1.0, -1.0, 0.0, 0.0])).value == 0.5
