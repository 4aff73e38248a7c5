"""Datasets: rows to examples, examples to views, views to batches."""
