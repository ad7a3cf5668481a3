"""Users' files are parsed in `formats/` alone: whoever else reads JSON reads what this package wrote."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src/featherpose"
OWN_FILES = {
    "cli/adopt.py": "the manifest it has just written",
    "cli/export.py": "the manifest it has just written",
    "data/pack.py": "the record of an earlier run",
    "foreign/proof.py": "the boxes of the example images",
    "manifest.py": "metadata of model files",
    "networks/checkpoints.py": "metadata of weights files",
    "runtime/results.py": "entries of poses.json",
    "runtime/resume.py": "the record of an earlier run",
    "training/average.py": "metadata of weights files",
    "training/records.py": "the log of a run",
    "training/state.py": "the state of a run",
    "weights/__init__.py": "cards of shipped models",
    "zoo/__init__.py": "the table of networks",
    "zoo/models.py": "measured latencies",
}
"""File of the package -> what JSON it reads."""


def test_json_of_users_is_parsed_in_formats_alone() -> None:
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(call in path.read_text(encoding="utf-8") for call in ("json.load", "read_json(", "parse_json("))
    }
    outside = {name for name in readers if not name.startswith("formats/") and name != "files.py"}
    assert outside == set(OWN_FILES)
