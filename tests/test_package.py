"""The wheel: everything of `align` is in it, and nothing else at the top of site-packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_has_the_package_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("align", "callbacks", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", str(source), "--no-build-isolation", "--no-deps", "-q"]
    subprocess.run([*build, "-w", str(tmp_path)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].removesuffix(".dist-info") for name in names} == {"align", wheel.name.split("-py3")[0]}
    files = [p for kind in ("*.py", "*.yaml", "*.txt", "*.html", "*.jinja") for p in (source / "align").rglob(kind)]
    files += [*(source / "callbacks").glob("*.py"), *(source / "configs").rglob("*.yaml")]
    expected = {path.relative_to(source).as_posix() for path in files}
    expected = {name if name.startswith("align/") else f"align/{name}" for name in expected}
    assert expected <= names
    assert len([name for name in names if name.startswith("align/configs/")]) > 90
