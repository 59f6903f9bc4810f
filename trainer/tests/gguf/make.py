#!/usr/bin/env python3
"""Writes the files beside it with llama.cpp's own package, for the test of `src/peft/gguf.rs`.

    pip install gguf==0.19.0
    python3 make.py

An adapter of a model with two layers, as `convert_lora_to_gguf.py` writes it: once of a Llama, whose query and key rows
are reordered, once of a Qwen2.
"""
import os

import gguf
import numpy as np

HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD, RANK, ALPHA = 16, 24, 2, 4, 2, 4, 2, 6
# In the order of an adapter's numbers: name, inputs, outputs, heads whose rows are reordered.
LINEARS = [("attn_q", HIDDEN, HEADS * HEAD, HEADS), ("attn_k", HIDDEN, KEY_HEADS * HEAD, KEY_HEADS),
           ("attn_v", HIDDEN, KEY_HEADS * HEAD, 0), ("attn_output", HEADS * HEAD, HIDDEN, 0),
           ("ffn_gate", HIDDEN, INNER, 0), ("ffn_up", HIDDEN, INNER, 0), ("ffn_down", INNER, HIDDEN, 0)]


def permute(weights, heads):
    """`LlamaModel.permute` of `convert_hf_to_gguf.py`."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def write(path, architecture, reorders):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(ALPHA))
    place = 0

    def numbers(rows, columns):
        nonlocal place
        values = (np.arange(place, place + rows * columns) * 37 % 101 - 50) / 64
        place += rows * columns
        return values.astype(np.float32).reshape(rows, columns)

    for layer in range(LAYERS):
        for name, inputs, outputs, heads in LINEARS:
            a, b = numbers(RANK, inputs), numbers(outputs, RANK)
            if heads and reorders:
                b = permute(b, heads)
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", a)
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", np.ascontiguousarray(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


folder = os.path.dirname(os.path.abspath(__file__))
write(os.path.join(folder, "llama.gguf"), "llama", True)
write(os.path.join(folder, "qwen2.gguf"), "qwen2", False)
