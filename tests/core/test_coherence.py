import json

import pytest
import torch

import equipoise
from equipoise import Bundle
from equipoise.core.coherence import coherence
from equipoise.core.diagnosis import Diagnosis


def drawn(m: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("m", [1, 2, 7, 50])
def test_equal_directions_have_m_coherence_m_and_orthogonal_ones_1(m):
    """Zielinski & Chatterjee 2020: the two reference values."""
    assert coherence(torch.ones(m, m)) * m == pytest.approx(m)
    assert coherence(torch.eye(m)) * m == pytest.approx(1)


def test_it_is_the_mean_inner_product_of_two_over_that_of_one_with_itself():
    rows = drawn(9, 20)
    wanted = float(rows.mean(0).square().sum() / rows.square().sum(1).mean())
    assert coherence(rows @ rows.T) == pytest.approx(wanted)


def test_k_groups_of_alike_orthogonal_to_each_other_have_coherence_1_over_k():
    rows = torch.eye(3).repeat_interleave(4, dim=0)
    assert coherence(rows @ rows.T) == pytest.approx(1 / 3)


def test_opposites_and_zeros_have_none():
    assert coherence(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])) == 0.0
    assert coherence(torch.zeros(3, 3)) == 0.0


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_the_size_of_the_directions_does_not_matter(size):
    rows = drawn(5, 8)
    scaled = size * rows
    assert coherence(scaled @ scaled.T) == pytest.approx(coherence(rows @ rows.T))


def test_the_diagnosis_has_it_as_a_whole_and_by_block():
    alike, apart = torch.ones(4, 3), torch.eye(4)
    found = equipoise.diagnose(Bundle(list("abcd"), {"alike": alike, "apart": apart}))
    assert [block.coherence for block in found.blocks] == pytest.approx([1.0, 0.25])
    rows = torch.cat([alike, apart], dim=1)
    assert found.coherence == pytest.approx(coherence(rows @ rows.T))
    assert "A step along one serves about 3.25 of 4 directions (coherence 0.81)." in found.reading()
    assert found.table().splitlines()[-1].split() == ["coherence", "0.812"]


def test_json_written_before_it_was_measured_still_loads():
    found = equipoise.diagnose(Bundle(list("abc"), {"w": drawn(3, 5)}))
    assert Diagnosis.from_json(found.to_json()) == found
    old = json.loads(found.to_json())
    del old["coherence"], old["opposing"]
    for block in old["blocks"]:
        del block["coherence"]
    loaded = Diagnosis.from_json(json.dumps(old))
    assert loaded.coherence is None
    assert loaded.blocks[0].coherence is None
    assert loaded.opposing is None
    assert "coherence" not in loaded.reading()
    assert loaded.table().splitlines()[-1].split() == ["coherence", "not", "measured"]
    assert loaded.cosines == found.cosines
