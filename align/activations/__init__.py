"""Reading and changing what happens inside a language model, block by block."""

from align.activations.decoder_parts import DecoderParts, decoder_parts
from align.activations.layers import LayerRange, choose_layers, scaled_layers
from align.activations.recorder import ActivationRecorder

__all__ = ["ActivationRecorder", "DecoderParts", "LayerRange", "choose_layers", "decoder_parts", "scaled_layers"]
