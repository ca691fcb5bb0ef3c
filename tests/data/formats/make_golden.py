#!/usr/bin/env python3
"""Writes <format>.bin here: raw blocks, then the float32 values that the Python package gguf (pip install gguf) decodes them to.

Blocks are random bytes, except that f16 and bf16 fields are finite; the last block of each format with an f16 scale has a
subnormal negative one. tests/tensor/formats_test.cpp wants our decoders to agree bit for bit.
"""

import os

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

# name: (type, elements a block, bytes a block, byte offsets of f16 fields)
FORMATS = {
    "f32": (Type.F32, 1, 4, []),
    "f16": (Type.F16, 1, 2, []),
    "bf16": (Type.BF16, 1, 2, []),
    "q8_0": (Type.Q8_0, 32, 34, [0]),
    "q4_0": (Type.Q4_0, 32, 18, [0]),
    "q4_1": (Type.Q4_1, 32, 20, [0, 2]),
    "q5_0": (Type.Q5_0, 32, 22, [0]),
    "q5_1": (Type.Q5_1, 32, 24, [0, 2]),
    "q2_k": (Type.Q2_K, 256, 84, [80, 82]),
    "q3_k": (Type.Q3_K, 256, 110, [108]),
    "q4_k": (Type.Q4_K, 256, 144, [0, 2]),
    "q5_k": (Type.Q5_K, 256, 176, [0, 2]),
    "q6_k": (Type.Q6_K, 256, 210, [208]),
    "iq4_nl": (Type.IQ4_NL, 32, 18, [0]),
    "mxfp4": (Type.MXFP4, 32, 17, []),
}
# Plain floats: (bits as, exponent mask, a bit of the exponent to clear where all of them are set)
FLOATS = {"f32": (np.uint32, 0x7F800000, 1 << 30), "f16": (np.uint16, 0x7C00, 1 << 14), "bf16": (np.uint16, 0x7F80, 1 << 14)}

rng = np.random.default_rng(7)
for name, (kind, elements, size, halves) in FORMATS.items():
    blocks = {1: 64, 32: 4, 256: 2}[elements]
    raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    for k, offset in enumerate(halves):
        scale = rng.normal(0, 0.01, blocks).astype(np.float16)
        scale[-1] = -3e-6 if k == 0 else 0.02
        raw[:, offset : offset + 2] = scale.view(np.uint8).reshape(blocks, 2)
    if name in FLOATS:
        bits, exponent, clear = FLOATS[name]
        view = raw.view(bits)
        view[(view & exponent) == exponent] ^= clear
    if name == "f16":
        raw.view(np.uint16)[:2, 0] = [0x0001, 0x83FF]  # subnormals
    if name == "mxfp4":
        raw[:, 0] = [120, 127, 2, 130]
    values = raw.view(np.float32) if kind == Type.F32 else dequantize(raw, kind)
    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    assert values.size == blocks * elements and np.isfinite(values).all(), name
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".bin"), "wb") as out:
        out.write(raw.tobytes() + values.tobytes())
