"""Oracles: what scores responses, or prefers one of two."""
