"""Local descent of softmax regression in NumPy, to hold clients against: weights are one flat vector."""

import numpy as np


def gradient(weights, examples):  # (d,), ((n, 1, 8, 8), (n,)) -> (d,)
    """Of the mean cross-entropy, weight matrix first, then biases, as PyTorch orders them."""
    inputs, labels = (part.numpy() for part in examples)
    inputs = inputs.reshape(len(inputs), -1)
    matrix, bias = weights[:-10].reshape(10, -1), weights[-10:]
    logits = inputs @ matrix.T + bias
    powers = np.exp(logits - logits.max(1, keepdims=True))
    errors = powers / powers.sum(1, keepdims=True) - np.eye(10)[labels]
    errors /= len(labels)
    return np.concatenate([(errors.T @ inputs).ravel(), errors.sum(0)])


def descended(weights, examples, steps, rate, bent=lambda gradient, at: gradient):  # -> (d,)
    """Full-batch descent; `bent` says which direction a step follows, given the gradient and the place."""
    at = weights
    for _ in range(steps):
        at = at - rate * bent(gradient(at, examples), at)
    return at
