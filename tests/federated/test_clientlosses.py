import numpy as np
import pytest
import torch
from tests.federated.watched import digits, run

from equipoise.federated import TERM, Local


@pytest.mark.parametrize("losses", ["before", "during"])
def test_losses_are_those_of_the_models_that_the_option_names(losses):
    on = digits()
    _, (seen,) = run(TERM(losses=losses), 1, on=on, local=Local(steps=1, batch_size=None))
    model = torch.nn.Linear(64, 10, dtype=torch.float64)
    model.load_state_dict({name[2:]: tensor for name, tensor in seen.round.parameters.items()})
    wanted = []
    for client in on.clients:
        images, labels = on.examples(client, "train")
        wanted.append(torch.nn.functional.cross_entropy(model(images.flatten(1)), labels).item())
    used = TERM(losses=losses).server.losses_of(seen.round).numpy()
    np.testing.assert_allclose(used, wanted, rtol=1e-9)
    assert ("loss" in seen.round.side) == (losses == "before")


def test_over_several_steps_the_losses_during_them_are_lower():
    _, (seen,) = run(TERM(losses="before"), 1)
    assert (seen.losses("loss_during") < seen.losses("loss")).all()


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="losses is 'after'"):
        TERM(losses="after")  # pyright: ignore[reportArgumentType]
