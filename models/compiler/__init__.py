"""From a network with real weights to a public program, secret ring tensors and a proof that nothing overflows."""
