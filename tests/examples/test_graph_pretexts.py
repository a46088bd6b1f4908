"""The example runs on a few steps, on the whole graph, and its parts are what they say."""

import pytest
import torch

from equipoise.aggregation import Mean


@pytest.fixture(scope="module")
def example(example_of):
    return example_of("graph_pretexts")


def test_a_short_run_prints_a_line_for_each_row(example, capsys, tmp_path):
    example.main(["--seeds", "1", "--steps", "2", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    wanted = ["pixels", "untrained", *(f"{name} alone" for name in example.Pretexts.names), *example.RULES]
    assert [line[:20].strip() for line in lines[1:-3]] == wanted
    accuracies = [float(line[20:].split("±")[0]) for line in lines[1:-3]]
    assert all(0.1 < accuracy <= 1 for accuracy in accuracies)


def test_neighbours_mostly_share_their_digit(example):
    """What makes the graph worth learning from."""
    graph = example.digits_graph()
    same = graph.y[graph.edges[0]] == graph.y[graph.edges[1]]
    assert float(same.double().mean()) > 0.9
    assert torch.equal(graph.adjacency.to_dense(), graph.adjacency.to_dense().T)


def test_the_adjacency_is_that_of_graph_convolution(example):
    """A path a - b - c: degrees with self-loops 2, 3, 2."""
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    wanted = torch.tensor([[1 / 2, 6**-0.5, 0.0], [6**-0.5, 1 / 3, 6**-0.5], [0.0, 6**-0.5, 1 / 2]])
    torch.testing.assert_close(example.normalised(edges, 3).to_dense(), wanted)


def test_every_task_reaches_the_encoder_and_can_be_learned(example):
    for name in example.Pretexts.names:
        torch.manual_seed(0)
        model, graph = example.Pretexts(), example.digits_graph()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        values = []
        for _ in range(6):
            loss = model.losses(graph, (name,), torch.Generator().manual_seed(0))[name]
            values.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            assert model.encoder.first.weight.grad is not None
            assert bool(model.encoder.first.weight.grad.any()), name
            optimizer.step()
        assert values[-1] < values[0], name


def test_a_run_is_repeatable(example):
    one, two = (example.embed(("links",), Mean(), 2, 0.005, 3) for _ in range(2))
    assert torch.equal(one, two)
