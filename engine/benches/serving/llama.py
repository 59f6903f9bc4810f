#!/usr/bin/env python3
"""llama.cpp as a process that answers one JSON line on standard output for each JSON line on standard input.

It loads the prebuilt libraries of the npm package `@node-llama-cpp/linux-x64` through llama.cpp's C interface, so a
comparison needs no compiler. The structures below are those of `include/llama.h` of llama.cpp v0.5.0, whose source is
in the npm package `node-llama-cpp` of the same version (`llama/gitRelease.bundle`). The process refuses a library
whose default parameters differ from that header's. It needs Python 3.9 and nothing from PyPI.

    python3 llama.py --lib node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 --model f32.gguf [--cpus 0,1]

`README.md` in this folder lists the commands.
"""
import argparse
import ctypes as c
import glob
import json
import os
import sys
import time

VERSION = "0.5.0"
PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
THREADS = 2
# llama-bench's defaults: how many prompt tokens go through the model at once, and how eagerly idle threads poll.
UBATCH = 512
POLL = 50
# The cache of one sequence: the longest case is 1,024 tokens of context and a few dozen behind them.
CONTEXT = 2048


class ModelParams(c.Structure):
    _fields_ = [("devices", c.c_void_p), ("tensor_buft_overrides", c.c_void_p), ("n_gpu_layers", c.c_int32),
                ("split_mode", c.c_int), ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32),
                ("tensor_split", c.c_void_p), ("progress_callback", c.c_void_p), ("progress_data", c.c_void_p),
                ("kv_overrides", c.c_void_p), ("vocab_only", c.c_bool), ("check_tensors", c.c_bool),
                ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool), ("no_alloc", c.c_bool), ("load_mtp", c.c_bool)]

    DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "main_gpu": 0,
                "tensor_split": None, "kv_overrides": None, "vocab_only": False, "use_extra_bufts": True,
                "no_alloc": False, "load_mtp": False}


class ContextParams(c.Structure):
    _fields_ = [("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("n_ubatch", c.c_uint32), ("n_seq_max", c.c_uint32),
                ("n_rs_seq", c.c_uint32), ("n_outputs_max", c.c_uint32), ("n_outputs_max_per_seq", c.c_uint32),
                ("n_threads", c.c_int32), ("n_threads_batch", c.c_int32), ("ctx_type", c.c_int),
                ("rope_scaling_type", c.c_int), ("pooling_type", c.c_int), ("attention_type", c.c_int),
                ("flash_attn_type", c.c_int), ("rope_freq_base", c.c_float), ("rope_freq_scale", c.c_float),
                ("yarn_ext_factor", c.c_float), ("yarn_attn_factor", c.c_float), ("yarn_beta_fast", c.c_float),
                ("yarn_beta_slow", c.c_float), ("yarn_orig_ctx", c.c_uint32), ("defrag_thold", c.c_float),
                ("cb_eval", c.c_void_p), ("cb_eval_data", c.c_void_p), ("type_k", c.c_int), ("type_v", c.c_int),
                ("abort_callback", c.c_void_p), ("abort_data", c.c_void_p), ("embeddings", c.c_bool),
                ("offload_kqv", c.c_bool), ("no_perf", c.c_bool), ("op_offload", c.c_bool), ("swa_full", c.c_bool),
                ("kv_unified", c.c_bool), ("samplers", c.c_void_p), ("n_samplers", c.c_size_t),
                ("ctx_other", c.c_void_p)]

    # -1 for flash attention is "auto"; 1 for both caches is f16.
    DEFAULTS = {"n_ctx": 512, "n_batch": 2048, "n_ubatch": UBATCH, "n_seq_max": 1, "n_rs_seq": 0, "n_outputs_max": 0,
                "n_outputs_max_per_seq": 1, "n_threads": 4, "n_threads_batch": 4, "ctx_type": 0,
                "rope_scaling_type": -1, "pooling_type": -1, "attention_type": -1, "flash_attn_type": -1,
                "rope_freq_base": 0.0, "yarn_ext_factor": -1.0, "yarn_beta_slow": -1.0, "yarn_orig_ctx": 0,
                "defrag_thold": -1.0, "cb_eval": None, "type_k": 1, "type_v": 1, "abort_callback": None,
                "embeddings": False, "offload_kqv": True, "no_perf": True, "op_offload": True, "swa_full": True,
                "kv_unified": False, "samplers": None, "n_samplers": 0, "ctx_other": None}


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p),
                ("pos", c.POINTER(c.c_int32)), ("n_seq_id", c.POINTER(c.c_int32)),
                ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


class ThreadpoolParams(c.Structure):
    _fields_ = [("cpumask", c.c_bool * 512), ("n_threads", c.c_int), ("prio", c.c_int), ("poll", c.c_uint32),
                ("strict_cpu", c.c_bool), ("paused", c.c_bool)]

    DEFAULTS = {"n_threads": THREADS, "prio": 0, "poll": POLL, "strict_cpu": False, "paused": False}


LOG = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
ERROR_LEVEL = 4
NO_VOCABULARY = 0

# name: (result, arguments); every function of the C interface that is called.
FUNCTIONS = {
    "llama_version": (c.c_char_p, []),
    "llama_log_set": (None, [LOG, c.c_void_p]),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c.c_void_p, [c.c_char_p, ModelParams]),
    "llama_init_from_model": (c.c_void_p, [c.c_void_p, ContextParams]),
    "llama_attach_threadpool": (None, [c.c_void_p] * 3),
    "llama_model_get_vocab": (c.c_void_p, [c.c_void_p]),
    "llama_model_size": (c.c_uint64, [c.c_void_p]),
    "llama_vocab_type": (c.c_int, [c.c_void_p]),
    "llama_vocab_n_tokens": (c.c_int32, [c.c_void_p]),
    "llama_tokenize": (c.c_int32, [c.c_void_p, c.c_char_p, c.c_int32, c.POINTER(c.c_int32), c.c_int32, c.c_bool,
                                   c.c_bool]),
    "llama_token_to_piece": (c.c_int32, [c.c_void_p, c.c_int32, c.c_char_p, c.c_int32, c.c_int32, c.c_bool]),
    "llama_get_memory": (c.c_void_p, [c.c_void_p]),
    "llama_memory_clear": (None, [c.c_void_p, c.c_bool]),
    "llama_batch_init": (Batch, [c.c_int32] * 3),
    "llama_decode": (c.c_int32, [c.c_void_p, Batch]),
    "llama_synchronize": (None, [c.c_void_p]),
    "llama_get_logits_ith": (c.POINTER(c.c_float), [c.c_void_p, c.c_int32]),
    "llama_adapter_lora_init": (c.c_void_p, [c.c_void_p, c.c_char_p]),
    "llama_set_adapters_lora": (c.c_int32, [c.c_void_p, c.POINTER(c.c_void_p), c.c_size_t, c.POINTER(c.c_float)]),
    # The rest are ggml's.
    "ggml_backend_load_all_from_path": (None, [c.c_char_p]),
    "ggml_backend_dev_by_type": (c.c_void_p, [c.c_int]),
    "ggml_backend_dev_backend_reg": (c.c_void_p, [c.c_void_p]),
    "ggml_backend_reg_get_proc_address": (c.c_void_p, [c.c_void_p, c.c_char_p]),
    "ggml_threadpool_params_default": (ThreadpoolParams, [c.c_int]),
}


class Refused(Exception):
    """A command or a file that cannot be served; its text is the answer."""


def expect_defaults(params):
    """Refuses a structure that does not hold the defaults of the header above: its layout has changed."""
    for field, expected in params.DEFAULTS.items():
        found = getattr(params, field)
        if found != expected:
            raise Refused(f"{type(params).__name__}.{field} is {found} by default, not {expected}: this library is "
                          f"not llama.cpp {VERSION}; install {PACKAGE}")
    return params


class Library:
    """The functions of libllama and the ggml libraries beside it."""

    def __init__(self, folder):
        found = glob.glob(os.path.join(folder, f"libllama.v{VERSION}.so"))
        if not found:
            raise Refused(f"{folder} holds no libllama.v{VERSION}.so: name the folder bins/linux-x64 of {PACKAGE}")
        libraries = [c.CDLL(path, mode=c.RTLD_GLOBAL) for pattern in ("libggml-base.so", f"libggml.v{VERSION}.so")
                     for path in glob.glob(os.path.join(folder, pattern))] + [c.CDLL(found[0])]
        for name, (result, arguments) in FUNCTIONS.items():
            function = next(getattr(library, name) for library in reversed(libraries) if hasattr(library, name))
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self.errors = []
        # The library keeps the pointer: the callback must live as long as the process.
        self.log = LOG(lambda level, text, _: self.errors.append(text.decode(errors="replace").strip())
                       if level == ERROR_LEVEL else None)
        self.llama_log_set(self.log, None)
        # Chooses the library for this processor among those of the folder.
        self.ggml_backend_load_all_from_path(os.fsencode(folder))
        self.llama_backend_init()

    def said(self):
        """What the library reported as errors since it was last asked."""
        text, self.errors = "; ".join(self.errors), []
        return text or "no reason was given"

    def threadpool(self, cpus):
        """A pool as llama-bench makes one, each thread held to one processor."""
        params = expect_defaults(self.ggml_threadpool_params_default(THREADS))
        for cpu in cpus:
            params.cpumask[cpu] = True
        params.strict_cpu = True
        registry = self.ggml_backend_dev_backend_reg(self.ggml_backend_dev_by_type(0))
        address = self.ggml_backend_reg_get_proc_address(registry, b"ggml_threadpool_new")
        return c.CFUNCTYPE(c.c_void_p, c.POINTER(ThreadpoolParams))(address)(c.byref(params))


class Llama:
    """One model with the contexts and adapters that commands have asked for."""

    def __init__(self, folder, model, cpus):
        self.lib = Library(folder)
        self.pool = self.lib.threadpool(cpus)
        params = expect_defaults(self.lib.llama_model_default_params())
        self.model = self.lib.llama_model_load_from_file(os.fsencode(model), params)
        if not self.model:
            raise Refused(f"{model} does not load: {self.lib.said()}")
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.vocab_size = self.lib.llama_vocab_n_tokens(self.vocab)
        self.contexts, self.adapters = {}, {}
        # Room for the widest batch: a prompt, or a prompt piece of every row.
        self.batch = self.lib.llama_batch_init(CONTEXT, 0, 1)

    def context(self, rows, unified=False):
        """A context for so many sequences, without adapter and with an empty cache."""
        key = (rows, unified)
        if key not in self.contexts:
            params = expect_defaults(self.lib.llama_context_default_params())
            params.n_ctx = CONTEXT if rows == 1 else rows * 256
            params.n_seq_max, params.kv_unified = rows, unified
            params.n_threads = params.n_threads_batch = THREADS
            made = self.lib.llama_init_from_model(self.model, params)
            if not made:
                raise Refused(f"no context for {rows} sequences: {self.lib.said()}")
            self.lib.llama_attach_threadpool(made, self.pool, None)
            self.contexts[key] = made
        self.clear(self.contexts[key])
        self.use(self.contexts[key], None)
        return self.contexts[key]

    def clear(self, context):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(context), True)

    def use(self, context, path):
        """Sets one adapter on the context, or none."""
        if path is None:
            self.lib.llama_set_adapters_lora(context, None, 0, None)
            return
        if path not in self.adapters:
            file = os.path.join(path, "adapter.gguf") if os.path.isdir(path) else path
            self.adapters[path] = self.lib.llama_adapter_lora_init(self.model, os.fsencode(file))
            if not self.adapters[path]:
                raise Refused(f"adapter {file} does not load: {self.lib.said()}")
        self.lib.llama_set_adapters_lora(context, (c.c_void_p * 1)(self.adapters[path]), 1, (c.c_float * 1)(1.0))

    def decode(self, context, entries):
        """Runs the model over entries of (token, position, row, whether its logits are wanted)."""
        if len(entries) > CONTEXT:
            raise Refused(f"{len(entries)} tokens at once; {CONTEXT} fit")
        self.batch.n_tokens = len(entries)
        for i, (token, position, row, logits) in enumerate(entries):
            self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token, position, logits
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, row
        status = self.lib.llama_decode(context, self.batch)
        if status != 0:
            raise Refused(f"llama_decode answered {status}: {self.lib.said()}")
        self.lib.llama_synchronize(context)

    def token(self, position, row):
        """The token at a place: both sides of a comparison take the same ones."""
        return (7919 * position + 104729 * row + 17) % self.vocab_size

    def fill(self, context, row, length):
        self.decode(context, [(self.token(i, row), i, row, i == length - 1) for i in range(length)])

    def steps(self, context, rows, start, tokens):
        """The seconds of `tokens` steps, each of which decodes one token of every row."""
        began = time.perf_counter()
        for position in range(start, start + tokens):
            self.decode(context, [(self.token(position, row), position, row, True) for row in rows])
        return time.perf_counter() - began

    def do_decode(self, context, tokens, adapter=None):
        """One sequence, alone."""
        made = self.context(1)
        self.use(made, adapter)
        self.fill(made, 0, context)
        return {"seconds": self.steps(made, [0], context, tokens), "tokens": tokens}

    def do_prefill(self, tokens, adapter=None):
        """One prompt; the logits of its last token."""
        made = self.context(1)
        self.use(made, adapter)
        # Setting an adapter makes the next call lay out its graph anew, which is not the prompt's time.
        self.decode(made, [(self.token(0, 1), 0, 0, True)])
        self.clear(made)
        began = time.perf_counter()
        self.fill(made, 0, tokens)
        return {"seconds": time.perf_counter() - began, "tokens": tokens}

    def do_batch(self, rows, context, tokens, unified=False):
        """Many sequences, each step decoding a token of every one."""
        made = self.context(rows, unified)
        for row in range(rows):
            self.fill(made, row, context)
        return {"seconds": self.steps(made, range(rows), context, tokens), "tokens": rows * tokens}

    def do_adapters(self, rows, context, tokens, adapters):
        """Rows with an adapter each. An adapter belongs to a context, not to a sequence, so each row is served alone;
        only decoding is timed, neither the change of adapter nor the prompt."""
        made, seconds = self.context(1), 0.0
        for row in range(rows):
            self.use(made, adapters[row % len(adapters)])
            self.clear(made)
            self.fill(made, 0, context)
            seconds += self.steps(made, [0], context, tokens)
        return {"seconds": seconds, "tokens": rows * tokens}

    def do_text(self, prompt, tokens):
        """The most likely continuation, to see that the model is whole."""
        if self.lib.llama_vocab_type(self.vocab) == NO_VOCABULARY:
            raise Refused("the model file holds no vocabulary; make it with --hf")
        made, text = self.context(1), prompt.encode()
        ids = (c.c_int32 * (len(text) + 8))()
        length = self.lib.llama_tokenize(self.vocab, text, len(text), ids, len(ids), True, False)
        if length <= 0:
            raise Refused("the prompt has no tokens")
        taken, entries = [], [(ids[i], i, 0, i == length - 1) for i in range(length)]
        for position in range(length, length + tokens):
            self.decode(made, entries)
            logits = self.lib.llama_get_logits_ith(made, -1)[:self.vocab_size]
            taken.append(max(range(self.vocab_size), key=logits.__getitem__))
            entries = [(taken[-1], position, 0, True)]
        return {"text": "".join(map(self.piece, taken)), "ids": taken}

    def piece(self, token):
        text = c.create_string_buffer(256)
        length = self.lib.llama_token_to_piece(self.vocab, token, text, len(text), 0, True)
        return text.raw[:length].decode(errors="replace")

    def answer(self, line):
        try:
            command = json.loads(line)
            work = {"decode": self.do_decode, "adapter": self.do_decode, "prefill": self.do_prefill,
                    "batch": self.do_batch, "adapters": self.do_adapters, "text": self.do_text}.get(command.pop("do"))
            if work is None:
                raise Refused("no such command")
            return work(**command)
        except (Refused, ValueError, KeyError, TypeError, AttributeError) as problem:
            return {"error": f"{type(problem).__name__}: {problem}", "command": line.strip()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True, help=f"folder bins/linux-x64 of {PACKAGE}")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--cpus", default="0,1", help="the two processors to use")
    options = parser.parse_args()
    cpus = [int(cpu) for cpu in options.cpus.split(",")]
    if len(set(cpus)) != THREADS:
        sys.exit(f"--cpus names {options.cpus}; name {THREADS} different processors")
    os.sched_setaffinity(0, cpus)
    try:
        llama = Llama(options.lib, options.model, cpus)
    except Refused as problem:
        sys.exit(str(problem))
    print(json.dumps({"name": "llama.cpp", "version": llama.lib.llama_version().decode(), "package": PACKAGE,
                      "threads": THREADS, "weight_bytes": llama.lib.llama_model_size(llama.model)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(llama.answer(line)), flush=True)


if __name__ == "__main__":
    main()
