"""What to train on in a step: samples by the length of their gradients, objectives in turns.

Lu et al., CVPR 2023 (arXiv 2302.14772, PA&DA) draw training samples, and the paths of a supernet, in
proportion to the length of their gradients. Claimed: less variance of the gradient, and better results at
equal steps. On trial with samples: MNIST, one hidden layer; the lengths are those of the last layer, as in
the authors' code. That code trains without importance weights, so both ways are shown: without, and with the
weights that keep the estimate unbiased.

Akbari et al., NeurIPS 2023 (arXiv 2305.06324, IMP) train one objective in each step. Claimed: descent that
alternates between unlike tasks, losses and data serves them well. On trial: against the sum of all losses in
every step, with as many passes of one objective in total; MNIST digits, USPS digits and the denoising of
images share an encoder.
"""

import sys
from collections.abc import Iterator

from _experiment import Claim, Table, Verdict, run
from _sampling_alternating import alternating
from _sampling_importance import importance

RECORDED: dict[str, Verdict] = {
    "variance": "holds",
    "accuracy": "inconclusive",
    "accuracy-weighted": "holds",
    "alternating": "inconclusive",
}


def experiment(fast: bool) -> Iterator[Table | Claim]:
    yield from importance(fast)
    yield from alternating(fast)


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
