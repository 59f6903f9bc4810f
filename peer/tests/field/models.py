"""A tiny base model in Hugging Face layout, made of nothing but the standard library.

Its weights are drawn, so it knows nothing: the cases here are about files, options and signals, not about learning.
"""

import json
import random
import struct
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

VOCAB, WIDTH, INNER, LAYERS, HEADS, GROUPS = 600, 64, 176, 3, 4, 2
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": WIDTH,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS,
    "head_dim": WIDTH // HEADS, "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 1024,
    "rope_theta": 10000.0, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1, "dtype": "float32",
    "attention_bias": False, "mlp_bias": False,
}


class Model:
    """A folder with a base; what a case changes in it, it changes by these methods."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
        special = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>", "eos_token": "<|eos|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(special))
        self.write_weights(_weights())

    def change(self, name: str, change: Callable[[Any], None]) -> None:
        """Changes a JSON file."""
        path = self.folder / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content, ensure_ascii=False))

    def with_template(self, template: str, tokens: Iterable[str]) -> "Model":
        """Gives it a chat template and the special tokens that the template writes."""

        def add(tokenizer: Any) -> None:
            at = max(list(tokenizer["model"]["vocab"].values()) + [one["id"] for one in tokenizer["added_tokens"]]) + 1
            tokenizer["added_tokens"] += [_special(at + place, name) for place, name in enumerate(tokens)]

        self.change("tokenizer.json", add)
        self.change("tokenizer_config.json", lambda config: config.update(chat_template=template))
        return self

    def chat(self) -> "Model":
        """Makes it a model that chats as ChatML does."""
        return self.with_template(CHATML, ["<|im_start|>", "<|im_end|>"])

    def write_weights(self, tensors: dict[str, tuple[list[int], bytes]]) -> None:
        """Writes tensors of f32: their shapes and bytes by name."""
        header: dict[str, Any] = {}
        end = 0
        for name, (shape, data) in tensors.items():
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + len(data)]}
            end += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        body = b"".join(data for _, data in tensors.values())
        (self.folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)

    def with_second_head(self) -> "Model":
        """Puts an output layer into the file of a model whose configuration says that it has none of its own."""
        tensors = _weights()
        tensors["lm_head.weight"] = ([VOCAB, WIDTH], bytes(4 * VOCAB * WIDTH))
        self.write_weights(tensors)
        return self


def _special(at: int, name: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": at, "content": name, **flags}


def _tokenizer() -> dict[str, Any]:
    """Bytes as tokens, by the alphabet of GPT-2."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in plain]
    letters = [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(moved))]
    vocab = {"<|bos|>": 0, "<|eos|>": 1, **{letter: 2 + at for at, letter in enumerate(letters)}}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level,
        "added_tokens": [_special(0, "<|bos|>"), _special(1, "<|eos|>")], "post_processor": None, "decoder": level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": [],
        },
    }


def _weights() -> dict[str, tuple[list[int], bytes]]:
    draw = random.Random(7)
    kv = WIDTH // HEADS * GROUPS

    def matrix(rows: int, columns: int) -> tuple[list[int], bytes]:
        return [rows, columns], array("f", (draw.gauss(0, 0.05) for _ in range(rows * columns))).tobytes()

    ones = ([WIDTH], array("f", [1.0] * WIDTH).tobytes())
    tensors = {"model.embed_tokens.weight": matrix(VOCAB, WIDTH), "model.norm.weight": ones}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        tensors[f"{at}.input_layernorm.weight"] = ones
        tensors[f"{at}.post_attention_layernorm.weight"] = ones
        shapes = {"q": (WIDTH, WIDTH), "k": (kv, WIDTH), "v": (kv, WIDTH), "o": (WIDTH, WIDTH)}
        for name, (rows, columns) in shapes.items():
            tensors[f"{at}.self_attn.{name}_proj.weight"] = matrix(rows, columns)
        for name, (rows, columns) in {"gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}.items():
            tensors[f"{at}.mlp.{name}_proj.weight"] = matrix(rows, columns)
    return tensors
