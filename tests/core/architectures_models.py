"""Whole models, tiny and with random weights."""

from typing import Any

import torch
from tests.core.cases import Built, Case, draw, three
from torch import Tensor, nn
from torch.nn import functional as F


def words(*shape: int, most: int = 17) -> Tensor:
    return torch.randint(0, most, shape)


class Residual(nn.Module):
    """Two convolutions with batch norm beside a shortcut, ReLU in place."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.last = nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.last(self.second(self.relu(self.norm(self.first(x)))))
        inner += self.shortcut(x)
        return self.relu(inner)


def resnet() -> Built:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        Residual(4, 4, 1),
        Residual(4, 6, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    return model, three(model(draw(3, 3, 8, 8)))


class UNet(nn.Module):
    """One level down and up, with a skip that is concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.join = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x).relu()
        middle = self.middle(F.max_pool2d(skip, 2)).relu()
        return self.join(torch.cat([skip, self.up(middle)], 1))


def unet() -> Built:
    model = UNet()
    return model, three(model(draw(2, 2, 8, 8)))


class Mixer(nn.Module):
    """MLP-Mixer of one block: over places, then over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.norms = nn.ModuleList([nn.LayerNorm(6), nn.LayerNorm(6)])
        self.places = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 4))
        self.channels = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = x + self.places(self.norms[0](x).mT).mT
        x = x + self.channels(self.norms[1](x))
        return self.head(x.mean(1))


def mixer() -> Built:
    model = Mixer()
    return model, three(model(draw(3, 3, 8, 8)))


def gpt2(**options: Any) -> Built:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=17, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, **options
    )
    model = GPT2LMHeadModel(config)
    assert model.lm_head.weight is model.transformer.wte.weight
    return model, three(model(words(2, 6)).logits)


def vit(**options: Any) -> Built:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, image_size=8,
        patch_size=4, num_labels=3, initializer_range=0.3, **options,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    return model, three(model(draw(2, 3, 8, 8)).logits)


def llama() -> Built:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=17, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=8, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    return model, three(model(words(2, 6), use_cache=False).logits)


class StateSpace(nn.Module):
    """A gated recurrence as a cumulative sum, after a causal depthwise convolution: Mamba in small."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(4, 12, bias=False)
        self.conv = nn.Conv1d(6, 6, 3, padding=2, groups=6)
        self.rate = nn.Parameter(draw(6))
        self.skip = nn.Parameter(draw(6))
        self.narrow = nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner, gate = self.widen(x).chunk(2, -1)
        inner = F.silu(self.conv(inner.mT)[..., : x.shape[1]].mT)
        decay = (-self.rate.exp() * torch.arange(x.shape[1])[:, None] / 9).exp()
        state = torch.cumsum(inner / decay, 1) * decay
        return self.narrow((state + self.skip * inner) * F.silu(gate))


def state_space() -> Built:
    model = StateSpace()
    return model, three(model(draw(2, 5, 4)))


class Lora(nn.Module):
    """A frozen layer with a trained update of low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(5, 4).requires_grad_(False)
        self.down = nn.Linear(5, 2, bias=False)
        self.up = nn.Parameter(draw(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.5 * F.linear(self.down(x), self.up)


def narrow_lora() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5).requires_grad_(False), Lora())


def lora() -> Built:
    model = nn.Sequential(Lora(), nn.Tanh(), nn.Linear(4, 4).requires_grad_(False), narrow_lora())
    return model, three(model(draw(3, 5)))


class Graph(nn.Module):
    """Two layers over a graph whose adjacency is sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.weight = nn.Parameter(draw(4, 2))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return torch.sparse.mm(adjacency, torch.sparse.mm(adjacency, self.first(x)).relu() @ self.weight)


def graph() -> Built:
    model = Graph()
    adjacency = (torch.rand(6, 6) < 0.5).float().to_sparse()
    return model, three(model(draw(6, 3), adjacency))


class Translator(nn.Module):
    """Encoder and decoder with one table of words for both sides and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(17, 6, padding_idx=0)
        self.body = nn.Transformer(6, 2, 1, 1, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 17, bias=False)
        self.head.weight = self.table.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.body(self.table(source), self.table(target)))


def translator() -> Built:
    model = Translator()
    return model, three(model(words(2, 5), words(2, 4)))


def mixture() -> Built:
    """Experts each of which sees the samples that a gate sends there."""
    model = nn.ModuleDict(
        {"gate": nn.Linear(4, 2), "experts": nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])}
    )
    x = draw(7, 4)
    shares = model["gate"](x).softmax(1)
    out = torch.zeros(7, 3)
    for k, expert in enumerate(model["experts"]):
        chosen = (shares.argmax(1) == k).nonzero()[:, 0]
        out = out.index_add(0, chosen, expert(x[chosen]) * shares[chosen, k, None])
    return model, three(out)


def dense_net() -> Built:
    """Layers that each see all that came before."""
    model = nn.ModuleList([nn.Conv1d(2 + 2 * k, 2, 3, padding=1) for k in range(3)])
    x = draw(3, 2, 6)
    for layer in model:
        x = torch.cat([x, layer(x).relu()], 1)
    return model, three(x)


MODELS: dict[str, Case] = {
    "ResNet": Case(resnet, covered=0.9),
    "U-Net": Case(unet, {"join.weight": "ghost", "up.weight": "explicit"}),
    "MLP-Mixer": Case(mixer, covered=0.9),
    "GPT-2, tied (transformers)": Case(gpt2, {"transformer.h.0.attn.c_attn.weight": "ghost"}, covered=0.9),
    "GPT-2, eager attention": Case(lambda: gpt2(attn_implementation="eager"), covered=0.9),
    "GPT-2, scaled by layer": Case(
        lambda: gpt2(
            scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True, attn_implementation="eager"
        ),
        covered=0.9,
    ),
    "ViT (transformers)": Case(vit, covered=0.9),
    "ViT, eager attention": Case(lambda: vit(attn_implementation="eager"), covered=0.9),
    "Llama (transformers)": Case(llama, covered=0.9),
    "Encoder and decoder, tied": Case(translator),
    "State space with cumsum": Case(state_space, {"conv.weight": "ghost", "rate": "explicit"}),
    "LoRA on a frozen base": Case(lora, {"0.up": "ghost", "3.1.down.weight": "ghost"}, covered=1.0),
    "Graph network, sparse adjacency": Case(graph, {"weight": "ghost", "first.weight": "ghost"}),
    "Mixture of experts": Case(mixture, {"experts.0.weight": "ghost"}, covered=1.0),
    "DenseNet": Case(dense_net, covered=1.0),
}
