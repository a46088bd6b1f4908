"""The machinery: clients one at a time or batched, what they measure, faults, checkpoints, the history."""
