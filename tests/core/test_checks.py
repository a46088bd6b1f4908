from math import inf, nan

import pytest

from equipoise.core.checks import check_count, check_finite, check_not_negative, check_positive, check_share
from equipoise.federated import (
    RFFL,
    AdaOMDTCH,
    Bulyan,
    FedAdam,
    FedDisco,
    FedFV,
    FedGTST,
    FedIIR,
    FedProx,
    FedSR,
)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_positive, (1e-300, 5), (0, -1, nan, inf)),
        (check_not_negative, (0, 5.0), (-1e-9, nan, inf)),
        (check_share, (0, 0.999), (1, -0.1, nan)),
        (check_finite, (-3, 0), (nan, -inf)),
        (lambda **options: check_count(2, **options), (2, 3.0, None), (1, 2.5, nan, inf)),
    ],
)
def test_numbers_in_range_pass_and_others_are_named(check, good, bad):
    for value in good:
        check(option=value)
    for value in bad:
        with pytest.raises(ValueError, match=f"option is {value}; it is"):
            check(option=value)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (FedProx, ("mu",)),
        (FedGTST, ("xi",)),
        (FedIIR, ("penalty", "ema")),
        (FedSR, ("length", "information", "width")),
        (FedDisco, ("a", "b")),
        (FedFV, ("tau",)),
        (RFFL, ("clip", "alpha", "threshold", "patience")),
        (AdaOMDTCH, ("max_iterates", "step_size")),
        (Bulyan, ("byzantine",)),
        (FedAdam, ("learning_rate", "tau", "first", "beta_1")),
    ],
)
def test_nan_is_no_option_of_a_system(make, options):
    for option in options:
        with pytest.raises(ValueError, match=f"{option} is nan"):
            make(**{option: nan})
