"""Options that are no numbers are told by their names, before a tensor is read."""

import pytest
import torch

from equipoise.merging import DOGE, TIES, Average, Karcher, LiNeS, TaskArithmetic, merge

NAN, INF = float("nan"), float("inf")
MODELS = {"a": {"w": torch.ones(2, 2)}, "b": {"w": torch.zeros(2, 2)}}
BASE = {"w": torch.zeros(2, 2)}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Average(weight=NAN), "Average: weight is nan"),
        (Average(weight=[1, NAN]), "Average: weight is nan"),
        (Average(weight={"a": INF, "b": 1}), "Average: weight of a is inf"),
        (Average(weight=torch.tensor([1, INF])), "Average: weight is inf"),  # pyright: ignore[reportArgumentType]
        (TaskArithmetic(scale=NAN), "TaskArithmetic: scale is nan"),
        (TIES(scale=NAN), "TIES: scale is nan"),
        (LiNeS(beta=NAN), "LiNeS: beta is nan"),
        (LiNeS(TaskArithmetic(weight=NAN)), "TaskArithmetic: weight is nan"),
    ],
)
def test_the_option_is_blamed_and_not_the_model(rule, words):
    with pytest.raises(ValueError, match=f"{words}; give a finite number"):
        merge(MODELS, BASE, method=rule)


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (DOGE, "rate", -1.0),
        (DOGE, "iterations", -1),
        (DOGE, "eta", NAN),
        (Karcher, "max_iter", -1),
        (Karcher, "tol", -1.0),
        (Karcher, "tol", NAN),
    ],
)
def test_numbers_that_mean_nothing_are_refused(kind, option, value):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {option} is {value}; .* 0 or more"):
        kind(**{option: value})
