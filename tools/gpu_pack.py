"""Pack what a bare GPU machine needs to train, in parts that one call can carry: build/gpu/part-1, part-2, ...

    python tools/gpu_pack.py open-cbam_lite_hrnet_18
    python tools/gpu_pack.py --run runs/open-cbam_lite_hrnet_18         going on from its state

In the parts: the package, the small libraries that the machine lacks, the recipe or the run, the weights that it starts
or learns from, and the shards. docs/gpu.md has the order of calls.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpu_slice import LIST, MIB, NAMED, PIECE, STATE, content_of, cut, entry, put, step_of, zipped

import featherpose
from featherpose import api, weights
from featherpose.data.folder import find_folder
from featherpose.data.shards import read_index
from featherpose.data.teacher import FILE as TEACHER_LABELS

PACKAGE = Path(featherpose.__file__).parent
CHECKOUT = PACKAGE.parents[1]
WHEELS = (
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    *("rich", "markdown-it-py", "mdurl", "pygments"),
)
"""What training imports beside the large libraries; versions are those installed here."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
CALL, MARGIN = 64 * MIB, 2 * MIB
"""A call carries 64 MiB: a part, and the checkout with it."""


def room(checkout: Path) -> int:
    """Checkout -> bytes that a part may have when all files that git does not ignore travel along."""
    listing = ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, text=True).stdout.split("\0")
    files = [checkout / name for name in names if name and (checkout / name).is_file()]
    return min(60 * MIB, CALL - MARGIN - sum(file.stat().st_size for file in files))


def inside(name: str) -> str:
    """A path that the recipe names -> the same, if it can mean the same on another machine."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        sys.exit(
            f"The recipe names {name}, which another machine has not; wanted a path inside this folder, or a name."
        )
    return name


def named_weights(recipe: Any) -> Iterator[Path]:
    """Recipe -> the weights that it starts from and the network that it learns from."""
    from featherpose.train.distill import LABELS

    if recipe.init:
        yield weights.find(recipe.init, Path(recipe.init).suffix or ".safetensors")
    if recipe.distill.teacher not in ("", LABELS):
        yield weights.find(recipe.distill.teacher, ".safetensors")


def package(shipped: Iterable[Path]) -> bytes:
    """Weights that lie in the package and are needed -> a zip of it, installed as it is unpacked."""
    files = [*PACKAGE.rglob("*.py"), *shipped]
    contents = {file.relative_to(PACKAGE.parent).as_posix(): file.read_bytes() for file in files}
    number = version("featherpose")
    about = f"Metadata-Version: 2.1\nName: featherpose\nVersion: {number}\n".encode()
    return zipped({**contents, f"featherpose-{number}.dist-info/METADATA": about})


def fetch(folder: Path, python: str) -> None:
    """Fetch the wheels for a version of Python on Linux into a folder."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pins = [f"{name}=={version(name)}" for name in WHEELS]
    if subprocess.run([*pip, *target, *platforms, "--dest", str(folder), *pins]).returncode:
        sys.exit("The wheels could not be fetched; --wheels FOLDER takes them from a folder.")


def wheels(python: str, given: Path | None) -> Iterator[tuple[str, bytes]]:
    """Version of Python, and a folder of wheels or None to fetch them -> each wheel."""
    with tempfile.TemporaryDirectory() as folder:
        if given is None:
            fetch(Path(folder), python)
        found = sorted((given or Path(folder)).glob("*.whl"))
        there = {file.name.split("-")[0].lower().replace("_", "-") for file in found}
        if absent := set(WHEELS) - there:
            sys.exit(f"{given}: no wheel of {', '.join(sorted(absent))}.")
        yield from ((f"wheels/{file.name}", file.read_bytes()) for file in found)


def shards(recipe: Any) -> Iterator[tuple[str, bytes]]:
    """Recipe -> each shard that has people of its sources, and the teacher's labels."""
    folder, sources = find_folder(inside(recipe.data.folder)), recipe.data.sources
    found = {sample.location.path for sample in read_index(folder) if not sources or sample.source in sources}
    if not found:
        sys.exit(f"{folder} has nobody of the recipe's sources, {', '.join(sources) or 'all'}.")
    labels = folder / TEACHER_LABELS
    for file in [*sorted(found), *([labels] if labels.exists() else [])]:
        yield f"data/{recipe.data.folder}/{file.name}", file.read_bytes()


def contents(recipe: Any, where: str, args: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """Recipe and the place of its run there -> every file by its place there, the large ones first."""
    yield from shards(recipe)
    if args.run:
        kept = [file for file in (args.run / name for name in NAMED) if file.exists() and file.name != "recipe.yaml"]
        yield from ((f"{where}/{file.name}", file.read_bytes()) for file in kept)
    yield f"{where}/recipe.yaml", api.recipe_yaml(recipe).encode()
    needed = set(named_weights(recipe))
    shipped = {file for file in needed if file.is_relative_to(PACKAGE)}
    yield from ((inside(str(file)), file.read_bytes()) for file in sorted(needed - shipped))
    if Path(recipe.skeleton).suffix in (".yaml", ".yml"):
        yield inside(recipe.skeleton), Path(recipe.skeleton).read_bytes()
    yield "code.zip", package(shipped)
    yield from wheels(args.python, args.wheels)


def pack(files: Iterable[tuple[str, bytes]], folder: Path, most: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Files, a folder and the bytes a part may have -> their entries, and how large the parts in the folder became."""
    entries: list[dict[str, Any]] = []
    sizes: list[int] = []
    for path, content in files:
        pieces = cut(path, content, min(PIECE, most))
        file = entry(path, pieces)
        for piece in file["pieces"]:
            size = len(pieces[piece["name"]])
            number = next((i for i, used in enumerate(sizes) if used + size <= most), len(sizes))
            sizes += [0] * (number == len(sizes))
            sizes[number] += size
            piece["part"] = f"part-{number + 1}"
            put(folder / piece["part"] / piece["name"], pieces[piece["name"]])
        entries.append(file)
    return entries, sizes


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="a name, or a YAML file")
    parser.add_argument("--run", type=Path, help="folder of a run to go on with, instead of a recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a field of the recipe")
    parser.add_argument("--python", default="3.12", help="of the machine (default: %(default)s)")
    parser.add_argument("--wheels", type=Path, help="folder that has the wheels, instead of fetching them")
    parser.add_argument("--mib", type=float, help="largest part (default: 62 less the checkout, which travels along)")
    parser.add_argument("--to", type=Path, default=Path("build/gpu"), help="(default: %(default)s)")
    args = parser.parse_args()
    if bool(args.recipe) == bool(args.run) or (args.run and args.set):
        parser.error("wanted either a recipe, or --run FOLDER without --set.")
    return args


def main() -> None:
    """Pack, and say what was packed."""
    args = parse()
    recipe = api.open_recipe(args.run / "recipe.yaml" if args.run else args.recipe, args.set)
    name = args.run.resolve().name if args.run else Path(args.recipe).stem
    where, most = f"runs/{name}-{recipe.digest}", int(args.mib * MIB) if args.mib else room(CHECKOUT)
    if most < MIB:
        sys.exit(f"{CHECKOUT} leaves {most / MIB:.1f} MiB for a part; remove what git does not ignore, or say --mib.")
    for old in args.to.glob("part-*"):
        shutil.rmtree(old)
    files, sizes = pack(contents(recipe, where, args), args.to, most)
    step = step_of(content_of(args.run / STATE)) if args.run else 0
    facts = {"made": time.time(), "run": where, "recipe": recipe.digest, "step": step, "python": args.python}
    for number, size in enumerate(sizes, start=1):
        put(args.to / f"part-{number}" / LIST, json.dumps({**facts, "files": files}).encode())
        print(f"{args.to / f'part-{number}'}  {size / MIB:.1f} MiB")
    print(f"From step {step}. Carry one part a call, each with: python3 tools/gpu_slice.py")


if __name__ == "__main__":
    main()
