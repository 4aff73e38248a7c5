"""What is published: a wheel, and a source archive that makes the same one; they work alone, outside any clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip"]
OFFLINE = ["--no-build-isolation", "--no-deps", "-q"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The files that a package is made of, as a clone has them."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("align", "callbacks", "configs", "tests"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return source


def wheel_of(source: Path, folder: Path) -> Path:
    subprocess.run([*PIP, "wheel", str(source), *OFFLINE, "-w", str(folder)], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_has_the_package_alone(source: Path, tmp_path: Path) -> None:
    wheel = wheel_of(source, tmp_path)
    names = names_in(wheel)
    assert {name.split("/")[0].removesuffix(".dist-info") for name in names} == {"align", wheel.name.split("-py3")[0]}
    files = [p for kind in ("*.py", "*.yaml", "*.txt", "*.html", "*.jinja") for p in (source / "align").rglob(kind)]
    files += [*(source / "callbacks").glob("*.py"), *(source / "configs").rglob("*.yaml")]
    expected = {path.relative_to(source).as_posix() for path in files}
    expected = {name if name.startswith("align/") else f"align/{name}" for name in expected}
    assert expected <= names
    assert len([name for name in names if name.startswith("align/configs/")]) > 90


@pytest.mark.slow
def test_the_source_archive_makes_the_same_package_and_it_runs(source: Path, tmp_path: Path) -> None:
    """Its links are files by then: an archive of links would lead out of it, and lose callbacks and configs."""
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        members = [member for member in packed.getmembers() if not member.isdir()]
    assert all(member.isfile() for member in members)
    tops = {member.name.split("/")[1] for member in members}
    assert not {"tests", "callbacks", "configs"} & tops
    for name in ("made", "direct"):
        (tmp_path / name).mkdir()
    made = wheel_of(archive, tmp_path / "made")
    assert names_in(made) == names_in(wheel_of(source, tmp_path / "direct"))
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([*PIP, "install", str(archive), *OFFLINE, "--target", str(site)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "align", *words],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import align.callbacks, align; print(align.callbacks.__file__)"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))
    assert "dpo" in run("config", "list").split()
    assert "class_path: align.objectives.pairwise.DPO" in run("fit", "-c", "dpo", "--print_config")
