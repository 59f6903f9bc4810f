#!/usr/bin/env python3
"""Makes what both sides of the comparison load: a model as Hugging Face folder and as GGUF, and LoRA adapters.

    pip install numpy==2.4.6 gguf==0.19.0
    python3 make_model.py WORK                 random weights of SmolLM2-135M's shape
    python3 make_model.py WORK --hf FOLDER     the weights of a Llama model's Hugging Face folder (bf16 or f32)

WORK then holds `model.json` (where the Hugging Face folder is), `f32.gguf`, `q8_0.gguf`, and folders
`adapters/r8/00` and so on, each a PEFT adapter in bf16 with the same factors as `adapter.gguf` in f16. Adapters are
random and differ from each other; they hold all seven linears of each layer. About 1.8 GB, 2 minutes.
"""
import argparse
import json
import os

import gguf
import numpy as np

# SmolLM2-135M.
SHAPE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
         "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
         "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "hidden_act": "silu",
         "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
LINEARS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
           "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
           "mlp.down_proj": "ffn_down"}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
# Reads digits one by one and splits as GPT-2 does: the tokenizer of SmolLM2.
PRE_TOKENIZER = "smollm"


def linear_shape(config, linear):
    """(out, in) of one linear."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    return {"q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden),
            "o_proj": (hidden, queries), "gate_proj": (inner, hidden), "up_proj": (inner, hidden),
            "down_proj": (hidden, inner)}[linear.split(".")[1]]


def to_bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path, tensors):
    """Writes arrays as bf16."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, values in sorted(tensors.items()):
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [offset, offset + 2 * values.size]}
        offset += 2 * values.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, values in sorted(tensors.items()):
            out.write(to_bf16(values).tobytes())


def read_safetensors(folder):
    """The tensors of a folder's single weight file, as f32."""
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data, tensors = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length), {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        raw = data[slice(*entry["data_offsets"])]
        if entry["dtype"] == "BF16":
            values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F32":
            values = np.array(raw.view(np.float32))
        else:
            raise SystemExit(f"{path}: {name} is {entry['dtype']}; save the model as bf16 or f32")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def random_model(folder):
    """A Hugging Face folder of SmolLM2-135M's shape with weights as at the start of a training."""
    os.makedirs(folder, exist_ok=True)
    random, hidden = np.random.default_rng(15), SHAPE["hidden_size"]
    normal = lambda *shape: 0.04 * random.standard_normal(shape, dtype=np.float32)
    tensors = {"model.embed_tokens.weight": normal(SHAPE["vocab_size"], hidden),
               "model.norm.weight": np.ones(hidden, np.float32)}
    for layer in range(SHAPE["num_hidden_layers"]):
        for norm in NORMS:
            tensors[f"model.layers.{layer}.{norm}.weight"] = np.ones(hidden, np.float32)
        for linear in LINEARS:
            tensors[f"model.layers.{layer}.{linear}.weight"] = normal(*linear_shape(SHAPE, linear))
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(SHAPE, out, indent=1)


def permute(values, heads):
    """Hugging Face keeps the two halves of a head's rotary pairs apart, GGUF interleaves them."""
    rows = values.shape[0]
    return values.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)


def gguf_tensors(config, tensors):
    """The model's tensors with GGUF's names and order of rows."""
    yield "token_embd.weight", tensors["model.embed_tokens.weight"]
    yield "output_norm.weight", tensors["model.norm.weight"]
    if "lm_head.weight" in tensors and not config.get("tie_word_embeddings"):
        yield "output.weight", tensors["lm_head.weight"]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for norm, name in NORMS.items():
            yield f"blk.{layer}.{name}.weight", tensors[f"{at}{norm}.weight"]
        for linear, name in LINEARS.items():
            values = tensors[f"{at}{linear}.weight"]
            heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(name)
            yield f"blk.{layer}.{name}.weight", permute(values, config[heads]) if heads else values


def add_vocabulary(writer, folder, config):
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        writer.add_tokenizer_model("no_vocab")
        return
    with open(path) as file:
        tokenizer = json.load(file)
    names = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    names.update(special)
    numbers = range(config["vocab_size"])
    kind = lambda i: gguf.TokenType.CONTROL if i in special else (
        gguf.TokenType.NORMAL if i in names else gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in numbers])
    writer.add_token_types([kind(i) for i in numbers])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def write_gguf(path, folder, config, tensors, quantised):
    """One GGUF; `quantised` stores every matrix as Q8_0, as `llama-quantize` does for a tied model."""
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("benchmark")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32)
    add_vocabulary(writer, folder, config)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, values in gguf_tensors(config, tensors):
        values = np.ascontiguousarray(values, dtype=np.float32)
        if quantised and values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_adapter(folder, config, rank, seed):
    """One random adapter, as PEFT's two files and as GGUF."""
    os.makedirs(folder, exist_ok=True)
    random, alpha, peft = np.random.default_rng(seed), 2.0 * rank, {}
    writer = gguf.GGUFWriter(os.path.join(folder, "adapter.gguf"), "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for layer in range(config["num_hidden_layers"]):
        for linear, name in LINEARS.items():
            rows, columns = linear_shape(config, linear)
            a = random.uniform(-1, 1, (rank, columns)).astype(np.float32) / np.float32(columns ** 0.5)
            b = 0.01 * random.standard_normal((rows, rank), dtype=np.float32)
            at = f"base_model.model.model.layers.{layer}.{linear}"
            peft[f"{at}.lora_A.weight"], peft[f"{at}.lora_B.weight"] = a, b
            heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(name)
            b = permute(b, config[heads]) if heads else b
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", a.astype(np.float16))
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", b.astype(np.float16))
    finish(writer)
    write_safetensors(os.path.join(folder, "adapter_model.safetensors"), peft)
    with open(os.path.join(folder, "adapter_config.json"), "w") as out:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0,
                   "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "inference_mode": True,
                   "target_modules": sorted(linear.split(".")[1] for linear in LINEARS)}, out, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", help="folder to fill")
    parser.add_argument("--hf", help="Hugging Face folder of a Llama model")
    parser.add_argument("--adapters", type=int, default=32, help="adapters of each rank")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16])
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    folder = os.path.abspath(options.hf or os.path.join(options.work, "hf"))
    if not options.hf:
        random_model(folder)
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    if config["model_type"] != "llama" or config.get("rope_scaling"):
        raise SystemExit(f"{folder} is of type {config['model_type']}; only plain Llama models are converted")
    tensors = read_safetensors(folder)
    for name, quantised in (("f32", False), ("q8_0", True)):
        write_gguf(os.path.join(options.work, f"{name}.gguf"), folder, config, tensors, quantised)
    for rank in options.ranks:
        for number in range(options.adapters):
            write_adapter(os.path.join(options.work, "adapters", f"r{rank}", f"{number:02}"), config, rank,
                          [rank, number])
    with open(os.path.join(options.work, "model.json"), "w") as out:
        json.dump({"hf": folder, "random": not options.hf, "ranks": options.ranks, "adapters": options.adapters}, out)


if __name__ == "__main__":
    main()
