"""Settings, and the random stream of each sample."""

from __future__ import annotations

import numpy as np
import pytest

from align.errors import ConfigError
from align.sampling.generation import Generation, Request, sample_key, uniforms


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0},
        {"num_samples": 0},
        {"batch_tokens": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"temperature": 0, "num_samples": 2},
    ],
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(ConfigError):
        Generation(**settings)


def test_every_part_of_a_key_counts() -> None:
    base = sample_key(1, 2, "p", 3)
    assert base == sample_key(1, 2, "p", 3)
    assert (
        len(
            {
                base,
                sample_key(2, 2, "p", 3),
                sample_key(1, 3, "p", 3),
                sample_key(1, 2, "q", 3),
                sample_key(1, 2, "p", 4),
            }
        )
        == 5
    )


def test_a_stream_does_not_depend_on_how_much_is_drawn() -> None:
    few, many = uniforms(7, 5), uniforms(7, 5000)
    np.testing.assert_array_equal(few, many[:5])
    assert many.min() > 0
    assert many.max() <= 1
    assert abs(many.mean() - 0.5) < 4 / np.sqrt(12 * 5000)  # four standard errors
    assert not np.array_equal(few, uniforms(8, 5))


def test_bare_ids_are_named_by_what_they_are() -> None:
    assert Request.of_ids([1, 2]).id == Request.of_ids((1, 2)).id != Request.of_ids([12]).id
