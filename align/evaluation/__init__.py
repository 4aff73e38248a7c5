"""Measures over runs."""
