"""Correlated randomness, made ahead of time: what it is, who makes it, where it waits, how it is used once."""
