"""Reading and changing what happens inside a language model, block by block."""

from align.activations.layers import LayerRange, choose_layers, scaled_layers
from align.activations.parts import Parts, parts_of
from align.activations.tap import Tap

__all__ = ["LayerRange", "Parts", "Tap", "choose_layers", "parts_of", "scaled_layers"]
