from pathlib import Path

import pytest

from featherpose import weights
from featherpose.errors import ModelError


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.onnx", "a.onnx", "a.safetensors", "a.json"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_shipped_models_are_listed_by_suffix(folder):
    assert weights.shipped(folder=folder) == ["a", "b"]
    assert weights.shipped(".safetensors", folder) == ["a"]


def test_names_and_aliases_are_found_in_folder(folder, monkeypatch):
    monkeypatch.setattr(weights, "ALIASES", {"default": "a"})
    assert weights.find("b", folder=folder) == folder / "b.onnx"
    assert weights.find("default", folder=folder) == folder / "a.onnx"
    assert weights.find("default", ".safetensors", folder) == folder / "a.safetensors"


def test_path_is_the_file_that_is_opened(folder, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    monkeypatch.chdir(other)
    (other / "a.onnx").write_text("")
    for given in ("a.onnx", "./a.onnx", str(other / "a.onnx"), Path("a.onnx"), other / "a.onnx"):
        assert weights.find(given, folder=folder).resolve() == other / "a.onnx"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param("xyz", r"No model 'xyz' is shipped as \.onnx\. Known: a, b", id="unknown"),
        pytest.param("default", r"'default' \(feather_pose-\d+x\d+\) is shipped as \.onnx\. Known: a, b", id="alias"),
        pytest.param("b.onnx", r"b\.onnx: no such model file", id="missing file"),
        pytest.param("runs/a", "runs/a: no such model file", id="missing path"),
        pytest.param(Path("a"), "a: no such model file", id="a Path is not a name"),
        pytest.param("", r"No model '' is shipped", id="empty"),
    ],
)
def test_missing_model_lists_known_names(folder, model, message):
    with pytest.raises(ModelError, match=message):
        weights.find(model, folder=folder)


def test_cards_are_listed_by_kind(folder):
    (folder / "a.json").write_text('{"name": "a"}')
    (folder / "b.json").write_text('{"name": "b", "kind": "detector"}')
    assert [card["name"] for card in weights.shipped_cards(folder=folder)] == ["a"]
    assert [card["name"] for card in weights.shipped_cards("detector", folder)] == ["b"]


def test_detector_is_found_by_name_alias_or_path(folder, monkeypatch):
    monkeypatch.setattr(weights, "DETECTORS", {"default": "b"})
    for given in ("default", "b", folder / "b.onnx", str(folder / "b.onnx")):
        assert weights.find_detector(given, folder) == folder / "b.onnx"


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        pytest.param(
            "default", "This version ships no person detector; give --detector FILE, --boxes FILE", id="default"
        ),
        pytest.param("small", "ships no person detector 'small'; give", id="alias of a pose model"),
        pytest.param("runs/d.onnx", "runs/d.onnx: no such model file", id="missing path"),
        pytest.param(Path("default"), "default: no such model file", id="a Path is not a name"),
    ],
)
def test_missing_detector_says_what_to_type(folder, detector, message):
    with pytest.raises(ModelError, match=message):
        weights.find_detector(detector, folder)


def test_empty_folder_suggests_export(tmp_path):
    with pytest.raises(ModelError, match="There are none; create one with `featherpose export`"):
        weights.find("default", folder=tmp_path)


def test_similar_names_are_suggested(folder):
    (folder / "cbam_lite_hrnet_18.onnx").write_text("")
    (folder / f"{weights.ALIASES['default']}.onnx").write_text("")
    with pytest.raises(ModelError, match="Did you mean 'cbam_lite_hrnet_18'"):
        weights.find("cbam_lite_hrnet18", folder=folder)
    with pytest.raises(ModelError, match="Did you mean 'default'"):
        weights.find("defualt", folder=folder)
