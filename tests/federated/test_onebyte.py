from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.federated.small import Small
from tests.federated.watched import WHOLE, digits, flat, run

from equipoise.core.tensorfile import TensorFile
from equipoise.federated import FedAvg, Local, NotANumber, OneByte, Participation, View, federate
from equipoise.federated.bytecode import Byte, present
from equipoise.federated.engine.coordinator import first_model
from equipoise.federated.engine.placed import parameters_of
from equipoise.federated.engine.seeds import generator

ONE = Local(steps=1, batch_size=None, learning_rate=0.02)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()


def direction(place, number):
    """Of the softmax network, in the order of its parameters: weight, bias."""
    draws = generator(0, "direction", place, number)
    bias, weight = torch.randn(650, generator=draws).double().split([10, 640])
    return torch.cat([weight, bias]).numpy()


def loss(vector, examples):
    """Softmax regression in NumPy."""
    inputs, labels = (part.numpy() for part in examples)
    logits = inputs.reshape(len(inputs), -1) @ vector[:640].reshape(10, 64).T + vector[640:]
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels])


def rounded(number):
    """To the nearest exp(k / 8) by logarithm, k from -126 to 0."""
    k = np.clip(np.round(8 * np.log(abs(number))), -126, 0)
    return np.sign(number) * np.exp(k / 8)


def test_rounds_are_those_of_the_paper_with_the_rounded_number_in_use():
    """Zelikman et al. 2023, three rounds; each client keeps the model by the log alone."""
    on = digits()
    _, seen = run(OneByte(), 3, on=on, local=ONE)
    for number, one in enumerate(seen):
        at = flat(one.round.parameters)
        step = np.zeros(650)
        for place, name in enumerate(on.clients):
            z, examples = direction(place, number), on.examples(name, "train")
            slope = (loss(at + 1e-3 * z, examples) - loss(at - 1e-3 * z, examples)) / 2e-3
            step += rounded(-0.02 * slope) * z / 5
        np.testing.assert_allclose(one.step, step, rtol=1e-9, atol=1e-14)


def test_several_batches_add_up_along_one_direction():
    on = digits()
    _, seen = run(OneByte(exact=True), 1, on=on, local=replace(ONE, steps=3))
    place, name = 2, on.clients[2]
    at, z, examples = flat(seen[0].round.parameters), direction(place, 0), on.examples(name, "train")
    slope = (loss(at + 1e-3 * z, examples) - loss(at - 1e-3 * z, examples)) / 2e-3
    assert float(seen[0].round.sent["code"][place]) == pytest.approx(-0.02 * 3 * slope, rel=1e-8)


def test_over_many_directions_a_step_is_a_step_of_descent():
    """E z z' g = g: with a learning rate for each of many seeds, the mean step is the gradient's."""
    on, found = digits(split="iid"), 0.0
    _, plain = run(FedAvg(), 1, on=on, local=ONE)
    for seed in range(150):
        _, seen = run(OneByte(exact=True, seed=seed), 1, on=on, local=ONE)
        found = found + seen[0].step / 150
    along = found @ plain[0].step / (plain[0].step @ plain[0].step)
    assert along == pytest.approx(1.0, abs=0.2)


def test_a_byte_holds_numbers_to_six_and_a_half_per_cent():
    code = Byte(2.0)
    sizes = torch.logspace(-6.4, 0.3, 4001, dtype=torch.float64)
    numbers = torch.cat([sizes, -sizes])
    coded = code.encode(numbers)
    assert coded.dtype == torch.uint8
    assert len(coded.unique()) > 245
    assert float((code.decode(coded) / numbers - 1).abs().max()) <= np.exp(1 / 16) - 1 + 1e-12
    assert bool(present(coded).all())
    odd = torch.tensor([0.0, -0.0, 1e-30, 50.0, -50.0, float("inf")], dtype=torch.float64)
    assert code.decode(code.encode(odd)).tolist() == [0, 0, 0, 2, -2, 2]
    assert bool(present(code.encode(odd)).all())
    assert not bool(present(torch.zeros(1, dtype=torch.uint8)))
    every = torch.arange(1, 256, dtype=torch.uint8)
    assert torch.equal(code.encode(code.decode(every)), every)


def kept(folder, place):
    """The model that a client holds, and how many rounds of the log it knows."""
    file = TensorFile(folder / "state.safetensors")
    names = ("model/1.weight", "model/1.bias")
    model = np.concatenate([file[f"kept/{name}"][place].flatten().numpy() for name in names])
    return model, int(file["kept/rounds"][place])


@pytest.mark.parametrize("network_dtype", ["float32", "float64"])
def test_who_joins_late_replays_to_the_same_bits(tmp_path, network_dtype):
    """Two of five clients in a round: the bytes alone bring a model up to date, however old it is."""
    on, models, waited, before = digits(dtype=network_dtype), {}, [], [0] * 5
    options = {"participation": Participation(count=2), "local": ONE, "test": False, "evaluate_every": 1}
    for number in range(1, 13):
        done = federate(on, OneByte(), rounds=number, out=tmp_path, **options)
        models[number] = weights(done.model)
        for name in done.history[-1].asked:
            place = on.clients.index(name)
            model, known = kept(tmp_path, place)
            assert known == number - 1
            waited.append(known - before[place])
            before[place] = known
            if number > 1:
                np.testing.assert_array_equal(model, models[number - 1])
    assert max(waited) > 3


def test_messages_are_a_byte_up_and_the_log_down():
    """Beside the byte a client says how many examples and steps it had, and its loss: 24 bytes."""
    done = federate(digits(), OneByte(), rounds=3, local=ONE, test=False)
    assert [record.up for record in done.history] == [5 * (1 + 24)] * 3
    assert [record.down for record in done.history] == [5 * 8, 5 * (8 + 5), 5 * (8 + 5)]


def test_a_client_that_lost_its_model_says_so_and_gets_the_whole_log():
    on, system = digits(), OneByte()
    done, seen = run(system, 4, on=on, local=ONE)
    client, server = system.client, system.server
    state = seen[-1].outcome.state
    first = parameters_of(first_model(on, system, 0))
    anew = client.start(first)
    context = server.context(state, "client-01")
    assert int(context["first"]) == 3
    stale = client.receive({}, anew, context)
    np.testing.assert_array_equal(flat(stale), flat(first))
    view = View(stale, anew, context, 0.02, torch.tensor(1.0), torch.tensor(1.0))
    reply = client.reply(stale, view)
    assert not bool(present(reply.sent["code"][None]))
    assert int(reply.kept["rounds"]) == 0
    round = seen[-1].round
    codes = round.sent["code"].clone()
    codes[1] = reply.sent["code"]
    parameters = {name: p.detach() for name, p in done.model.named_parameters()}
    after = server.aggregate(state, replace(round, sent={"code": codes}, parameters=parameters))
    whole = server.context(after.state, "client-01")
    assert (int(whole["first"]), len(whole["log"])) == (0, 5)
    model = client.receive({}, anew, whole)
    np.testing.assert_array_equal(flat(model), flat({n: parameters[n] + after.update[n] for n in parameters}))


def test_nobody_else_moves_the_model():
    """A client whose byte is refused, and rounds without anybody, leave no step in the log."""
    on = digits()
    attacks = {"client-02": NotANumber()}
    _, seen = run(OneByte(exact=True), 2, on=on, local=ONE, attacks=attacks)
    log = seen[-1].outcome.state["log"]
    assert not bool(present(log)[:, 2].any())
    assert bool(present(log)[:, [0, 1, 3, 4]].all())
    rare = Participation(probability=0.2)
    done, seen = run(OneByte(), 8, on=on, local=ONE, participation=rare)
    assert 0 < len(seen) < 8
    assert len(seen[-1].outcome.state["log"]) == len(seen)
    assert np.isfinite(weights(done.model)).all()


def test_a_run_goes_on_where_it_was(tmp_path):
    options = {"local": WHOLE, "test": False, "evaluate_every": 1}
    whole = federate(digits(), OneByte(), rounds=4, **options)
    federate(digits(), OneByte(), rounds=2, out=tmp_path, **options)
    again = federate(digits(), OneByte(), rounds=4, out=tmp_path, **options)
    np.testing.assert_array_equal(weights(again.model), weights(whole.model))


def test_both_losses_of_a_slope_are_taken_under_the_same_dropout():
    """Under two masks their difference would not shrink with epsilon, and the step grow as its inverse."""
    sizes = []
    for epsilon in (1e-3, 1e-6):
        on = Small(network="dropout")
        _, seen = run(OneByte(epsilon=epsilon, exact=True), 1, on=on, local=ONE)
        sizes.append(seen[0].step)
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=1e-2, atol=1e-6)


def test_training_together_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="SlopeClient trains one client at a time"):
        federate(digits(), OneByte(), rounds=1, batching="batched")
    assert federate(digits(), OneByte(), rounds=1, local=ONE).choice.together == 1


def test_options_out_of_range_are_refused():
    for name in ("epsilon", "largest", "learning_rate"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            OneByte(**{name: 0})
