#!/usr/bin/env python3
"""Measures `tributary serve` as its clients see it: adapters that come and go, prompts that are cached.

    python3 peer/tests/serve/measure.py --bin DIR --model FOLDER --work WORK [--only adapters|cached|trained] [--turns 5]

`--model` is a base in Hugging Face layout, such as `engine/benches/serving/make_model.py` writes; adapters with random
factors are written to WORK once. The server runs with two threads and room for 64 adapters. Every figure is a line of
its own, which `docs/numbers/update.py served` reads.
"""
import argparse
import array
import http.client
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import threading
import time

REGISTERED = 500
IN_MEMORY = 64
RANK = 16
# Requests at the same time, as many as the server answers at once.
CLIENTS = 32
# Clients that read answers while a run trains, and the steps of the training.
STREAMS = 4
STEPS = 40
# The token that ends a text.
END = "2"
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def shapes(config):
    """Inputs and outputs of the linears of a layer."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    sizes = [(hidden, query), (hidden, kv), (hidden, kv), (query, hidden), (hidden, ffn), (hidden, ffn), (ffn, hidden)]
    return dict(zip(MODULES, sizes))


def adapter_bytes(config):
    """Bytes of an adapter in the server's memory."""
    return 2 * RANK * sum(i + o for i, o in shapes(config).values()) * config["num_hidden_layers"]


def write_adapter(folder, config, seed):
    """A PEFT adapter whose factors are random."""
    if (folder / "adapter_model.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    # One block of numbers, taken up at different places: what they are does not matter, that they differ does.
    block = array.array("f", (draw.gauss(0.0, 0.01) for _ in range(1 << 15)))
    header, parts, at = {}, [], 0
    for layer in range(config["num_hidden_layers"]):
        for module, (inputs, outputs) in shapes(config).items():
            part = "self_attn" if module in MODULES[:4] else "mlp"
            for name, shape in (("lora_A", [RANK, inputs]), ("lora_B", [outputs, RANK])):
                count = shape[0] * shape[1]
                start = draw.randrange(len(block))
                values = (block[start:] + block * (count // len(block) + 1))[:count]
                data = values.tobytes()
                key = f"base_model.model.model.layers.{layer}.{part}.{module}.{name}.weight"
                header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
                parts.append(data)
                at += len(data)
    text = json.dumps(header).encode()
    with open(folder / "adapter_model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.writelines(parts)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": MODULES, "bias": "none",
                "base_model_name_or_path": "base", "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))


class Server:
    """A `tributary serve` process."""

    def __init__(self, program, model, options):
        command = [program, "--format", "json", "serve", "--base", str(model), "--listen", "127.0.0.1:0", "--threads",
                   "2", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.process.stdout.readline())
        self.host = ready["url"].removeprefix("http://").removesuffix("/v1")
        self.model = ready["model"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def ask(self, path, body):
        """The answer to a request, or an exception that says what came instead."""
        connection = http.client.HTTPConnection(self.host, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {data.decode()}")
        return data

    def stream(self, body):
        """Seconds from sending a request to each of its pieces of text."""
        connection = http.client.HTTPConnection(self.host, timeout=600)
        started = time.perf_counter()
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {answer.read().decode()}")
        times = []
        for line in answer:
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"]:
                times.append(time.perf_counter() - started)
        connection.close()
        return times


def completion(model, prompt, tokens):
    """A request for exactly so many tokens: the one that ends a text is forbidden."""
    return {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logit_bias": {END: -100}}


def prompt(seed, tokens):
    """Token ids that nobody has asked about."""
    draw = random.Random(seed)
    return [draw.randrange(1000, 40000) for _ in range(tokens)]


def together(count, client):
    """Calls `client` with each number below `count`, each on a thread of its own; the first failure is the caller's."""
    failures = []

    def guarded(number):
        try:
            client(number)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def answer_all(server, names, per_client, tokens):
    """Seconds for all clients' requests, each for a name drawn from those given."""

    def client(number):
        draw = random.Random(number)
        for _ in range(per_client):
            server.ask("/v1/completions", completion(draw.choice(names), prompt(draw.random(), 16), tokens))

    started = time.perf_counter()
    together(CLIENTS, client)
    return time.perf_counter() - started


def adapters(arguments, config):
    folder = arguments.work / "registered"
    for number in range(REGISTERED):
        write_adapter(folder / f"{number:03}", config, number)
    memory = -(-adapter_bytes(config) * IN_MEMORY >> 20)
    with Server(arguments.program, arguments.model, ["--adapter-memory", str(memory)]) as server:
        loads = []
        for number in range(REGISTERED):
            body = {"lora_name": f"a{number}", "lora_path": str(folder / f"{number:03}")}
            started = time.perf_counter()
            server.ask("/v1/load_lora_adapter", body)
            loads.append(time.perf_counter() - started)
        loads = sorted(loads)
        print(f"registered {REGISTERED} of {adapter_bytes(config) / 1e6:.1f} MB, {IN_MEMORY} in memory: load "
              f"{statistics.median(loads) * 1e3:.1f} ms, 95 of 100 within {loads[len(loads) * 95 // 100] * 1e3:.1f} ms",
              flush=True)
        hits, misses = [], []
        for turn in range(20 * arguments.turns):
            # Long gone, then just used.
            name = f"a{turn % 400}"
            for times in (misses, hits):
                times.append(server.stream(completion(name, prompt(turn, 16), 1))[0])
        print(f"first token of 16: in memory {statistics.median(hits) * 1e3:.1f} ms, from disk "
              f"{statistics.median(misses) * 1e3:.1f} ms", flush=True)
        ranges = [IN_MEMORY, IN_MEMORY + 1, 96, REGISTERED]
        speeds = {count: [] for count in ranges}
        for turn in range(arguments.turns):
            for count in ranges:
                names = [f"a{number}" for number in range(count)]
                if turn == 0:
                    answer_all(server, names, 1, 1)
                seconds = answer_all(server, names, 2, 32)
                speeds[count].append(2 * 32 * CLIENTS / seconds)
        for count, found in speeds.items():
            share = statistics.median(found) / statistics.median(speeds[IN_MEMORY])
            print(f"{CLIENTS} clients, {count} adapters: {statistics.median(found):.1f} tokens/s "
                  f"({min(found):.1f} to {max(found):.1f}), {share:.2f} of {IN_MEMORY}", flush=True)


def cached(arguments, config):
    with Server(arguments.program, arguments.model, []) as server:
        server.stream(completion(server.model, prompt(0, 1000), 1))
        cold, warm = [], []
        for turn in range(1, arguments.turns + 1):
            # The last tokens differ, as those of a conversation's next turn do.
            start = prompt(turn, 1000)
            cold.append(server.stream(completion(server.model, start + prompt(f"{turn}a", 8), 1))[0])
            warm.append(server.stream(completion(server.model, start + prompt(f"{turn}b", 8), 1))[0])
        print(f"first token after 1008: cold {statistics.median(cold) * 1e3:.1f} ms, with 1000 cached "
              f"{statistics.median(warm) * 1e3:.1f} ms, {statistics.median(warm) / statistics.median(cold):.3f} of it")


def between(server, seconds, busy=None):
    """Gaps between pieces of text, and tokens a second, of a few clients that stream until the time is over, or until
    the process `busy` has ended."""
    gaps, counts = [], []
    started = time.perf_counter()

    def client(number):
        turn = 0
        while time.perf_counter() - started < seconds if busy is None else busy.poll() is None:
            turn += 1
            text = f"Question {number}, {turn}: how does a peer join a run?"
            times = server.stream(completion(server.model, text, 200))
            counts.append(len(times))
            gaps.extend(after - before for before, after in zip(times, times[1:]))

    together(STREAMS, client)
    gaps.sort()
    speed = sum(counts) / (time.perf_counter() - started)
    return speed, statistics.median(gaps) * 1e3, gaps[len(gaps) * 99 // 100] * 1e3


def trained(arguments, _):
    """Answers of the embedded model while this machine trains an adapter for it."""
    root = pathlib.Path(__file__).resolve().parents[3]
    texts = [str(path) for path in sorted((root / "docs").glob("*.md"))]

    def train(steps):
        command = [arguments.program, "train", "--base", "brook", "--steps", str(steps), "--force", "--out",
                   str(arguments.work / "trained"), *texts]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(process, started):
        if process.wait() != 0:
            raise RuntimeError(f"training ended with {process.returncode}")
        return STEPS / (time.perf_counter() - started)

    started = time.perf_counter()
    alone = wait(train(STEPS), started)
    with Server(arguments.program, "brook", []) as server:
        between(server, 2)
        speed, median, quiet = between(server, 20)
        print(f"{STREAMS} clients quiet: {speed:.1f} tokens/s, between tokens {median:.2f} ms, 99 of 100 within "
              f"{quiet:.2f} ms", flush=True)
        started = time.perf_counter()
        process = train(STEPS)
        speed, median, busy = between(server, 0, process)
        both = wait(process, started)
        print(f"{STREAMS} clients while a run trains: {speed:.1f} tokens/s, between tokens {median:.2f} ms, 99 of 100 "
              f"within {busy:.2f} ms, {busy / quiet:.1f} times", flush=True)
        print(f"training: {alone:.2f} steps/s alone, {both:.2f} while answers are given", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder with the program")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--only", choices=["adapters", "cached", "trained"])
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    arguments.program = str(arguments.bin / "tributary")
    config = json.loads((arguments.model / "config.json").read_text())
    for case in (adapters, cached, trained):
        if arguments.only in (None, case.__name__):
            case(arguments, config)


if __name__ == "__main__":
    main()
