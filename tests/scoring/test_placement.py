"""Where tokens stand in rows, against loops that say the same."""

import numpy as np
import pytest

from align.scoring.placement import PLACEMENTS, BatchLengths, Placement, scored_tokens

CASES = {
    "pairs": BatchLengths((5, 3), (2, 4, 1, 1), (0, 0, 1, 1)),
    "lists and a row of its own": BatchLengths((4, 1, 6), (3, 1, 2, 5, 9, 1), (0, 0, 0, 1, 2, 2)),
    "prompts of their own": BatchLengths((4, 2, 3), (3, 1, 2), (0, 1, 2)),
    "candidates in another order": BatchLengths((4, 2), (3, 1, 2, 5), (1, 0, 1, 0)),
    "an empty prompt": BatchLengths((0, 2), (3, 1, 2, 2), (0, 0, 1, 1)),
    "sixteen responses": BatchLengths((7,), tuple(range(1, 17)), (0,) * 16),
}


def read(lengths: BatchLengths, placed: Placement, candidate: int) -> tuple[list[int], list[int]]:
    """Return tokens and positions of a candidate, read where its parts begin."""
    own, response = lengths.prompts[lengths.prompt_of[candidate]], lengths.responses[candidate]
    prompt, start = placed.prompt_starts[candidate], placed.response_starts[candidate]
    places = [*range(prompt, prompt + own), *range(start, start + response)]
    return placed.order.ravel()[places].tolist(), placed.positions.ravel()[places].tolist()


@pytest.mark.parametrize("layout", PLACEMENTS)
@pytest.mark.parametrize("case", CASES)
def test_every_candidate_is_found_whole(case: str, layout: str) -> None:
    lengths = CASES[case]
    placed = PLACEMENTS[layout](lengths)
    for c, prompt in enumerate(lengths.prompt_of):
        own, before = lengths.prompts[prompt], sum(lengths.prompts[:prompt])
        first = sum(lengths.prompts) + sum(lengths.responses[:c])
        tokens = [*range(before, before + own), *range(first, first + lengths.responses[c])]
        assert read(lengths, placed, c) == (tokens, list(range(len(tokens))))
    kept = placed.order[placed.order >= 0]
    once = layout == "padded" and case != "prompts of their own"
    assert len(kept) == len(set(kept.tolist())) or once or case == "an empty prompt"


@pytest.mark.parametrize("case", CASES)
def test_a_packed_row_has_no_padding_and_its_bounds_cover_it(case: str) -> None:
    placed = PLACEMENTS["packed"](CASES[case])
    assert placed.order.min() >= 0
    assert placed.bounds is not None
    assert placed.bounds.prompts[-1] + placed.bounds.rows[-1] == placed.order.size
    assert len(placed.bounds.prompts) == len(placed.bounds.trees)
    for cut in placed.bounds:
        assert list(cut) == sorted(cut)


def test_prompts_stand_before_all_responses_and_other_rows_last() -> None:
    placed = PLACEMENTS["packed"](CASES["lists and a row of its own"])
    # prompts 0 and 2 are shared, prompt 1 stands before its only response
    assert placed.bounds == ((0, 4, 10), (0, 6, 16), (0, 3, 4, 6, 15, 16, 22))
    assert placed.order[0, :10].tolist() == [0, 1, 2, 3, *range(5, 11)]
    assert placed.order[0, -6:].tolist() == [4, *range(17, 22)]
    assert placed.part[0].tolist() == [0] * 10 + [1] * 3 + [2] + [3] * 2 + [5] * 9 + [6] + [0] + [4] * 5


@pytest.mark.parametrize("layout", PLACEMENTS)
@pytest.mark.parametrize("score_prompts", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_scored_token_is_predicted_by_the_one_before(case: str, score_prompts: bool, layout: str) -> None:
    lengths = CASES[case]
    placed = PLACEMENTS[layout](lengths)
    found = scored_tokens(lengths, placed, None, score_prompts=score_prompts)
    want: list[tuple[int, int]] = []
    counts = []
    for c, prompt in enumerate(lengths.prompt_of):
        tokens, _ = read(lengths, placed, c)
        skipped = 1 if score_prompts else max(lengths.prompts[prompt], 1)
        want += list(zip(tokens[skipped - 1 :], tokens[skipped:], strict=False))
        counts.append(len(tokens) - skipped)
    assert list(zip(placed.order.ravel()[found.predictors], found.targets, strict=True)) == want
    assert found.counts.tolist() == counts


def test_only_marked_tokens_are_scored() -> None:
    lengths = CASES["pairs"]
    marks = np.array([True, False, True, True, False, True, False, True])
    found = scored_tokens(lengths, PLACEMENTS["packed"](lengths), marks, score_prompts=False)
    assert found.targets.tolist() == [8, 10, 11, 13, 15]
    assert found.counts.tolist() == [1, 3, 0, 1]
