"""featherpose models, as a user types it."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from featherpose import weights
from featherpose.cli import featherpose
from featherpose.cli.model_summary import rows_of
from featherpose.manifest import Manifest, read_manifest


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def run(*words: str) -> Result:
    return CliRunner().invoke(featherpose, ["models", *words], catch_exceptions=False)


def test_each_shipped_model_has_a_row_of_a_hundred_columns() -> None:
    lines = run().stdout.splitlines()
    assert max(map(len, lines)) <= 100
    first_words = [line.split()[0] for line in lines if line]
    assert set(weights.shipped()) < set(first_words)


def test_a_row_shows_what_the_card_says() -> None:
    card = json.loads(weights.find("default", ".json").read_text())
    scores = next(entry["percent"] for entry in card["accuracy"] if entry["data"] == "coco-test")
    (row,) = [line for line in run().stdout.splitlines() if line.startswith(weights.ALIASES["default"])]
    low, high = scores["ap_interval"]
    assert row.split()[1:4] == ["default", "192x128", f"{card['files'][0]['bytes'] / 1e6:.1f}"]
    assert f"{scores['ap']} ({low} to {high})" in row


def test_json_has_every_kind_sizes_with_named_sides_and_latency() -> None:
    found = {model["name"]: model for model in json.loads(run("--json").stdout)}
    small = found[weights.ALIASES["small"]]
    assert (small["alias"], small["input_size"]) == ("small", {"height": 128, "width": 96})
    assert 0 < small["relative_latency"] < found[weights.ALIASES["accurate"]]["relative_latency"]
    poses = [model["ap"] for model in found.values() if model["kind"] == "pose"]
    assert poses == sorted(poses, reverse=True)
    detector = found[weights.DETECTORS["default"]]
    assert (detector["kind"], detector["alias"], detector["long_side"]) == ("detector", "default", 320)


class TestOneModel:
    def test_json_is_the_manifest(self) -> None:
        manifest = read_manifest(weights.find("small"))
        for words in ("small",), (str(weights.find("small")),):
            assert Manifest.from_json(run(*words, "--json").stdout) == manifest

    def test_text_says_what_it_takes_how_it_was_trained_and_what_it_reaches(self) -> None:
        text = run("default").stdout
        assert "crops: uint8 (N, 192, 128, 3)" in text and "keypoints: float32 (N, 17, 2)" in text
        assert "4 epochs at 192x128" in text and "after efficientnet-lite0" in text
        (entry,) = [entry for entry in read_manifest(weights.find("default")).accuracy if entry["data"] == "coco-test"]
        low, high = entry["percent"]["ap_interval"]
        assert f"ap {entry['percent']['ap']} ({low} to {high})" in text and entry["command"] in text
        assert "COCO (Lin et al. 2014)" in text

    def test_detector_has_no_keypoints(self) -> None:
        text = run("feather_detect").stdout
        assert "longer side 320 px" in text and "left_eye" not in text

    def test_facts_that_a_manifest_lacks_are_left_out(self) -> None:
        pose = read_manifest(weights.find("small"))
        bare = replace(pose, options={}, recipe={}, training={"new": 1}, accuracy=({"pck": 3},), parity={"new": 2})
        rows = dict(rows_of(bare))
        assert rows["accuracy"] == "unnamed data: pck 3" and rows["network"] == "feather_pose"
        assert rows.keys() == {"network", "kind", "input", "outputs", "", "use", "accuracy"}
