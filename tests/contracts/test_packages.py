"""Packages and public names: none hides another, none is forgotten in the import contracts."""

import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import featherpose

PACKAGE = Path(featherpose.__file__).parent
TORCH = {"networks", "training", "exporting"}
"""What needs torch; `api` and `cli` import it inside functions."""


def top_level() -> set[str]:
    return {module.name for module in pkgutil.iter_modules([str(PACKAGE)])} - {"__main__"}


def test_public_names_survive_the_import_of_every_package() -> None:
    """Python binds a submodule's name in its package, so a package called as a function would replace it."""
    packages = [f"featherpose.{name}" for name in sorted(top_level())]
    code = (
        f"import importlib, types\n[importlib.import_module(name) for name in {packages}]\n"
        "import featherpose\nprint(*[name for name in featherpose.__all__"
        " if isinstance(getattr(featherpose, name), types.ModuleType)])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_the_torch_free_contract_lists_every_other_package() -> None:
    settings = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract.get("forbidden_modules") == ["torch"]]
    listed = {name.removeprefix("featherpose.") for name in contract["source_modules"]}
    assert listed == top_level() - TORCH - {"api", "cli"}
