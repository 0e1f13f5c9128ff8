"""Preprocessing by oblivious transfer: the two parties make their material with each other, without a third.

Semi-honest. Assumptions, messages and the proof sketch: `docs/protocols/ot.md`.
"""
