#!/usr/bin/env python3
"""The training step of moe beside PyTorch's: the same qwen3moe weights, batches and optimiser, losses side by side and tokens/s.

    moe-inspect synth model.gguf --arch qwen3moe --set n_layer=4 …   # float32
    tests/peers/torch_train.py model.gguf text.txt --moe build/bin/moe-train [--steps 10] [--bf16]

Needs torch and numpy; no test needs it. The torch model is written as a good user would: experts by index_add over the tokens
that chose them, scaled_dot_product_attention, fused AdamW. Rows are independent sequences, so both see the same text.
"""
import argparse
import csv
import os
import struct
import subprocess
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F

SCALAR = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


class Gguf:
    """Keys and float32 tensors of a GGUF file (models/io/README.md has the layout)."""

    def __init__(self, path):
        self.data = open(path, "rb").read()
        self.at = 8
        n_tensors, n_keys = self.take("<Q"), self.take("<Q")
        self.keys = {self.text(): self.value(self.take("<I")) for _ in range(n_keys)}
        infos = []
        for _ in range(n_tensors):
            name = self.text()
            shape = [self.take("<Q") for _ in range(self.take("<I"))][::-1]
            infos.append((name, shape, self.take("<I"), self.take("<Q")))
        align = self.keys.get("general.alignment", 32)
        base = (self.at + align - 1) // align * align
        self.tensors = {}
        for name, shape, kind, offset in infos:
            assert kind == 0, f"{name}: wanted float32"
            flat = np.frombuffer(self.data, np.float32, int(np.prod(shape)), base + offset)
            self.tensors[name] = torch.tensor(flat.reshape(shape).copy())

    def take(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self):
        n = self.take("<Q")
        self.at += n
        return self.data[self.at - n : self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.take("<I"), self.take("<Q")
            return [self.value(inner) for _ in range(n)]
        return self.take(SCALAR[kind])


def token_rows(path, context):
    """Rows of a token file of one document: header of 64 bytes, then u16 tokens (models/train/token_file.cpp)."""
    data = open(path, "rb").read()
    n_tokens = struct.unpack_from("<Q", data, 32)[0]
    tokens = np.frombuffer(data, np.uint16, n_tokens, 64).astype(np.int64)
    n = (len(tokens) - 1) // context
    return torch.tensor(tokens[: n * context].reshape(n, context)), torch.tensor(tokens[1 : n * context + 1].reshape(n, context))


class Model(torch.nn.Module):
    def __init__(self, file):
        super().__init__()
        k = {key.split(".", 1)[1]: v for key, v in file.keys.items() if key.startswith("qwen3moe.")}
        self.layers, self.heads, self.kv = k["block_count"], k["attention.head_count"], k["attention.head_count_kv"]
        self.dim, self.used = k["attention.key_length"], k["expert_used_count"]
        self.eps, self.base = k["attention.layer_norm_rms_epsilon"], k["rope.freq_base"]
        self.names = {name: name.replace(".", "_") for name in file.tensors}
        for name, tensor in file.tensors.items():
            setattr(self, self.names[name], torch.nn.Parameter(tensor))

    def w(self, name):
        return getattr(self, self.names[name])

    def norm(self, x, weight):
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)

    def rope(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * torch.cat((cos, cos), -1) + torch.cat((-b, a), -1) * torch.cat((sin, sin), -1)

    def experts(self, x, b, stats):
        probs = F.softmax(x.float() @ self.w(b + "ffn_gate_inp.weight").T.float(), -1)
        weight, ids = torch.topk(probs, self.used, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        gate, up, down = (self.w(b + f"ffn_{n}_exps.weight") for n in ("gate", "up", "down"))
        for e in range(gate.shape[0]):
            token, slot = torch.where(ids == e)
            if token.numel() == 0:
                continue
            h = x[token]
            y = (F.silu(h @ gate[e].T) * (h @ up[e].T)) @ down[e].T
            out.index_add_(0, token, (y * weight[token, slot, None]).to(out.dtype))
        load = torch.bincount(ids.flatten(), minlength=probs.shape[1]).float() / ids.numel()
        stats.append(probs.shape[1] * (load * probs.mean(0)).sum())
        return out

    def forward(self, tokens, targets):
        rows, context = tokens.shape
        angle = torch.arange(context)[:, None] * self.base ** (-torch.arange(0, self.dim, 2) / self.dim)
        cos, sin = angle.cos(), angle.sin()
        x = self.w("token_embd.weight")[tokens]
        stats = []
        for i in range(self.layers):
            b = f"blk.{i}."
            h = self.norm(x, self.w(b + "attn_norm.weight"))
            q, k, v = ((h @ self.w(b + f"attn_{n}.weight").T).view(rows, context, -1, self.dim).transpose(1, 2) for n in "qkv")
            q = self.rope(self.norm(q, self.w(b + "attn_q_norm.weight")), cos, sin)
            k = self.rope(self.norm(k, self.w(b + "attn_k_norm.weight")), cos, sin)
            k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, context, -1)
            x = x + y @ self.w(b + "attn_output.weight").T
            h = self.norm(x, self.w(b + "ffn_norm.weight"))
            x = x + self.experts(h.flatten(0, 1), b, stats).view_as(x)
        x = self.norm(x, self.w("output_norm.weight"))
        head = "output.weight" if "output.weight" in self.names else "token_embd.weight"
        loss = F.cross_entropy((x @ self.w(head).T).flatten(0, 1).float(), targets.flatten())
        return loss, torch.stack(stats).sum()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("--moe", default="build/bin/moe-train")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--rows", type=int, default=8)
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--switch-loss", type=float, default=0.01)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as folder:
        tokens = os.path.join(folder, "text.tok")
        subprocess.run([a.moe, "tokens", a.text, "--format", "whole", "-o", tokens, "--tokenizer", a.model], check=True)
        settings = {"train.rows": a.rows, "data.context": a.context, "data.held_out": 0, "data.shuffle": "false",
                    "train.schedule": "constant", "train.rate": 0.001, "train.warmup": 0, "train.clip": 1,
                    "balance.switch_loss": a.switch_loss, "balance.z_loss": 0, "validate_every": 0,
                    "train.bf16": "true" if a.bf16 else "false", "data.corpora.0.tokens": tokens}
        command = [a.moe, "run", "--init", a.model, "--out", folder, "--steps", str(a.steps), "--threads", str(a.threads)]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        subprocess.run(command, check=True)
        rows = [r for r in csv.DictReader(open(os.path.join(folder, "log.csv"))) if r["kind"] == "step"]
        inputs, targets = token_rows(tokens, a.context)

    model = Model(Gguf(a.model))
    decayed = [q for q in model.parameters() if q.dim() > 1]
    plain = [q for q in model.parameters() if q.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0}],
                                  lr=0.001, betas=(0.9, 0.95), eps=1e-8, fused=True)
    print("step      moe loss    torch loss  difference   moe tok/s  torch tok/s")
    speeds = []
    for i, row in enumerate(rows):
        part = slice(i * a.rows, (i + 1) * a.rows)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            loss, balance = model(inputs[part], targets[part])
        (loss + a.switch_loss * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - start
        ours, theirs = float(row["tokens_per_s"]), a.rows * a.context / seconds
        speeds.append((ours, theirs))
        print(f"{i + 1:4d}  {float(row['loss']):12.6f}  {loss.item():12.6f}  {float(row['loss']) - loss.item():10.2e}  "
              f"{ours:10.0f}  {theirs:11.0f}")
    ours, theirs = (float(np.median([s[j] for s in speeds])) for j in (0, 1))
    print(f"median tokens/s: moe {ours:.0f}, torch {torch.__version__} {theirs:.0f}, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
