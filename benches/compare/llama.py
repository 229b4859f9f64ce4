"""Builds llama.cpp, from the sources that its Python package carries."""

import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGE = "llama-cpp-python==0.3.36"
ENGINES = Path(__file__).parent / "engines"


def build(directory: Path, instructions: str, log: Path) -> Path | None:
    """The program `llama_loss`, built below `directory` for this processor, or
    with `avx2` for one with nothing newer; none where that fails, and then
    `log` says why."""
    build_directory = directory / f"build-{instructions}"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w") as output:
            sources = download(directory, output)
            tools = Path(sys.executable).parent
            configure = [
                tools / "cmake", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
                "-DCMAKE_BUILD_TYPE=Release", f"-DLLAMA_CPP={sources}", f"-DINSTRUCTIONS={instructions}",
                "-S", ENGINES, "-B", build_directory,
            ]  # fmt: skip
            run(configure, output)
            run([tools / "cmake", "--build", build_directory], output)
    except (OSError, subprocess.CalledProcessError):
        return None
    return build_directory / "llama_loss"


def download(directory: Path, output) -> Path:
    """The source tree of llama.cpp."""
    if not list(directory.glob("llama_cpp_python-*/vendor/llama.cpp/include/llama.h")):
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python"]
        run([*pip, "--dest", directory, PACKAGE], output)
        (archive,) = directory.glob("llama_cpp_python-*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(directory, filter="data")
    (header,) = directory.glob("llama_cpp_python-*/vendor/llama.cpp/include/llama.h")
    return header.parents[1].resolve()


def run(command: list, output) -> None:
    subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True)
