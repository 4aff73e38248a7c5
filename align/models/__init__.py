"""Backbones: loading, adapters, reference policies, export."""
