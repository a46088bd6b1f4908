"""Who takes part: draws by seed, round and name alone."""

import pytest

from equipoise.federated import Participation

CLIENTS = tuple(f"c{i}" for i in range(20))


def turns(participation, rounds=400, seed=0):
    return [participation.turn(CLIENTS, seed, number) for number in range(1, rounds + 1)]


def rates(asked):
    return {name: sum(name in one for one in asked) / len(asked) for name in CLIENTS}


def test_by_default_all_take_part_and_do_all_their_work():
    for turn in turns(Participation(), 3):
        assert turn.names == CLIENTS
        assert turn.efforts == (1.0,) * 20
        assert turn.lost == frozenset()


@pytest.mark.parametrize(
    ("participation", "size"), [(Participation(count=5), 5), (Participation(fraction=0.3), 6)]
)
def test_so_many_are_drawn_all_alike_and_in_the_order_of_the_clients(participation, size):
    asked = [turn.names for turn in turns(participation)]
    for names in asked:
        assert len(set(names)) == size
        assert sorted(names, key=CLIENTS.index) == list(names)
    for rate in rates(asked).values():  # 4.5 standard errors of 400 rounds
        assert rate == pytest.approx(size / 20, abs=0.11)
    assert participation.chance("c3", CLIENTS) == size / 20


def test_a_small_fraction_is_one_client():
    assert all(len(turn.names) == 1 for turn in turns(Participation(fraction=0.001), 5))


def test_each_is_asked_with_its_probability_and_without_one_always():
    participation = Participation(probability={"c0": 0.1, "c1": 0.8})
    found = rates([turn.names for turn in turns(participation)])
    assert found["c0"] == pytest.approx(0.1, abs=0.07)
    assert found["c1"] == pytest.approx(0.8, abs=0.09)
    assert found["c2"] == 1
    assert [participation.chance(name, CLIENTS) for name in ("c0", "c1", "c2")] == [0.1, 0.8, 1.0]


def test_a_round_may_be_without_anybody():
    assert any(turn.names == () for turn in turns(Participation(probability=0.05), 50))


def test_those_who_drop_out_are_of_those_asked():
    participation = Participation(count=10, dropout=0.25)
    found = turns(participation)
    assert all(turn.lost <= set(turn.names) for turn in found)
    assert sum(len(turn.lost) for turn in found) / 4000 == pytest.approx(0.25, abs=0.035)
    assert participation.chance("c0", CLIENTS) == 0.5 * 0.75


def test_efforts_are_drawn_in_their_range_or_given_by_name():
    drawn = [effort for turn in turns(Participation(effort=(0.2, 0.6)), 50) for effort in turn.efforts]
    assert 0.2 <= min(drawn) < 0.21
    assert 0.59 < max(drawn) <= 0.6
    assert turns(Participation(effort={"c1": 0.5}), 1)[0].efforts[:3] == (1.0, 0.5, 1.0)
    assert set(turns(Participation(effort=(0.5, 0.5)), 1)[0].efforts) == {0.5}


def test_draws_depend_on_seed_and_round_and_on_nothing_else():
    participation = Participation(fraction=0.5, dropout=0.3, effort=(0.1, 1.0))
    assert turns(participation, 5) == turns(participation, 5)
    assert participation.turn(CLIENTS, 0, 4) == turns(participation, 5)[3]
    assert len({turn.names for turn in turns(participation, 5)}) == 5
    assert turns(participation, 5) != turns(participation, 5, seed=1)


def test_who_is_asked_does_not_depend_on_drop_outs_nor_effort_on_who_is_asked():
    plain, more = Participation(count=7), Participation(count=7, dropout=0.4, effort=(0.1, 1.0))
    assert [t.names for t in turns(plain, 9)] == [t.names for t in turns(more, 9)]
    everyone = Participation(effort=(0.1, 1.0))
    for some, whole in zip(turns(more, 9), turns(everyone, 9), strict=True):
        efforts = dict(zip(whole.names, whole.efforts, strict=True))
        assert dict(zip(some.names, some.efforts, strict=True)).items() <= efforts.items()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"count": 2, "fraction": 0.5}, "count and fraction are given"),
        ({"fraction": 0.5, "probability": 0.5}, "fraction and probability are given"),
        ({"count": 0}, "count is 0"),
        ({"fraction": 0.0}, "fraction is 0"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"probability": 0.0}, "probability is 0"),
        ({"probability": {"c1": 2.0}}, "probability is "),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"effort": (0.0, 1.0)}, "effort is "),
        ({"effort": (0.8, 0.2)}, "effort is "),
        ({"effort": {"c1": 1.2}}, "effort is "),
        ({"probability": float("nan")}, "probability is nan"),
    ],
)
def test_what_is_out_of_range_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        Participation(**options)


@pytest.mark.parametrize(
    ("participation", "told"),
    [
        (Participation(count=21), "count is 21, but there are 20 clients"),
        (Participation(probability={"c99": 0.5}), "no client is called 'c99'"),
        (Participation(effort={"x": 0.5}), "no client is called 'x'"),
    ],
)
def test_what_does_not_fit_the_clients_is_refused(participation, told):
    with pytest.raises(ValueError, match=told):
        participation.check(CLIENTS)
