import inspect
import itertools
import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import click
import numpy as np
import pytest

import featherpose
from featherpose import api, examples, images
from featherpose.cli import adopt, average, benchmark, compare, data, evaluate, export, predict, train
from featherpose.errors import InputError, RecipeError

NEED_TORCH = ("exporting", "networks", "training")
NEED_ONNX = () if find_spec("onnx") else ("foreign",)
FUNCTIONS = [
    "adopt",
    "estimate",
    "estimate_all",
    "evaluate",
    "export",
    "list_models",
    "list_networks",
    "predict",
    "stream",
    "train",
]
COMMANDS = [
    (adopt.adopt, api.adopt),
    (average.average, api.average),
    (compare.compare, api.compare),
    (evaluate.evaluate, api.evaluate),
    (export.export, api.export),
    (predict.predict, api.predict),
    (train.train, api.train),
    (benchmark.train, api.benchmark_train),
    (data.pack, api.pack_data),
    (data.split, api.split_data),
]
PYTHON_NAMES = {"data_format": "format", "no_data": "use_data", "no_draw": "draw_images"}
"""Name of an option in the command -> its name in Python, where they differ."""
ABOUT_PRINTING = {"predict": {"quiet", "verbose"}}
"""Options of commands about what is printed: the functions print nothing."""
HEAVY = ("torch", "onnxruntime", "cv2", "PIL", "pydantic", "rich", "yaml")


def loaded_after(code: str) -> set[str]:
    """Code -> heavy libraries that a fresh interpreter has imported after running it."""
    report = f"{code}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return set(
        subprocess.run([sys.executable, "-c", report], check=True, capture_output=True, text=True).stdout.split()
    )


def test_import_loads_only_numpy():
    assert loaded_after("import featherpose") == set()


def test_all_but_training_imports_without_torch():
    modules = [module.name for module in pkgutil.walk_packages(featherpose.__path__, "featherpose.")]
    light = [name for name in modules if name.split(".")[1] not in (*NEED_TORCH, *NEED_ONNX, "__main__")]
    code = "import sys, importlib\nsys.modules['torch'] = None\n"
    subprocess.run([sys.executable, "-c", f"{code}[importlib.import_module(name) for name in {light}]"], check=True)


def test_public_names_are_in_dir():
    for name in featherpose.__all__:
        assert name in dir(featherpose)


def test_unknown_name_raises_attribute_error():
    assert not hasattr(featherpose, "estimat")


def test_version_is_that_of_the_package():
    assert featherpose.__version__.split(".")[0].isdigit()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_spell_out_and_explain_every_option(name):
    function = getattr(featherpose, name)
    parameters = inspect.signature(function).parameters.values()
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters)
    assert [
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and f"        {p.name}: " not in function.__doc__
    ] == []


@pytest.mark.parametrize(("command", "function"), COMMANDS, ids=[function.__name__ for _, function in COMMANDS])
def test_every_option_of_a_command_exists_in_python(command: click.Command, function):
    names = {PYTHON_NAMES.get(str(p.name), str(p.name)) for p in command.params} - {"as_json"}
    assert names - set(inspect.signature(function).parameters) == ABOUT_PRINTING.get(function.__name__, set())


@pytest.mark.torch
def test_training_needs_a_recipe():
    with pytest.raises(RecipeError, match="There is no recipe: name one"):
        featherpose.train()


def test_unknown_label_format_is_refused():
    with pytest.raises(InputError, match=r"Format 'cocco' is not known\. Did you mean 'coco'"):
        featherpose.evaluate("default", "nowhere", format="cocco")


def test_estimate_takes_boxes_or_whole_image():
    image = np.zeros((40, 30, 3), np.uint8)
    assert len(featherpose.estimate(image, boxes=[], model="small", device="cpu")) == 0
    assert len(featherpose.estimate(image, whole_image=True, model="small", device="cpu")) == 1
    with pytest.raises(InputError, match="Nothing says where the people are"):
        featherpose.estimate(image, detector=None, model="small", device="cpu")


def test_estimate_all_takes_files_bytes_and_arrays(tmp_path):
    path = examples.find("hopper.jpg")
    sources = [path, str(path), path.read_bytes(), images.read(path), tmp_path / "none.jpg"]
    found = featherpose.estimate_all(sources, whole_image=True, model="small", device="cpu")
    first, *others = itertools.islice(found, 4)
    assert len(first) == 1 and all(np.allclose(poses.keypoints, first.keypoints, atol=0.01) for poses in others)
    with pytest.raises(InputError, match=r"none\.jpg: no such file"):
        next(found)
