"""Preference alignment of language models with Lightning: data, scoring, objectives, modules, artefacts."""

__version__ = "0.1.0"
