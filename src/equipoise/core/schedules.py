"""The schedule that a call asks for."""

from equipoise.core.call import Call
from equipoise.core.faults import explained
from equipoise.core.persample import sample_schedule
from equipoise.core.plan import Schedule, schedule


def scheduled(call: Call, whole: bool = False) -> tuple[Schedule, tuple[str, ...]]:
    """The forms and shares of the shared parameters, and what is to be noted of them.

    `whole`: all directions of a parameter are needed at the same time.
    """
    with explained(call.names):  # the inputs of layers are read here, and a graph that is gone has none
        if call.samples is not None:
            return sample_schedule(call, whole)
        return schedule(call.shared, call.leaf_names, call.graph, len(call.names), call.budget, whole), ()
