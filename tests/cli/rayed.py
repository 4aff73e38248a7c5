"""Words for the settings of workers on a Ray cluster, which tests/cli/test_ray_options.py tries."""

from __future__ import annotations

WORKERS = {
    "ray.workers": ("--ray.workers", "3"),
    "ray.address": ("--ray.address", "10.0.0.1:6379"),
    "ray.gpus": ("--ray.gpus", "0.5"),
    "ray.cpus": ("--ray.cpus", "2"),
    "ray.patience": ("--ray.patience", "700"),
}
RAY = {
    **WORKERS,
    "ray.most_difference": ("--ray.most_difference", "0.3"),
}
