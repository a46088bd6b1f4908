"""Statistics of experts from their problem: each from its own inputs, ready for `merge`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from tests.merging.experts import VIEWS, accuracy, digits, experts, network
from torch import nn
from torch.nn import functional

from equipoise.core.problem import Metric, Problem
from equipoise.core.tensorfile import TensorFile
from equipoise.merging import Fisher, RegMean, calibrate, calibrate_problem, merge


@dataclass
class Views(Problem):
    """A batch maps each view to its images and labels; now and then a view is absent."""

    common: bool = False
    objectives: ClassVar[tuple[str, ...]] = tuple(VIEWS)
    metrics: ClassVar[Any] = {name: Metric("accuracy", "higher") for name in VIEWS}

    def model(self) -> nn.Module:
        return network()

    def batches(self, split: str, generator: torch.Generator | None) -> Iterable[Any]:
        images, labels = digits()
        order = torch.randperm(1000, generator=generator)
        for i, rows in enumerate(order.split(50)):
            if self.common:
                yield images[rows], labels[rows]
            else:
                yield {n: (v(images[rows]), labels[rows]) for n, v in VIEWS.items() if i % 2 or n != "turned"}

    def losses(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        if self.common:
            return {"plain": functional.cross_entropy(model(batch[0]), batch[1])}
        return {n: functional.cross_entropy(model(x), y) for n, (x, y) in batch.items()}

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        return {}


def seen(name, count, problem):
    """The first samples of an objective in the order of the problem."""
    found = [b[name] for b in problem.batches("train", torch.Generator().manual_seed(0)) if name in b]
    return torch.cat([x for x, _ in found])[:count], torch.cat([y for _, y in found])[:count]


def test_each_expert_is_measured_on_its_own_inputs(tmp_path):
    models, _ = experts()
    found = calibrate_problem(Views(), models, tmp_path, samples=70)
    assert {kind: set(paths) for kind, paths in found.items()} == {"gram": set(VIEWS), "fisher": set(VIEWS)}
    model = network()
    for name, tensors in models.items():
        model.load_state_dict(tensors)
        right = calibrate(model, [seen(name, 70, Views())], labels="given")
        for kind, paths in found.items():
            file = TensorFile(paths[name])
            assert file.metadata["kind"] == kind
            assert file.metadata["samples"] == "70"
            assert set(file) == set(right[kind])
            for key, tensor in right[kind].items():
                torch.testing.assert_close(file[key], tensor, rtol=1e-3, atol=1e-6)


def test_the_files_go_into_merge_and_the_wrong_kind_is_refused(tmp_path):
    models, base = experts()
    found = calibrate_problem(Views(), models, tmp_path, samples=200)
    regression = merge(models, base, method=RegMean(), statistics=found["gram"])
    assert sum(accuracy(regression).values()) > sum(accuracy(merge(models, method="average")).values())
    information = merge(models, base, method=Fisher(), statistics=found["fisher"])
    assert all(tensor.isfinite().all() for tensor in information.values())
    with pytest.raises(ValueError, match="holds 'fisher', but RegMean asks for 'gram'"):
        merge(models, base, method=RegMean(), statistics=found["fisher"])


def test_a_common_input_serves_every_objective(tmp_path):
    models, _ = experts()
    found = calibrate_problem(
        Views(common=True), {"plain": models["plain"]}, tmp_path, kinds=("gram",), samples=30
    )
    gram = TensorFile(found["gram"]["plain"])["0.weight"]
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:30]
    images = digits()[0][order].double()
    torch.testing.assert_close(gram, images.T @ images, rtol=1e-6, atol=1e-9)


def test_faults_are_named(tmp_path):
    models, base = experts()
    with pytest.raises(ValueError, match="no objective is called 'plane'; nearest: plain"):
        calibrate_problem(Views(), {"plane": base}, tmp_path)
    with pytest.raises(ValueError, match="plain does not fit Sequential"):
        calibrate_problem(Views(), {"plain": {"0.weight": torch.ones(2)}}, tmp_path)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="turned does not fit Sequential"):
        calibrate_problem(Views(), {"plain": models["plain"], "turned": {"0.weight": torch.ones(2)}}, out)
    assert not out.exists()
    with pytest.raises(ValueError, match="no batch of train holds the objective turned"):
        calibrate_problem(Views(common=True), {"turned": models["turned"]}, tmp_path)
    assert list(tmp_path.iterdir()) == []
