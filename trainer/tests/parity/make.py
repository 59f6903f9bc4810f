"""Makes the golden cases of `parity.rs` with transformers and PEFT.

    pip install torch transformers peft
    python trainer/tests/parity/make.py             # writes the cases beside this file
    python trainer/tests/parity/make.py check DIR   # loss of an adapter exported by the trainer

Each case is a tiny random Llama in Hugging Face layout, a PEFT adapter, and what PyTorch computes
with them in f32: losses, greedy tokens and the gradients of one training step.
"""

import json
import pathlib
import sys

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPE = dict(
    vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=256, rms_norm_eps=1e-5,
    bos_token_id=1, eos_token_id=2, attention_bias=False, mlp_bias=False,
)
CASES = {
    "grouped": (
        dict(num_key_value_heads=2, tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        dict(r=4, lora_alpha=8, target_modules=ALL),
    ),
    "tied-llama3": (
        dict(num_key_value_heads=1, head_dim=8, tie_word_embeddings=True, rope_parameters=LLAMA3),
        dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True),
    ),
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


def greedy(model, prompt):
    ids = prompt.clone()
    for _ in range(ANSWER):
        token = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], 1)
        if token.item() == 2:
            break
    return ids[0, prompt.shape[1]:].tolist()


def make(name, config, lora):
    torch.manual_seed(sum(map(ord, name)))
    folder = HERE / name
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **config)).float().eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            # Large enough that attention and gates are far from uniform.
            gain = torch.rand_like(value) + 0.5
            value.copy_(gain if "norm" in key else torch.randn_like(value) * 0.5)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))

    tokens = torch.randint(3, 48, (WINDOWS, CONTEXT))
    prompt = tokens[:1, :PROMPT]
    golden = {"transformers": transformers.__version__, "torch": torch.__version__}
    with torch.no_grad():
        golden |= {"tokens": tokens.tolist(), "prompt": prompt[0].tolist(),
                   "base_nll": loss(model, tokens).item(), "base_greedy": greedy(model, prompt)}
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora)).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn_like(value) * 0.15)
    step = loss(model, tokens)
    step.backward()
    gradients = {
        key.replace(".default", ""): value.grad.flatten().tolist()
        for key, value in model.named_parameters() if "lora_" in key
    }
    model.save_pretrained(folder / "adapter", safe_serialization=True)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    with torch.no_grad():
        golden |= {"adapter_nll": step.item(), "adapter_greedy": greedy(model, prompt)}
    golden["gradients"] = {key: [round(x, 9) for x in value] for key, value in gradients.items()}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden["base_nll"], golden["adapter_nll"], golden["base_greedy"][:12], golden["adapter_greedy"][:12])


def check(adapter):
    """The exported folder's base is the case named in its configuration."""
    adapter = pathlib.Path(adapter)
    name = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    base = LlamaForCausalLM.from_pretrained(HERE / name).float().eval()
    tokens = torch.tensor(json.loads((HERE / name / "golden.json").read_text())["tokens"])
    model = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        print(f"{loss(model, tokens).item():.6f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        for case, (config, lora) in CASES.items():
            make(case, config, lora)
