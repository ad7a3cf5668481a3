"""Loading and saving weights: our files, official and mmpose names, and everything that does not fit."""

from __future__ import annotations

import json
import warnings
from argparse import Namespace
from pathlib import PosixPath

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.errors import ModelError
from featherpose.networks import create_network, lite_hrnet
from featherpose.networks.checkpoints import load_pretrained, load_weights, read_facts, read_metadata, save_weights
from tests.families import shorten

pytestmark = pytest.mark.torch

NAME = "lite_hrnet_18"


@pytest.fixture(scope="module", autouse=True)
def short_networks():
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


def small(num_keypoints=17):
    return create_network(NAME, num_keypoints, width=8)


@pytest.fixture(scope="module")
def weights():
    """A state dict that differs from any initialization."""
    torch.manual_seed(5)
    own = small().state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else v + 7 for k, v in own.items()}


def assert_holds(model, weights):
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def mmpose(weights):
    return {k.replace("keypoint_head.", "head."): v for k, v in weights.items()}


def with_ema_copies(weights):
    return weights | {f"ema_{name.replace('.', '_')}": tensor + 1 for name, tensor in weights.items()}


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


OTHER_PROJECTS = {
    "mmpose 1": (lambda w: {"state_dict": {**w, "data_preprocessor.mean": torch.zeros(3)}}, "left out: 1 data_preproc"),
    "EMA hook": (lambda w: {"state_dict": with_ema_copies(w)}, "copies of an EMA hook"),
    "profiler": (lambda w: {**w, "backbone.total_ops": torch.zeros(1)}, "left out: 1 counters of a profiler"),
    "averaged": (
        lambda w: {"model": {**prefixed("module.", w), "n_averaged": torch.tensor(3)}},
        "of `model`, left out",
    ),
    "compiled": (lambda w: prefixed("_orig_mod.", w), "tensors"),
    "parallel and compiled": (lambda w: prefixed("module._orig_mod.", w), "tensors"),
    "parallel twice": (lambda w: prefixed("module.module.", w), "tensors"),
    "Lightning": (lambda w: {"state_dict": prefixed("model.", w)}, "tensors of `state_dict`"),
    "model": (lambda w: {"model": w, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, "of `model`"),
    "nested twice": (lambda w: {"model": {"state_dict": w}}, "of `model.state_dict`"),
    "ema alone": (lambda w: {"ema": w, "epoch": 3}, "tensors of `ema`"),
    "model and ema": (lambda w: {"ema": {k: v + 1 for k, v in w.items()}, "net": w}, "tensors of `net`"),
    "unusual key": (lambda w: {"swa": {"module": w}, "optimizer": {"state": w}}, "tensors of `swa.module`"),
    "student and teacher": (lambda w: {"teacher": with_ema_copies(w), "student": w}, "tensors of `student`"),
    "options": (lambda w: {"state_dict": w, "args": Namespace(lr=0.1, out=PosixPath("a"))}, "tensors"),
    "numpy arrays": (lambda w: {"state_dict": w, "names": np.array(["a", "b"]), "ids": np.arange(3)}, "tensors"),
    "numpy score": (lambda w: {"model_state_dict": w, "best": np.float64(0.5), "step": np.int64(3)}, "tensors"),
}


@pytest.mark.parametrize("project", OTHER_PROJECTS)
def test_checkpoints_of_other_projects_are_read(weights, tmp_path, project):
    wrap, described = OTHER_PROJECTS[project]
    torch.save(wrap(weights), tmp_path / "theirs.pth")
    model = small()
    loaded = load_weights(model, tmp_path / "theirs.pth")
    assert_holds(model, weights)
    assert described in loaded.describe()


FORMS = {
    "official": lambda w: {"state_dict": w, "meta": {"epoch": 210}},
    "mmpose": lambda w: {"state_dict": mmpose(w), "meta": {"mmengine_version": "0.10"}},
    "parallel": lambda w: {f"module.{k}": v for k, v in w.items()},
    "bare": lambda w: w,
    "without counters": lambda w: {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["dict", "file"])
def test_load_weights_reads_every_layout(weights, tmp_path, form, kind):
    source = FORMS[form](weights)
    if kind == "file":
        torch.save(source, tmp_path / "official.pth")
        source = tmp_path / "official.pth"
    model = small()
    load_weights(model, source)
    for name, value in model.state_dict().items():
        assert form == "without counters" or torch.equal(value, weights[name])
    assert torch.equal(model.keypoint_head.final_layer.weight, weights["keypoint_head.final_layer.weight"])


def test_save_and_load_keep_weights_and_metadata(weights, tmp_path):
    first, second = small(), small()
    load_weights(first, weights)
    save_weights(first.to(memory_format=torch.channels_last), tmp_path / "a.safetensors", {"network": NAME})
    load_weights(second, str(tmp_path / "a.safetensors"))
    assert_holds(second, weights)
    assert read_metadata(tmp_path / "a.safetensors") == {"network": NAME}


def test_facts_of_this_version_are_read(tmp_path):
    facts = {"version": "2", "network": json.dumps(NAME), "input_size": json.dumps({"height": 64, "width": 48})}
    save_weights(small(), tmp_path / "a.safetensors", facts)
    assert read_facts(tmp_path / "a.safetensors") == {"network": NAME, "input_size": {"height": 64, "width": 48}}


@pytest.mark.parametrize(("version", "shown"), [({}, "1"), ({"version": "1"}, "1"), ({"version": "3"}, "3")])
def test_facts_of_another_version_are_refused_in_one_line(tmp_path, version, shown):
    facts = {**version, "network": json.dumps(NAME), "input_size": json.dumps([48, 64])}
    save_weights(small(), tmp_path / "a.safetensors", facts)
    with pytest.raises(
        ModelError, match=rf"a\.safetensors: .*version {shown}, .* reads version 2; train again"
    ) as caught:
        read_facts(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_save_replaces_file_without_leftovers(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    save_weights(small(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    load_weights(small(), path)
    assert read_metadata(path) == {}


def test_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_weights(small(), path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def without(weights, name):
    return {k: v for k, v in weights.items() if k != name}


FINAL = "keypoint_head.final_layer"
MISMATCHES = {
    "other keypoints": (
        lambda w: small(14).state_dict(),
        rf"2 with a different shape \({FINAL}.weight \(14, 8, 1, 1\), wanted \(17, 8",
    ),
    "missing": (lambda w: without(w, f"{FINAL}.bias"), rf"1 missing \({FINAL}.bias\)\.$"),
    "unexpected": (lambda w: {**w, "extra.weight": torch.zeros(1)}, r"1 unexpected \(extra.weight\)\.$"),
    "another network": (
        lambda w: create_network("cbam_lite_hrnet_18", width=8).state_dict(),
        "missing .*; .* unexpected .*; .* with a different shape",
    ),
    "empty": (lambda w: {}, r"contains no tensors by name; its keys are none\."),
    "only others": (lambda w: {"optimizer": w, "epoch": 3}, r"no tensors by name; its keys are optimizer, epoch\."),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_mismatched_weights_leave_model_unchanged(weights, case):
    make, message = MISMATCHES[case]
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(model, make(weights))
    assert "\n" not in str(caught.value)
    assert_holds(model, before)


def bad_files(folder):
    """Write the invalid weights files of `BAD_FILES` into the folder."""
    save_weights(small(), folder / "whole.safetensors")
    torch.save(small().state_dict(), folder / "whole.pth")
    torch.save([1, 2], folder / "list.pth")
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(folder / "script.pth")
    torch.save({"model": small()}, folder / "module.pth")
    contents = {
        "truncated.safetensors": (folder / "whole.safetensors").read_bytes()[:5000],
        "truncated.pth": (folder / "whole.pth").read_bytes()[:5000],
        "empty.safetensors": b"",
        "empty.pth": b"",
        "noise.pth": b"these are not weights" * 20,
        "noise.safetensors": b"these are not weights" * 20,
        "lfs.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "lfs.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "page.json.pth": b'{"a": 1}',
        "page.pth": b"\n<!DOCTYPE html><html>404</html>",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


BAD_FILES = [
    ("truncated.safetensors", "cannot be read as weights"),
    ("truncated.pth", "cannot be read as weights"),
    ("empty.safetensors", "cannot be read as weights"),
    ("empty.pth", "cannot be read as weights"),
    ("noise.pth", "cannot be read as weights"),
    ("noise.safetensors", "cannot be read as weights"),
    ("lfs.pth", "it is a pointer of Git LFS, .* git lfs pull"),
    ("lfs.safetensors", "it is a pointer of Git LFS"),
    ("page.pth", "it is a web page"),
    ("page.json.pth", "torch.save did not write it"),
    ("script.pth", r"is a TorchScript archive; save its tensors: torch\.jit\.load"),
    ("module.pth", r"is refused: it contains featherpose\.networks"),
    ("list.pth", "contains a list, not a dict of tensors"),
    ("nowhere.pth", "There is no weights file"),
    (".", "There is no weights file"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    bad_files(folder)
    return folder


@pytest.mark.parametrize(("name", "message"), BAD_FILES)
def test_bad_files_give_a_one_line_error(folder, name, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(small(), folder / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("noise.safetensors", "cannot be read"), ("nowhere", "There is no")])
def test_metadata_of_bad_file_is_refused(folder, name, message):
    with pytest.raises(ModelError, match=message):
        read_metadata(folder / name)


def test_pickle_that_runs_code_is_refused(tmp_path):
    torch.save({"state_dict": {}, "hook": print}, tmp_path / "code.pth")
    with pytest.raises(ModelError, match=r"code\.pth is refused: it contains print"):
        load_weights(small(), tmp_path / "code.pth")


class TestLoadPretrained:
    """Fine-tuning: all tensors that fit are loaded, and keypoints of the same name keep their row."""

    THEIRS = ("nose", "left_hip", "right_hip")
    OURS = ("right_hip", "tail", "nose")

    def load(self, tmp_path, keypoints, **options):
        torch.manual_seed(5)
        pretrained = create_network(NAME, 3, width=8)
        with torch.no_grad():
            pretrained.keypoint_head.final_layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        skeleton = json.dumps({"keypoint_names": self.THEIRS})
        save_weights(pretrained, tmp_path / "w.safetensors", {"skeleton": skeleton})
        model = create_network(NAME, len(keypoints), **{"width": 8, **options})
        initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return pretrained, model, initial, load_pretrained(model, tmp_path / "w.safetensors", keypoints)

    def test_same_keypoints_load_all_tensors(self, tmp_path):
        pretrained, model, _, report = self.load(tmp_path, self.THEIRS)
        assert_holds(model, pretrained.state_dict())
        assert report.fresh == []
        assert len(report.loaded) == len(model.state_dict())

    def test_rows_are_matched_by_keypoint_name(self, tmp_path):
        pretrained, model, initial, report = self.load(tmp_path, self.OURS)
        name = "keypoint_head.final_layer.weight"
        rows, theirs = model.state_dict()[name], pretrained.state_dict()[name]
        assert torch.equal(rows[0], theirs[2])
        assert torch.equal(rows[1], initial[name][1]), "the checkpoint has no tail"
        assert torch.equal(rows[2], theirs[0])
        assert model.keypoint_head.final_layer.bias[[0, 2]].tolist() == [3.0, 1.0]
        assert report.fresh == []

    def test_different_number_of_keypoints(self, tmp_path):
        _, model, _, report = self.load(tmp_path, ("nose", "a", "b", "c", "d"))
        assert model.keypoint_head.final_layer.bias[0] == 1
        assert report.fresh == []

    def test_other_network_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match="belong to another network"):
            self.load(tmp_path, self.THEIRS, width=16)

    @pytest.mark.parametrize(("theirs", "ours"), [(1, 2), (2, 1)], ids=["fewer", "more"])
    def test_another_depth_is_refused(self, tmp_path, monkeypatch, theirs, ours):
        monkeypatch.setitem(lite_hrnet.MODULES, 18, (1, 1, theirs))
        save_weights(small(), tmp_path / "w.safetensors")
        monkeypatch.setitem(lite_hrnet.MODULES, 18, (1, 1, ours))
        with pytest.raises(ModelError, match=r"of another depth: backbone\.stage2\.1 is only in one of both"):
            load_pretrained(small(), tmp_path / "w.safetensors", list("abc"))

    def test_official_checkpoint_without_last_layer(self, weights, tmp_path):
        torch.save({"state_dict": mmpose(weights)}, tmp_path / "official.pth")
        model = small(5)
        report = load_pretrained(model, tmp_path / "official.pth", list("abcde"))
        assert report.fresh == ["keypoint_head.final_layer.weight", "keypoint_head.final_layer.bias"]
        name = "backbone.stem.conv1.conv.weight"
        assert torch.equal(model.state_dict()[name], weights[name])
