"""What a run compares with plain forward passes of transformers before it believes its own."""
