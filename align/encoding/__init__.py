"""Text to token ids: templates, the prompt boundary, truncation."""
