"""What bf16 products would cost in parity: losses and gradients with rounded operands against f32.

usage: bf16.py MODEL...     (folders in Hugging Face layout; needs torch, transformers and peft)

A bf16 product rounds both operands to 8 bits of mantissa and sums in f32. Here every linear's input, its
weight and the gradient that comes back are rounded so, and the products are computed in f32. `split` keeps
the activations in two bf16 parts instead, high and low, which takes two products. Adapters have rank 8 on
all seven linears and random factors. One line of Markdown a model: the largest difference of the loss of a
window in nats, and of a factor's gradient, of that tensor's largest.
"""

import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def bf16(x):
    return x.to(torch.bfloat16).to(torch.float32)


def split(x):
    high = bf16(x)
    return high + bf16(x - high)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, how):
        weight = bf16(weight)
        ctx.how = how
        ctx.save_for_backward(weight)
        return how(x) @ weight.T

    @staticmethod
    def backward(ctx, upstream):
        (weight,) = ctx.saved_tensors
        return ctx.how(upstream) @ weight, None, None


def measure(model, ids, how):
    if how is not None:
        for module in model.modules():
            base = getattr(module, "base_layer", None)
            if base is not None:
                base.forward = lambda x, base=base: Rounded.apply(x, base.weight, how) + (
                    0 if base.bias is None else base.bias)
    losses, gradients = [], None
    for window in ids:
        model.zero_grad()
        loss = model(input_ids=window[None], labels=window[None]).loss
        loss.backward()
        losses.append(loss.item())
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        gradients = gradients or found
    return losses, gradients


def prepared(folder):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("proj.weight"):
                weight.copy_(bf16(weight))
    config = LoraConfig(r=8, lora_alpha=16, target_modules=LINEARS, init_lora_weights=False)
    return get_peft_model(model, config)


def main():
    print("| model | operands | loss, nats | gradient |\n|---|---|---|---|")
    for folder in sys.argv[1:]:
        vocab = prepared(folder).config.vocab_size
        at = torch.arange(4 * 64)
        ids = ((at * at * 31 + at * 7) % (vocab - 7)).reshape(4, 64)
        losses, gradients = measure(prepared(folder), ids, None)
        for name, how in [("rounded", bf16), ("split", split)]:
            other, moved = measure(prepared(folder), ids, how)
            loss = max(abs(a - b) for a, b in zip(losses, other))
            gradient = max(
                ((moved[n] - g).abs().max() / g.abs().max()).item()
                for n, g in gradients.items() if g.abs().max() > 0)
            print(f"| {folder.rstrip('/').split('/')[-1]} | {name} | {loss:.1e} | {gradient:.1e} |")


main()
