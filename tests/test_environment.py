"""pyproject.toml says what Backgrid needs; environment.yml, constraints.txt and the Makefile must say the same."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
BLOCKS = {
    "run": PROJECT["dependencies"],
    "explore": PROJECT["optional-dependencies"]["lab"],
    "jobs": PROJECT["optional-dependencies"]["jobs"],
    "test": PROJECT["optional-dependencies"]["test"],
}
# the others are called alike
CONDA_NAMES = {"matplotlib": "matplotlib-base", "nbconvert": "nbconvert-core", "redis": "redis-py"}
BUILD_TOOLS = [*PYPROJECT["build-system"]["requires"], "editables", "uv"]  # hatchling asks for editables by itself


def environment_blocks():
    """The items of environment.yml by the comment above them: python, run, explore, jobs, test, itself."""
    _, text = (ROOT / "environment.yml").read_text(encoding="utf-8").split("dependencies:\n")
    parts = re.split(r"^ *# (\w+):.*\n", "  # python:\n" + text, flags=re.MULTILINE)[1:]
    return {name: yaml.safe_load(items) for name, items in zip(parts[::2], parts[1::2], strict=True)}


def bounds_of_conda(lines):
    """{name: bounds}, read with conda's own grammar, which raises for what conda would refuse."""
    specs = [MatchSpec(line, strict=True) for line in lines]
    return {spec.name.normalized: SpecifierSet(spec.version or "") for spec in specs}


def bounds_of_pip(lines):
    requirements = [Requirement(line) for line in lines]
    return {CONDA_NAMES.get(one.name, one.name): one.specifier for one in requirements}


def pins():
    """{name: the lines of constraints.txt for it}; a package may have one version a Python."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = {}
    for requirement in [Requirement(line) for line in lines if not line.lstrip().startswith("#")]:
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_environment_is_one_conda_forge_list_cut_in_blocks():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    blocks = environment_blocks()
    assert (environment["name"], environment["channels"]) == (PROJECT["name"], ["conda-forge"])
    assert list(blocks) == ["python", "run", "explore", "jobs", "test", "itself"]
    assert environment["dependencies"] == [item for block in blocks.values() for item in block]


@pytest.mark.parametrize("block", BLOCKS)
def test_environment_asks_for_what_pyproject_asks_for(block):
    """Same names, same bounds, none missing, none more, none twice, in conda's grammar."""
    lines = environment_blocks()[block]
    assert bounds_of_conda(lines) == bounds_of_pip(BLOCKS[block])
    assert len(lines) == len(BLOCKS[block])


def test_environment_brings_python_and_the_package_itself():
    blocks = environment_blocks()
    python = bounds_of_conda(blocks["python"])
    assert python == {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}
    assert blocks["itself"] == [{"pip": ["-e ."]}]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_constraints_pin_each_direct_dependency_once_within_its_bounds(python):
    environment = default_environment() | {"python_version": python, "python_full_version": f"{python}.9"}
    pinned = pins()
    for line in chain(*BLOCKS.values(), BUILD_TOOLS):
        wanted = Requirement(line)
        candidates = pinned.get(canonicalize_name(wanted.name), [])
        here = [pin for pin in candidates if pin.marker is None or pin.marker.evaluate(environment)]
        assert len(here) == 1, f"{line}: {len(here)} pins for Python {python}; `make pins` writes them"
        (pin,) = here[0].specifier
        assert pin.operator == "==", f"{here[0]} is no exact version"
        assert wanted.specifier.contains(pin.version), f"{here[0]} does not satisfy {line}; `make pins` mends it"


def test_constraints_hold_nothing_but_exact_versions():
    for requirement in chain(*pins().values()):
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement


@pytest.mark.parametrize("file", ["constraints.txt", "Makefile", "environment.yml", ".ci/run"])
def test_no_file_of_the_set_up_names_a_registry(file):
    """Where packages come from is the user's own setting."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.findall(r"https?:|://|index-url|\b[\w-]+\.(?:org|com|net|io|dev)\b", text) == []
