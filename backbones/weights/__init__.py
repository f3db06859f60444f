"""Weights files: opening them safely, fitting them into a network, saying what they are, writing them clean."""
