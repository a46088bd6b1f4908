"""Thresholds found by selection and by digits are those of a full sort, whatever the numbers are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.merging.block import CHUNK, Block, Blocks
from equipoise.merging.digits import global_values
from equipoise.merging.source import Source, StateDict
from equipoise.merging.threshold import ALL, NONE, kept, thresholds, trim


def block(rows, name="w", names="abcdefgh"):
    """A block whose task vectors are `rows`, above a base of zeros."""
    base = Source(StateDict({name: torch.zeros_like(rows[0])}, "base"), name)
    sources = tuple(Source(StateDict({name: row}, "model"), name) for row in rows)
    return Block(name, rows[0].shape, tuple(names[: len(rows)]), sources, base, rows.dtype)


def exact_mask(row, rank):
    """The `rank` largest magnitudes; of equal ones the first."""
    order = row.abs().sort(descending=True, stable=True).indices
    return torch.zeros(len(row), dtype=torch.bool).index_fill_(0, order[:rank], True)


def trimmed(given, found):
    parts = [trim(part, part.deltas, [row[0] for row in found]) for part in given.parts()]
    return torch.cat(parts, 1)


def numbers(kind, size, dtype, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, size, generator=draw, dtype=dtype)
    match kind:
        case "coarse":  # many equal magnitudes, as models stored in bfloat16 have
            return (rows * 8).round() / 8
        case "bfloat16":
            return (rows.mul(0.02).bfloat16() + rows.flip(1).mul(0.001).bfloat16()).to(dtype)
        case "equal":
            return torch.full_like(rows, -0.3)
        case "zeros":
            return torch.zeros_like(rows)
        case "sparse":
            return rows.masked_fill_(rows.abs() < 1.5, -0.0)
        case "denormal":
            return rows * torch.finfo(dtype).tiny
        case "wide":  # sixty orders of magnitude in float64, thirty in float32
            return rows.sign() * 10 ** (rows * (4 if dtype == torch.float32 else 10))
        case "ordered":  # a sample of it is not alike at both ends
            return rows.sort().values
        case "blocks":  # what a sample of slices does not see
            rows[:, 3000:9000] = 50.0
            return rows
    return rows


KINDS = ["plain", "coarse", "bfloat16", "equal", "zeros", "sparse", "denormal", "wide", "ordered", "blocks"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 24, 5 * CHUNK + 77])
def test_selection_keeps_what_a_full_sort_keeps(kind, dtype, size):
    rows = numbers(kind, size, dtype)
    given = block(rows)
    for share in (0.001, 0.2, 0.5, 0.97):
        rank = kept(share, size)
        found = thresholds(given, [[rank], [rank]])
        for row, out in zip(rows, trimmed(given, found), strict=True):
            assert torch.equal(out, torch.where(exact_mask(row, rank), row, 0.0))
        value = thresholds(given, [[rank], [rank]], exact=False)[0][0].value
        if 0 < rank < size:
            assert value == float(rows[0].abs().sort(descending=True).values[rank - 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_digits_give_the_rank_over_all_tensors(kind, dtype):
    rows = numbers(kind, 3 * CHUNK + 11, dtype)
    pieces = [block(piece.contiguous(), f"w{i}") for i, piece in enumerate(rows.split(CHUNK + 1001, dim=1))]
    for rank in (1, 17, rows.shape[1] // 5, rows.shape[1]):
        ordered = rows.abs().sort(descending=True).values
        right = {"a": float(ordered[0, rank - 1]), "b": float(ordered[1, rank - 1])}
        for threads in (1, 3):
            assert global_values(Blocks(pieces, threads), {"a": rank, "b": rank}) == right


@given(
    st.lists(st.floats(-2, 2, width=32, allow_subnormal=True), min_size=1, max_size=60),
    st.integers(0, 60),
)
def test_any_numbers_and_any_rank(values, rank):
    row = torch.tensor(values, dtype=torch.float32)
    given_block = block(row[None])
    out = trimmed(given_block, thresholds(given_block, [[rank]]))[0]
    mask = exact_mask(row, rank)
    assert torch.equal(out, torch.where(mask, row, 0.0))
    if 0 < rank <= len(row):
        value = global_values(Blocks([given_block]), {"a": rank})["a"]
        assert value == float(row.abs().sort(descending=True).values[rank - 1])


def test_tensors_of_unlike_precision_share_one_rank():
    wide = block(torch.tensor([[0.5, 1e-300, 3.0]], dtype=torch.float64), "wide")
    short = block(torch.tensor([[0.1, 2.0]]), "short")
    found = {rank: global_values(Blocks([wide, short]), {"a": rank})["a"] for rank in range(1, 6)}
    assert list(found.values()) == [3.0, 2.0, 0.5, float(torch.tensor(0.1)), 1e-300]


def test_a_model_counts_where_it_is():
    both = block(torch.tensor([[1.0, 2.0], [5.0, 6.0]]), "both")
    one = block(torch.tensor([[9.0, 8.0, 7.0]]), "one", names="b")
    assert global_values(Blocks([both, one]), {"a": 2, "b": 3}) == {"a": 1.0, "b": 7.0}


def test_all_and_none_cost_no_reading():
    broken = Block("w", torch.Size([3]), ("a",), (), None)
    assert thresholds(broken, [[0, 3, 4]]) == [[NONE, ALL, ALL]]


def test_several_ranks_of_one_stream():
    given_block = block(torch.tensor([[4.0, -3.0, 2.0, 1.0]]))
    assert [t.value for t in thresholds(given_block, [[1, 3]])[0]] == [4.0, 2.0]
