"""PyTorch + PEFT as a child of the `training` benchmark: one command per line, one answer per line.

usage: peft_child.py MODEL ADAPTER THREADS WINDOWS CONTEXT

    step               one AdamW step of the adapter; milliseconds and mean loss before it
    gemm M K N         best of several f32 products [M,K] x [N,K]^T; GFLOP/s
    memory             peak resident memory of this process, in bytes
    versions           of what runs here

Everything is f32 on the CPU. Every step trains on the same windows, made by the formula of `windows` in
main.rs, so that both sides must lose the same.
"""

import os
import sys
import time

MODEL, ADAPTER = sys.argv[1:3]
THREADS, WINDOWS, CONTEXT = (int(n) for n in sys.argv[3:6])
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ["HF_HUB_OFFLINE"] = "1"

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

torch.set_num_threads(THREADS)


def windows(vocab):
    at = torch.arange(WINDOWS * CONTEXT, dtype=torch.int64)
    return ((at * at * 31 + at * 7) % (vocab - 7)).reshape(WINDOWS, CONTEXT)


def gemm(rows, inner, cols):
    a, b = torch.rand(rows, inner), torch.rand(cols, inner)
    best = float("inf")
    with torch.no_grad():
        for _ in range(12):
            start = time.perf_counter()
            a @ b.T
            best = min(best, time.perf_counter() - start)
    return 2e-9 * rows * inner * cols / best


def peak_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main():
    model = transformers.AutoModelForCausalLM.from_pretrained(
        MODEL, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    model = peft.PeftModel.from_pretrained(model, ADAPTER, is_trainable=True)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    ids = windows(model.config.vocab_size)

    def step():
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        loss = loss.item()
        return f"{(time.perf_counter() - start) * 1e3} {loss}"

    versions = (
        f"PyTorch {torch.__version__}, transformers {transformers.__version__}, "
        f"PEFT {peft.__version__}, Python {sys.version.split()[0]}"
    )
    commands = {
        "step": step,
        "gemm": gemm,
        "memory": peak_bytes,
        "versions": lambda: versions,
    }
    print("ready", flush=True)
    for line in sys.stdin:
        command, *numbers = line.split()
        print(commands[command](*(int(n) for n in numbers)), flush=True)


main()
