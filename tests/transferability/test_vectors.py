"""Every score against what peers' own code gives on the same inputs."""

from functools import partial

import numpy as np
import pytest
from tests.transferability.cases import CASES, case, needs_vectors

from equipoise import transferability as scores

PEERS = {
    "leep(thuml/LogME, mean log)": scores.leep,
    "nce(thuml/LogME, z=argmax P)": scores.nce,
    "h_score(tllib)": scores.hscore,
    "h_score_ledoit_wolf(tllib regularized_h_score)": partial(scores.hscore, shrinkage=True),
    "transrate(tllib, eps=1e-4)": scores.transrate,
    "sfda(TencentARC/SFDA SFDA_Score)": scores.sfda,
    "etran_lda(mgholamikn/ETran LDA_Score)": scores.ncm,
    "nearest_class_mean_softmax_prob(== etran_lda)": scores.ncm,
    "etran_energy_bot0.5pct(Energy_Score(X,0.5,bot))": scores.energy,
    "etran_energy_bot_percent100": partial(scores.energy, share=1),
    "tmi(snudatalab/TMI k=3,max-norm,min_dist=1)": scores.tmi,
    "gbc_diagonal": partial(scores.gbc, components=None),
    "gbc_spherical_official(log term counted once)": partial(
        scores.gbc, components=None, spherical=True, legacy=True
    ),
    "gbc_spherical_textbook(log term times D)": partial(scores.gbc, components=None, spherical=True),
}


@needs_vectors
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("peer", PEERS)
def test_what_the_peer_gives(name, peer):
    x, y, p, _, found = case(name)
    if found[peer] == "nan":
        assert len(x) < 200  # the peer's share of them is none
        return
    assert PEERS[peer](x, y, p) == pytest.approx(found[peer], rel=1e-7, abs=1e-9)


@needs_vectors
@pytest.mark.parametrize("name", CASES)
def test_parc_is_the_peers_but_for_ties(name):
    """In the peer's code rounding tells equal label distances apart, so its ranks of ties are accidents."""
    x, y, _, _, found = case(name)
    assert scores.parc(x, y, components=None) == pytest.approx(found["parc_fnone"], abs=0.2)


@needs_vectors
@pytest.mark.parametrize("name", CASES)
def test_ped_pushes_as_the_peer_does(name):
    x, y, _, _, found = case(name)
    seed = CASES[name]["params"]["seed"] + 1000
    reference = np.random.RandomState(seed).randn(400, x.shape[1]) * 1.5
    peer = next(value for key, value in found.items() if key.startswith("ped_sfda"))
    assert scores.ped(x, y, reference=reference) == pytest.approx(peer, rel=1e-9)


@needs_vectors
@pytest.mark.parametrize("name", CASES)
def test_nleep_is_near_what_the_peer_draws(name):
    """The peer's mixture starts from its own draw: 0.1 of a mean probability, by which its seeds differ."""
    x, y, _, _, found = case(name)
    peer = found["nleep_prob(SFDA NLEEP ratio5: mean prob, np.random.seed(0))"]
    assert scores.nleep(x, y, logarithm=False) == pytest.approx(peer, abs=0.1)
