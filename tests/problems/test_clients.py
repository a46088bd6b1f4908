"""Federations of images: who holds what, judged on data like one's own, the same in every process."""

import subprocess
import sys

import pytest
import torch

from equipoise.core.federation import Federation
from equipoise.problems.clients import build
from equipoise.problems.registry import builtin, federation
from equipoise.problems.userfile import check

SPLITS = ("train", "validation", "test")
DEALS = ("rotation", "classes", "dirichlet", "quantity", "iid", "biased")
SIZES = {
    ("digits-clients", "mlp"): 64 * 64 + 64 + 64 * 10 + 10,
    ("digits-clients", "softmax"): 650,
    ("mnist-clients", "mlp"): 784 * 200 + 200 + 2010,
    ("mnist-clients", "softmax"): 7850,
    ("mnist-clients", "lenet"): 61706,
    ("cifar10-clients", "lenet"): 62006,
    ("cifar10-clients", "mlp"): 3072 * 200 + 200 + 2010,
}


def counts(found: Federation, client: str, split) -> list[int]:
    return torch.bincount(found.examples(client, split)[1], minlength=10).tolist()


@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize("name", sorted(builtin("federation")))
def test_every_card_names_a_complete_federation(name):
    found = federation(name)
    check(type(found), name)
    assert type(found).__name__.lower() == name.replace("-", "")
    assert found.clients == tuple(f"client-{k:02d}" for k in range(10))
    found.prepare()
    torch.manual_seed(0)
    model = found.model()
    for client in found.clients:
        for split in SPLITS:
            batch = found.examples(client, split)
            assert len(batch[0]) == len(batch[1]) > 30
            assert batch[0].dtype == torch.float32
            assert batch[1].dtype == torch.int64
        assert found.losses(model, batch).shape == found.scores(model, batch).shape == batch[1].shape
        assert len(found.label_counts(client)) == 10


@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize(("name", "network"), SIZES)
def test_networks_have_the_sizes_that_cards_and_papers_tell(name, network):
    found = federation(name, network=network)
    assert sum(p.numel() for p in found.model().parameters()) == SIZES[name, network]
    images, labels = found.examples("client-03", "validation")
    assert found.model()(images).shape == (len(labels), 10)


def test_client_names_sort_as_they_stand():
    for count in (1, 10, 101, 1000):
        names = federation("digits-clients", client_count=count).clients
        assert list(names) == sorted(names)
        assert len(set(names)) == count


@pytest.mark.parametrize("deal", DEALS)
def test_nobody_trains_on_what_anybody_is_judged_on(deal):
    found = federation("digits-clients", split=deal)

    def rows(split):  # the pixels of an image in ascending order: a turned image is told as the same one
        return {
            tuple(image.flatten().sort().values.tolist())
            for client in found.clients
            for image in found.examples(client, split)[0]
        }

    train, validation, test = map(rows, SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train) == sum(len(found.examples(client, "train")[1]) for client in found.clients)


def test_the_rotation_turns_seven_two_and_one_client():
    turned, upright = (federation("digits-clients", split=deal) for deal in ("rotation", "iid"))
    for k, client in enumerate(turned.clients):
        for split in SPLITS:
            images, labels = upright.examples(client, split)
            quarter = 0 if k < 7 else 1 if k < 9 else 2
            assert torch.equal(turned.examples(client, split)[0], torch.rot90(images, quarter, (2, 3)))
            assert torch.equal(turned.examples(client, split)[1], labels)


@pytest.mark.parametrize("deal", ["classes", "dirichlet", "biased"])
def test_clients_are_judged_on_the_classes_that_they_train_on(deal):
    found = federation("digits-clients", split=deal)
    for client in found.clients:
        train = torch.tensor(counts(found, client, "train"))
        for split in ("validation", "test"):
            judged = torch.tensor(counts(found, client, split))
            assert 27 <= judged.sum() <= 35
            assert not judged[train == 0].any()
            assert bool(((judged - 35 * train / train.sum()).abs() < 9).all())


def test_small_clients_are_judged_on_as_much_as_large_ones():
    found = federation("digits-clients", split="quantity", alpha="0.1", least=3)
    sizes = [len(found.examples(client, "train")[1]) for client in found.clients]
    assert min(sizes) == 3
    assert max(sizes) > 200
    assert sum(sizes) == 1000
    assert {len(found.examples(client, "test")[1]) for client in found.clients} == {35}


def test_classes_sets_how_many_classes_a_client_holds():
    found = federation("digits-clients", split="classes", classes=3)
    assert {sum(map(bool, counts(found, client, "train"))) for client in found.clients} == {3}


def test_the_default_split_of_mnist_is_that_of_its_source(data_folder):
    found = federation("mnist-clients")
    assert [len(found.examples(client, "train")[1]) for client in found.clients] == [200] * 10
    judged = torch.cat([found.examples(client, "test")[0] for client in found.clients[:7]])
    assert len(judged.flatten(1).unique(dim=0)) == 1400
    assert judged.min() == 0
    assert judged.max() == 1


def test_float64_is_the_same_in_more_digits():
    single, double = (federation("digits-clients", dtype=dtype) for dtype in ("float32", "float64"))
    models = []
    for found in (single, double):
        torch.manual_seed(3)
        models.append(found.model())
    images, labels = double.examples("client-08", "train")
    assert images.dtype == torch.float64
    assert torch.equal(images.float(), single.examples("client-08", "train")[0])
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one.double(), other)
    loss = double.losses(models[1], (images, labels))
    assert loss.dtype == torch.float64
    expected = single.losses(models[0], single.examples("client-08", "train"))
    torch.testing.assert_close(loss.float(), expected)


def test_another_process_finds_the_same_examples():
    options = {"split": "dirichlet", "split_seed": 4}
    code = (
        "import torch; from equipoise.problems import federation\n"
        f"found = federation('digits-clients', **{options!r})\n"
        "print([x.double().sum().item() for c in found.clients for x in found.examples(c, 'train')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = federation("digits-clients", **options)
    here = [x.double().sum().item() for c in found.clients for x in found.examples(c, "train")]
    assert run.stdout.strip() == str(here)
    other = federation("digits-clients", split="dirichlet", split_seed=5)
    assert counts(other, "client-00", "train") != counts(found, "client-00", "train")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client_count": 0}, "client_count is 0"),
        ({"judged": 0}, "judged is 0"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"classes": 11}, "classes is 11; there are 10"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"network": "lenet"}, "network is 'lenet'; choices are 'softmax', 'mlp'"),
        ({"split": "domain"}, "option split takes"),
        ({"dtype": "float16"}, "option dtype takes"),
        ({"clients": 3}, "no option of digits-clients is called 'clients'; nearest: client_count"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options, words):
    with pytest.raises(ValueError, match="digits-clients") as caught:
        federation("digits-clients", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": 1079}, "train is 1079, but there are 1078 training examples in all"),
        ({"split": "dirichlet", "least": 101}, "1000 examples do not give 10 clients at least 101 each"),
        ({"client_count": 1001}, "1000 examples do not give 1001 clients"),
    ],
)
def test_options_that_the_data_cannot_satisfy_are_refused_in_prepare(options, words):
    with pytest.raises(ValueError, match=words):
        federation("digits-clients", **options).prepare()


def test_a_client_that_is_not_there_has_neighbours():
    with pytest.raises(ValueError, match="no client is called 'client-1'; nearest: client-01"):
        federation("digits-clients").examples("client-1", "train")


def test_networks_can_be_batched_over_clients():
    """What the simulator does to them: one call for several clients' weights at once."""
    for network, shape in (("softmax", (1, 8, 8)), ("mlp", (1, 8, 8)), ("lenet", (3, 32, 32))):
        model = build(network, shape, 16, 10)
        stacked = {name: torch.stack([p, 2 * p]) for name, p in model.named_parameters()}
        images = torch.rand(2, 3, *shape)
        both = torch.func.vmap(lambda p, x, m=model: torch.func.functional_call(m, p, (x,)))(stacked, images)
        torch.testing.assert_close(both[0], model(images[0]))


def test_federated_averaging_learns_the_digits():
    """Thirty rounds of averaged full-batch steps on evenly dealt digits leave chance far behind."""
    found = federation("digits-clients", split="iid", network="softmax")
    torch.manual_seed(0)
    model = found.model()
    for _ in range(30):
        start = [p.detach().clone() for p in model.parameters()]
        total = [torch.zeros_like(p) for p in start]
        for client in found.clients:
            with torch.no_grad():
                for p, s in zip(model.parameters(), start, strict=True):
                    p.copy_(s)
            for _ in range(5):
                loss = found.losses(model, found.examples(client, "train")).mean()
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                with torch.no_grad():
                    for p, g in zip(model.parameters(), gradients, strict=True):
                        p.sub_(found.learning_rate * g)
            for t, p in zip(total, model.parameters(), strict=True):
                t.add_(p.detach() / 10)
        with torch.no_grad():
            for p, t in zip(model.parameters(), total, strict=True):
                p.copy_(t)
    with torch.no_grad():
        right = [found.scores(model, found.examples(client, "test")).mean() for client in found.clients]
    assert torch.stack(right).mean() > 0.8
