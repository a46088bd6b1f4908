"""Runs of the Trainer in one of two processes, which leaves its weights as FOLDER/RULE.<k>.pt."""

import sys
from pathlib import Path

import torch
from tests.bridges.languages import gpt2, text
from tests.bridges.test_huggingface import Languages, arguments

from equipoise.aggregation import UPGrad
from equipoise.bridges import JSONLines
from equipoise.scalarization import FAMO

RULES = {"UPGrad": UPGrad, "FAMO": FAMO}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name, rule in RULES.items():
        args = arguments(folder / name, num_train_epochs=1)
        args.per_device_train_batch_size = 8
        log = JSONLines(folder / f"{name}.jsonl")
        trainer = Languages(model=gpt2(), args=args, train_dataset=text()[:80], rule=rule(), observers=log)
        trainer.train()
        rank = trainer.args.process_index
        torch.save(trainer.model.state_dict(), folder / f"{name}.{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
