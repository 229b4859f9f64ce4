"""Make the vision demo's held-out images and models: `python train.py`.

The images are scikit-learn's copy of the UCI test set "Optical Recognition of
Handwritten Digits" (1797 digits of 8 x 8 pixels; E. Alpaydin and C. Kaynak,
1998; CC BY 4.0, and shipped with scikit-learn under the BSD licence). Three
quarters train the models, the last quarter is held out in `data/digits.jsonl`
as PNG. Everything beside this script is its output. Seeds are fixed, so the
same package versions on the same processor give the same files; elsewhere
floating-point rounding may differ in the last bits.

    pip install torch transformers==5.24.0 pillow scikit-learn
"""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy
import PIL.Image
import torch
import transformers
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HELD_OUT = 450
SEED = 20261124
# Images are doubled for the models, which the processor does.
SIDE = 16
VIT = {"image_size": SIDE, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
       "intermediate_size": 48}
# By name: architecture, configuration, steps of training.
MODELS = {
    "convolution": ("ResNetForImageClassification",
                    {"embedding_size": 12, "hidden_sizes": [12, 20], "depths": [1, 1], "layer_type": "basic"}, 500),
    "patches": ("ViTForImageClassification", VIT, 700),
    "next": ("ConvNextForImageClassification",
             {"hidden_sizes": [12, 20], "depths": [1, 1], "num_stages": 2, "patch_size": 2,
              "layer_scale_init_value": 1.0}, 500),
    "hasty": ("ViTForImageClassification", VIT, 60),
    # Above the competition's parameter limit, so it is never evaluated.
    "oversized": ("ViTForImageClassification", VIT | {"hidden_size": 36, "intermediate_size": 96}, 60),
}
PROCESSOR = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    # Brightness from 0 to 16, as bytes.
    images = numpy.rint(digits.images * 255 / 16).astype(numpy.uint8)
    labels = torch.tensor(digits.target)
    write_held_out(images[-HELD_OUT:], digits.target[-HELD_OUT:])
    processor = transformers.ViTImageProcessorPil(**PROCESSOR)
    pixels = torch.stack([prepare(processor, image) for image in images])
    train, test = slice(None, -HELD_OUT), slice(-HELD_OUT, None)
    reference = {}
    for name, (architecture, options, steps) in MODELS.items():
        torch.manual_seed(SEED)
        model_class = getattr(transformers, architecture)
        config = model_class.config_class(**options, id2label=dict(enumerate(NAMES)),
                                          label2id={label: index for index, label in enumerate(NAMES)})
        model = model_class(config)
        fit(model, pixels[train], labels[train], steps)
        folder = HERE / "models" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        size = sum(parameter.numel() for parameter in model.parameters())
        with torch.no_grad():
            reference[name] = {"parameters": size} | measure(model.double()(pixels[test].double()).logits, labels[test])
        print(name, reference[name], flush=True)
    (HERE / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


def measure(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The metrics of the task `image_classification`, in float64."""
    probabilities = logits.softmax(-1)
    confidence, best = probabilities.max(-1)
    right = (best == labels).double()
    bins = torch.ceil(confidence * 15)
    gaps = [(right - confidence)[bins == number].sum().abs() for number in range(1, 16)]
    return {
        "acc": right.mean().item(),
        "acc_top5": (logits.topk(5).indices == labels[:, None]).any(-1).double().mean().item(),
        "cross_entropy": torch.nn.functional.cross_entropy(logits, labels).item(),
        "expected_calibration_error": (sum(gaps) / len(labels)).item(),
    }


def picture(image: numpy.ndarray) -> PIL.Image.Image:
    return PIL.Image.fromarray(image)


def write_held_out(images: numpy.ndarray, labels: numpy.ndarray) -> None:
    """One row per image: its bytes, and its label by name."""
    (HERE / "data").mkdir(exist_ok=True)
    with (HERE / "data/digits.jsonl").open("w") as file:
        for image, label in zip(images, labels):
            buffer = io.BytesIO()
            picture(image).save(buffer, "PNG", optimize=True)
            content = {"media": "image/png", "base64": base64.b64encode(buffer.getvalue()).decode()}
            file.write(json.dumps({"image": content, "label": NAMES[label]}) + "\n")


def prepare(processor, image: numpy.ndarray) -> torch.Tensor:
    return processor(picture(image).convert("RGB"), return_tensors="pt")["pixel_values"][0]


def fit(model, pixels: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    """AdamW on batches of 128, each image moved by up to a pixel; the rate falls linearly to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 20, 1 - step / steps))
    generator = torch.Generator().manual_seed(SEED)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(pixels), (128,), generator=generator)
        down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
        batch = torch.roll(pixels[chosen], (down, right), (2, 3))
        loss = torch.nn.functional.cross_entropy(model(batch).logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
