"""GEM beside the program of its authors, as quadprog solves it."""

import numpy as np
import pytest
import quadprog
from tests.external.draws import jacobians

from equipoise.aggregation import GEM


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_equals_quadprog(margin):
    """min v'PP'v / 2 + (Pg)'v over v >= margin, on a thousand matrices at scale one."""
    worst, met = 0.0, 0
    for rows in jacobians(1000, full_rank=True, scales=(1.0,)):
        task, memory = rows[0].numpy(), rows[1:].numpy()
        wanted = task
        if (memory @ task < 0).any():
            count, met = len(memory), met + 1
            found = quadprog.solve_qp(
                memory @ memory.T, -memory @ task, np.eye(count), np.full(count, float(margin))
            )
            wanted = task + found[0] @ memory
        ours = (GEM(margin=margin)(rows @ rows.T) @ rows).numpy()
        worst = max(worst, float(np.linalg.norm(ours - wanted) / rows.norm()))
    assert worst <= 1e-9
    assert met > 500
