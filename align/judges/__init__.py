"""Judges: what prefers one of two responses, or rates one, by asking a language model or a reward model."""
