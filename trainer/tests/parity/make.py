"""Makes the golden cases of `parity.rs` with transformers and PEFT.

    pip install torch transformers peft
    python trainer/tests/parity/make.py             # writes the cases beside this file
    python trainer/tests/parity/make.py check DIR   # compares adapters exported by the trainer

Each case is a tiny random model in Hugging Face layout with PEFT adapters, and what PyTorch computes
with them in f32: losses, greedy tokens and the gradients of one training step. `check` takes the folder
that the ignored test `trained_adapters_are_written_for_peft` fills: adapters that the trainer moved, and
the losses it computed with them.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = pathlib.Path(__file__).parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}
SHAPE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
    bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
)
# family, changes of SHAPE, how the folder is written, adapters
CASES = {
    "grouped": ("llama", dict(hidden_size=16, intermediate_size=24, theta=10000.0), {}, {
        "suffix": dict(r=4, lora_alpha=8, target_modules=ALL),
        "paths": dict(r=2, lora_alpha=4, target_modules=[
            "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj",
            "model.layers.1.self_attn.v_proj"]),
        "layers": dict(r=3, lora_alpha=9, target_modules=["k_proj", "up_proj"],
                       layers_to_transform=[1], layers_pattern="layers"),
    }),
    "tied-llama3": ("llama", dict(num_key_value_heads=1, head_dim=10, tie_word_embeddings=True,
                                  rope_parameters=LLAMA3), {}, {
        "stabilised": dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"],
                           use_rslora=True),
        "regex": dict(r=2, lora_alpha=3, target_modules=r".*\.(?!0\.)\d+\..*(q|down)_proj"),
    }),
    "biased-f16": ("llama", dict(head_dim=12, attention_bias=True, mlp_bias=True, theta=10000.0,
                                 eos_token_id=[2, 5]), dict(dtype=torch.float16), {
        "all-linear": dict(r=2, lora_alpha=2, target_modules="all-linear"),
        "patterns": dict(r=3, lora_alpha=6, target_modules=ALL,
                         rank_pattern={"q_proj": 2, r"layers\.1\.mlp\..*": 5, "mlp.up_proj": 1},
                         alpha_pattern={"down_proj": 3, "model.layers.0.self_attn.q_proj": 7}),
    }),
    "smollm-v4": ("llama", dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1,
                                tie_word_embeddings=True, theta=100000.0),
                  dict(dtype=torch.bfloat16, v4=True, repeat_head=True), {
        "exclude": dict(r=2, lora_alpha=5, target_modules=ALL, exclude_modules=["o_proj", "k_proj"]),
    }),
    "qwen2-v4": ("qwen2", dict(tie_word_embeddings=True, theta=1000000.0), dict(v4=True), {
        "suffix": dict(r=2, lora_alpha=4, target_modules=ALL),
        "stabilised-patterns": dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "k_proj"],
                                    rank_pattern={"q_proj": 1}, alpha_pattern={"k_proj": 3}),
    }),
    "qwen2-sharded-bf16": ("qwen2", dict(theta=1000000.0), dict(dtype=torch.bfloat16, shard="12KB"), {
        "regex": dict(r=2, lora_alpha=4, target_modules=r"model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj"),
    }),
    "qwen3": ("qwen3", dict(head_dim=12, tie_word_embeddings=True, theta=1000000.0), {}, {
        "suffix": dict(r=2, lora_alpha=4, target_modules=ALL),
        "patterns": dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "gate_proj"],
                         rank_pattern={r"model\.layers\.0\..*": 4}),
    }),
    "qwen3-untied": ("qwen3", dict(hidden_size=16, intermediate_size=24, head_dim=8, attention_bias=True,
                                   theta=1000000.0), {}, {
        "attention": dict(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
    }),
}
WINDOWS, CONTEXT, PROMPT, ANSWER = 3, 40, 5, 24


def tokenizer():
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u0120": 3}
    vocab |= {chr(ord("a") + i): 4 + i for i in range(26)}
    out = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    out.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    out.decoder = decoders.ByteLevel()
    out.add_special_tokens(["<unk>", "<s>", "</s>"])
    return out


def loss(model, tokens):
    return model(input_ids=tokens, labels=tokens).loss


def greedy(model, prompt, ends):
    ids = prompt.clone()
    for _ in range(ANSWER):
        token = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], 1)
        if token.item() in ends:
            break
    return ids[0, prompt.shape[1]:].tolist()


def old_spelling(folder):
    """Rewrites config.json as version 4 of transformers spelled it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    for new in ("layer_types", "head_dim"):
        config.pop(new, None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def base(folder, family, changes, written):
    changes = SHAPE | changes
    theta = changes.pop("theta", None)
    if theta:
        changes["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    config, architecture = FAMILIES[family]
    model = architecture(config(**changes)).float().eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            # Large enough that attention and gates are far from uniform.
            gain = torch.rand_like(value) + 0.5
            value.copy_(gain if "norm" in key else torch.randn_like(value) * 0.4)
    model = model.to(written.get("dtype", torch.float32))
    model.save_pretrained(folder, max_shard_size=written.get("shard", "1GB"))
    if written.get("repeat_head"):
        # As some writers do: the tied head once more.
        state = {key: value.clone() for key, value in model.state_dict().items()}
        assert "lm_head.weight" in state
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    if written.get("v4"):
        old_spelling(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    # What was written is what is computed with.
    return AutoModelForCausalLM.from_pretrained(folder).float().eval()


def adapter(model, folder, lora, tokens, prompt, ends):
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora)).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value) * 0.15)
    step = loss(model, tokens)
    step.backward()
    gradients = {
        key.replace(".default", ""): value.grad.contiguous()
        for key, value in model.named_parameters() if "lora_" in key
    }
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    save_file(gradients, folder / "gradients.safetensors")
    with torch.no_grad():
        return {"nll": step.item(), "greedy": greedy(model, prompt, ends)}


def make(name, family, changes, written, adapters):
    torch.manual_seed(sum(map(ord, name)))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = base(folder, family, changes, written)
    ends = model.config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    tokens = torch.randint(3, model.config.vocab_size, (WINDOWS, CONTEXT))
    prompt = tokens[:1, :PROMPT]
    golden = {"transformers": transformers.__version__, "torch": torch.__version__}
    with torch.no_grad():
        golden |= {"tokens": tokens.tolist(), "prompt": prompt[0].tolist(), "nll": loss(model, tokens).item(),
                   "greedy": greedy(model, prompt, ends), "adapters": {}}
    for key, lora in adapters.items():
        fresh = AutoModelForCausalLM.from_pretrained(folder).float().eval()
        golden["adapters"][key] = adapter(fresh, folder / "adapters" / key, lora, tokens, prompt, ends)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden["nll"], {key: value["nll"] for key, value in golden["adapters"].items()})


def check(folder):
    """Each subfolder is an adapter; its base is the case that its configuration names."""
    worst = 0.0
    for adapter in sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir()):
        name = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
        model = AutoModelForCausalLM.from_pretrained(HERE / name).float().eval()
        tokens = torch.tensor(json.loads((HERE / name / "golden.json").read_text())["tokens"])
        model = PeftModel.from_pretrained(model, adapter).eval()
        with torch.no_grad():
            theirs = loss(model, tokens).item()
        ours = json.loads((adapter / "loss.json").read_text())
        worst = max(worst, abs(ours - theirs))
        print(f"{adapter.name}: {ours:.6f} here, {theirs:.6f} in PEFT, difference {abs(ours - theirs):.1e}")
    print(f"largest difference {worst:.1e} nats")
    return worst <= 1e-4


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        sys.exit(0 if check(sys.argv[2]) else 1)
    for case, arguments in CASES.items():
        make(case, *arguments)
