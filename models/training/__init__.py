"""Training of the shipped weights. Needs the optional extra `train` (PyTorch); nothing else in the package does."""
