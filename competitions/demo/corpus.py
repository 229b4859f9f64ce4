"""Public-domain prose and code, cut into documents of 1 to 4 kB.

Prose is Jane Austen's six novels, from the Debian package `r-cran-janeaustenr`.
Code is SQLite's amalgamation, from the crate `libsqlite3-sys`. Both are fetched
with the ordinary package clients, and every text is checked against a digest.
"""

import hashlib
import re
import struct
import subprocess
import zlib
from pathlib import Path

DEBIAN_PACKAGE = "r-cran-janeaustenr"
CRATE, CRATE_VERSION = "libsqlite3-sys", "0.35.0"
SHA256 = {
    "novels": "ae4140c6e5ab543cc81f68358120258f0935ac9e27a30f44a7a564b349307867",
    "sqlite": "c9a0b6829b81d5f1b78392181f09744c818117a725667411d517b98149fcd3be",
}

HELD_OUT_NOVEL = "NORTHANGER ABBEY"
HELD_OUT_SOURCES = ["backup.c", "date.c", "fkey.c"]
HELD_OUT_PROSE_CHARACTERS = 120_000
DOCUMENT_TARGET, DOCUMENT_MIN, DOCUMENT_MAX = 2_000, 1_000, 4_000


def corpus(cache: Path) -> dict[str, dict[str, list[str]]]:
    """Documents by domain and split: `corpus(cache)["prose"]["held_out"]`."""
    novels = fetch_novels(cache)
    sources = split_amalgamation(fetch_sqlite(cache))
    held_out_prose = documents(paragraphs(novels.pop(HELD_OUT_NOVEL)), "\n\n")
    return {
        "prose": {
            "train": [
                document
                for novel in novels.values()
                for document in documents(paragraphs(novel), "\n\n")
            ],
            "held_out": until(held_out_prose, HELD_OUT_PROSE_CHARACTERS),
        },
        "code": {
            "train": [
                document
                for name, text in sources.items()
                if name not in HELD_OUT_SOURCES
                for document in documents(text.split("\n\n"), "\n\n")
            ],
            "held_out": [
                document
                for name in HELD_OUT_SOURCES
                for document in documents(sources[name].split("\n\n"), "\n\n")
            ],
        },
    }


def fetch_novels(cache: Path) -> dict[str, str]:
    """Title to text, for the six novels."""
    root = cache / DEBIAN_PACKAGE
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", DEBIAN_PACKAGE], cwd=cache, check=True)
        (archive,) = cache.glob(f"{DEBIAN_PACKAGE}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
    database = root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    novels = [lines for lines in r_objects(database.read_bytes()) if len(lines) > 1]
    check_digest("novels", "\n\n".join("\n".join(lines) for lines in novels))
    return {lines[0].upper(): "\n".join(lines[1:]) for lines in novels}


def fetch_sqlite(cache: Path) -> str:
    """The text of sqlite3.c."""
    project = cache / "sqlite"
    source = project / "vendor" / CRATE / "sqlite3/sqlite3.c"
    if not source.exists():
        (project / "src").mkdir(parents=True, exist_ok=True)
        (project / "src/lib.rs").touch()
        (project / "Cargo.toml").write_text(
            '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
            f'[dependencies]\n{CRATE} = "={CRATE_VERSION}"\n[workspace]\n'
        )
        subprocess.run(["cargo", "vendor", "--quiet"], cwd=project, check=True, stdout=subprocess.DEVNULL)
    text = source.read_text()
    check_digest("sqlite", text)
    return text


def check_digest(name: str, text: str) -> None:
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != SHA256[name]:
        raise SystemExit(f"{name}: SHA-256 is {found}, expected {SHA256[name]}: the package's text has changed")


def r_objects(database: bytes) -> list[list[str]]:
    """The character vectors of an R lazy-load database.

    Each record is its unpacked length (u32, big-endian), then a zlib stream
    with an R serialisation (format X, version 3) of one vector.
    """
    character_vector, header = 16, 14
    vectors, at = [], 0
    while at < len(database):
        stream = zlib.decompressobj()
        raw = stream.decompress(database[at + 4 :])
        at = len(database) - len(stream.unused_data)
        (encoding_length,) = struct.unpack_from(">I", raw, header)
        cursor = header + 4 + encoding_length
        kind, count = struct.unpack_from(">II", raw, cursor)
        cursor += 8
        if kind & 0xFF != character_vector:
            continue
        strings = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", raw, cursor + 4)
            cursor += 8
            strings.append(raw[cursor : cursor + length].decode())
            cursor += length
        vectors.append(strings)
    return vectors


def split_amalgamation(text: str) -> dict[str, str]:
    """File name to text; a file that is interrupted by an include goes on after it."""
    marker = re.compile(r"/\*{14} (Begin file|End of|Continuing where we left off in) (\S+) \*+/")
    files: dict[str, list[str]] = {}
    name = "sqlite3.c"
    for line in text.splitlines():
        if match := marker.match(line):
            name = match[2] if match[1] != "End of" else "sqlite3.c"
        else:
            files.setdefault(name, []).append(line)
    return {name: "\n".join(lines) for name, lines in files.items()}


def paragraphs(novel: str) -> list[str]:
    """Paragraphs on one line each, without what stands before the first chapter."""
    body = novel[re.search(r"^CHAPTER (I|1)$", novel, re.MULTILINE | re.IGNORECASE).start() :]
    lines = (" ".join(block.split()) for block in re.split(r"\n\s*\n", body))
    return [line for line in lines if line]


def documents(blocks: list[str], separator: str) -> list[str]:
    """Neighbouring blocks joined up to the target size; what leaves the bounds is dropped."""
    joined, current = [], ""
    for block in blocks:
        current = current + separator + block if current else block
        if len(current) >= DOCUMENT_TARGET:
            joined.append(current)
            current = ""
    return [text.strip("\n") for text in joined if DOCUMENT_MIN <= len(text) <= DOCUMENT_MAX]


def until(texts: list[str], characters: int) -> list[str]:
    kept, total = [], 0
    for text in texts:
        if total >= characters:
            break
        kept.append(text)
        total += len(text)
    return kept
