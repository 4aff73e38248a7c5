"""A model folder from a GGUF file: the numbers of the model that was written into it."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from align.cli.main import main

HEADS, WIDTH, LAYERS = 4, 32, 2
TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "Ġ"]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def paired(weight: torch.Tensor) -> torch.Tensor:
    """Rows of queries and keys in the order of llama.cpp, whose rotary pairs lie beside each other."""
    return weight.view(HEADS, 2, WIDTH // HEADS // 2, WIDTH).transpose(1, 2).reshape(WIDTH, WIDTH)


def write(path: Path, model: LlamaForCausalLM) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    tensors = {"token_embd.weight": model.model.embed_tokens.weight, "output.weight": model.lm_head.weight}
    tensors["output_norm.weight"] = model.model.norm.weight
    for number, layer in enumerate(model.model.layers):
        for theirs, name in NAMES.items():
            weight = layer.get_submodule(theirs).weight
            tensors[f"blk.{number}.{name}.weight"] = paired(weight) if name in ("attn_q", "attn_k") else weight
    for name, values in tensors.items():
        writer.add_tensor(name, values.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_becomes_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
    )
    model = LlamaForCausalLM(config).eval()
    write(tmp_path / "tiny.gguf", model)
    words = ["init", "gguf", "--file", str(tmp_path / "tiny.gguf"), "--out", str(tmp_path / "model")]
    assert main(words) == 0
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=False).eval()
    ids = torch.tensor([[1, 6, 3, 5]])
    torch.testing.assert_close(read(ids).logits, model(ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=False)("abc")["input_ids"][-2:] == [6, 5]
    assert not hasattr(read.config, "quantization_config")


@pytest.mark.parametrize("kind", ["missing", "other", "there"])
def test_what_cannot_be_read_is_told(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "x.gguf", tmp_path / "model"
    told = {"missing": "no such file", "other": "transformers cannot read it", "there": "is there already"}[kind]
    if kind != "missing":
        file.write_bytes(b"not a model")
    if kind == "there":
        out.mkdir()
    assert main(["init", "gguf", "--file", str(file), "--out", str(out)]) == 2
    assert told in capsys.readouterr().err
