"""Writes theirs.json: weights that the subnet's own tools locked, and what the
beacon signed in that round. Then opens ours.hex, which the tests keep, with them.

python -m venv venv && venv/bin/pip install bittensor-drand==2.0.0
venv/bin/python make.py
"""

import json
import pathlib
import struct

import bittensor_drand

HERE = pathlib.Path(__file__).resolve().parent
ROUND = 1000
# Published by drand for round 1000 of quicknet.
SIGNATURE = (
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125"
    "e342b73a8dd2bacbe47e4b6b63ed5e39"
)
PAYLOADS = [b"", b"hello weights", bytes(range(256)) * 4]


def compact(count):
    """A length as SCALE writes it."""
    if count < 1 << 6:
        return bytes([count << 2])
    if count < 1 << 14:
        return struct.pack("<H", count << 2 | 1)
    return struct.pack("<I", count << 2 | 2)


def locked(payload):
    whole, _ = bittensor_drand.encrypt_at_round(payload, ROUND)
    # The tools put a length before the ciphertext and the round behind it.
    body = whole[:-8]
    start = next(n for n in (1, 2, 4) if body[:n] == compact(len(body) - n))
    return body[start:].hex()


content = {
    "round": ROUND,
    "signature": SIGNATURE,
    "locked": [{"payload": one.hex(), "ciphertext": locked(one)} for one in PAYLOADS],
}
(HERE / "theirs.json").write_text(json.dumps(content, indent=1) + "\n")

ours = bytes.fromhex((HERE / "ours.hex").read_text().strip())
whole = compact(len(ours)) + ours + struct.pack("<Q", ROUND)
print(bittensor_drand.decrypt_with_signature(whole, SIGNATURE).hex())
