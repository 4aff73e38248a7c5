"""Rounds of generated data: sample, score, select, seal, train."""
