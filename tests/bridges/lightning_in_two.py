"""Lightning runs in two processes, each of which leaves its weights as FOLDER/RULE/rank<k>.pt."""

import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from tests.bridges.networks import digits
from tests.bridges.test_lightning import Digits

from equipoise.aggregation import UPGrad
from equipoise.bridges import JSONLines
from equipoise.scalarization import FAMO

RULES = {"UPGrad": UPGrad, "FAMO": FAMO}


class InTurns:
    """The batches of a process: every other image of the order that one process goes through."""

    def __len__(self) -> int:
        return 8

    def __iter__(self):
        data, rank = digits(), torch.distributed.get_rank()
        for start in range(0, len(data), 32):
            yield data[start + rank : start + 32 : 2]


def train(folder: Path, rule: str) -> None:
    folder.mkdir(exist_ok=True)
    module = Digits(RULES[rule](), observers=JSONLines(folder / "steps.jsonl"))
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, train_dataloaders=InTurns())
    torch.save(module.net.state_dict(), folder / f"rank{trainer.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in RULES:
        train(Path(sys.argv[1]) / name, name)
