"""Each deliberate fault can be applied to the package as it is now; whether a test catches it, the tool itself says."""

from pathlib import Path

import sabotage

PACKAGE = Path(sabotage.ROOT / "src/featherpose")


def test_every_fault_fits_its_file():
    assert [problem for fault in sabotage.FAULTS if (problem := fault.problem(PACKAGE))] == []


def test_text_that_occurs_twice_is_refused():
    fault = sabotage.Fault("no fault", "boxes.py", "import ", "", "")
    assert "'import ' occurs" in (fault.problem(PACKAGE) or "")


def test_every_fault_names_existing_tests():
    tests = " ".join(fault.tests for fault in sabotage.FAULTS).split()
    assert [name for name in tests if not (sabotage.ROOT / "tests" / name).exists()] == []
