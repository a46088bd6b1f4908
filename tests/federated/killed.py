"""A run that is killed, as by `kill -9`, at a named point: python killed.py FOLDER POINT WAY."""

import os
import signal
import sys
from pathlib import Path

from tests.federated.small import Small

from equipoise.federated import SCAFFOLD, Local, Participation, federate
from equipoise.federated.engine import checkpoint
from equipoise.federated.engine.checkpoint import STATE

ROUNDS = 5


def run(folder, way, **options):
    return federate(
        Small(),
        SCAFFOLD(),  # has a state at the server and one at each client
        rounds=ROUNDS,
        local=Local(epochs=2, batch_size=4, learning_rate=0.1),
        participation=Participation(count=3),
        batching=way,
        out=folder,
        **options,
    )


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(Small):
    """Dies in the midst of a round's training."""

    calls = 0

    def losses(self, model, batch):
        Dying.calls += 1
        if Dying.calls == int(os.environ["DIE_AT"]):
            die()
        return super().losses(model, batch)


Dying.__name__ = "Small"  # the run is the same


def main(folder, point, way):
    if point == "training":
        globals()["Small"] = Dying
    elif point == "between":  # the record of round 3 lies there, its state does not
        write = checkpoint.write_tensors

        def only_before(path, tensors, metadata):
            if metadata["round"] == "3":
                die()
            write(path, tensors, metadata)

        checkpoint.write_tensors = only_before
    elif point == "record":  # half of the line of round 3 lies there
        save = checkpoint.Folder.save

        def half(self, record, groups, extra):
            if record.number == 3:
                with (self.path / checkpoint.ROUNDS).open("a") as file:
                    file.write('{"number": 3, "asked": ["a", ')
                die()
            save(self, record, groups, extra)

        checkpoint.Folder.save = half
    told = die if point == "first" else lambda record: die() if record.number == 3 else None
    run(folder, way, told=told)
    assert (Path(folder) / STATE).exists()


if __name__ == "__main__":
    main(*sys.argv[1:])
