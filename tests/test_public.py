import subprocess
import sys

import featherpose

HEAVY = ("torch", "onnxruntime", "cv2", "PIL", "pydantic", "rich", "yaml")


def loaded_after(code: str) -> set[str]:
    """Code -> heavy libraries that a fresh interpreter has imported after running it."""
    report = f"{code}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return set(
        subprocess.run([sys.executable, "-c", report], check=True, capture_output=True, text=True).stdout.split()
    )


def test_import_loads_only_numpy():
    assert loaded_after("import featherpose") == set()


def test_inference_imports_no_torch():
    code = "import numpy, featherpose.runtime.estimator, featherpose.runtime.predict, featherpose.evaluation.evaluate"
    assert "torch" not in loaded_after(code)


def test_public_names_are_in_dir():
    for name in featherpose.__all__:
        assert name in dir(featherpose)


def test_unknown_name_raises_attribute_error():
    assert not hasattr(featherpose, "estimat")
