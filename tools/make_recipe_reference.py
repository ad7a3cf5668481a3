"""Write docs/recipes.md, the reference of all fields of a recipe, from the fields' docstrings.

python tools/make_recipe_reference.py
"""

from pathlib import Path

from featherpose.recipes.reference import to_markdown

DOCUMENT = Path(__file__).parents[1] / "docs" / "recipes.md"
HEADER = """# Fields of a recipe

A recipe is a YAML file with these fields; what it leaves out has the default. `featherpose recipe show NAME` prints a
shipped recipe with every field, `--set FIELD=VALUE` changes one (`--set optimizer.lr=0.001`,
`--set stages.0.epochs=3`). This file is written by `python tools/make_recipe_reference.py`.

"""


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(HEADER + to_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
