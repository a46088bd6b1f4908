"""Which layer of a model a tensor belongs to, told by its name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping


def layers_of(names: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """Tensor -> (its layer, the number of layers), for those that lie in a stack of layers.

    A stack is a prefix followed by numbers, such as `model.layers.3.`, `h.3.` or `blocks.3.`; of several
    numbers in a name the first counts, and of several stacks each is counted on its own. Tensors outside of
    stacks of two layers or more (embeddings, heads, final norms) are left out.

    >>> dict(layers_of(["wte", "h.0.mlp.w", "h.2.mlp.w", "h.1.mlp.w", "head"]))
    {'h.0.mlp.w': (0, 3), 'h.2.mlp.w': (2, 3), 'h.1.mlp.w': (1, 3)}
    """
    places: dict[str, tuple[str, int]] = {}
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        words = name.split(".")
        at = next((i for i, word in enumerate(words[:-1]) if word.isdigit()), None)
        if at is not None:
            stack = ".".join(words[:at])
            places[name] = stack, int(words[at])
            numbers[stack].add(int(words[at]))
    order = {stack: {n: i for i, n in enumerate(sorted(found))} for stack, found in numbers.items()}
    return {
        name: (order[stack][number], len(order[stack]))
        for name, (stack, number) in places.items()
        if len(order[stack]) > 1
    }
