"""Layer rules: what a layer's parameters contribute, from the layer's inputs and output gradients."""
