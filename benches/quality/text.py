"""The held-out text: the beginning of Moby-Dick, then Australian news of 2000 and 2001.

The news is the Lee corpus (Lee, Pincombe and Welsh, 2005), as the wheel of ``gensim`` carries it
among its test data. This repository has no right to carry it and no other long text that neither
the calibration text nor the tests read, so it is taken from the package index, by digest.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from spec.files import write_whole

PACKAGE = "gensim==4.3.3"
MEMBER = "gensim/test/test_data/lee_background.cor"
SHA256 = "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"
NEWS_CHARACTERS = 40_000
"""More than 4,096 tokens ask for."""
PROSE = Path("tests/data/moby_dick.txt")


def held_out(folder: Path) -> Path:
    """``folder/held_out.txt``, made if it is not there.

    Raises:
        subprocess.CalledProcessError: the package index does not answer.
        ValueError: it answers with another text.
    """
    path = folder / "held_out.txt"
    if not path.is_file():
        write_whole(path, PROSE.read_text("utf-8") + "\n\n" + _news(folder)[:NEWS_CHARACTERS])
    return path


def _news(folder: Path) -> str:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--python-version", "3.11", "--platform", "manylinux2014_x86_64", "--dest", str(folder),
        PACKAGE,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    wheel = next(folder.glob("gensim-*.whl"))
    with zipfile.ZipFile(wheel) as held:
        data = held.read(MEMBER)
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise ValueError(f"{MEMBER} of {PACKAGE} has the digest {found}, not {SHA256}")
    wheel.unlink()
    return data.decode("utf-8")
