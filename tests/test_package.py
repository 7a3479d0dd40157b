"""The package as a whole: cheap to import, complete to the outside, every public name documented in one form."""

import ast
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

import llmlab as ll

ROOT = Path(__file__).parent.parent
HEAVY = ["matplotlib", "ipywidgets", "genai_prices", "json_repair", "nest_asyncio", "aiohttp.web", "aiohttp", "openai",
         "IPython", "tqdm", "pydantic"]  # fmt: skip
PAGES = [ll.run_experiment, ll.RetryPolicy, ll.RateLimiter, ll.simulate.client, ll.load_results]
SECTIONS = {"Parameters", "Attributes", "Returns", "Raises", "Examples", "Notes", "References", "See Also", "Yields"}


def public():
    """(name, object) of everything that `llmlab` offers, and the public parts of its classes."""
    for name in ll.__all__:
        thing = getattr(ll, name)
        yield name, thing
        if isinstance(thing, types.ModuleType):
            inner = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
            own = (type, types.FunctionType)
            for key, value in inner.items():
                if isinstance(value, own) and value.__module__ == thing.__name__:
                    yield f"{name}.{key}", value
        elif inspect.isclass(thing):
            for key, value in vars(thing).items():
                if not key.startswith("_") and (callable(value) or isinstance(value, (property, classmethod))):
                    yield f"{name}.{key}", value


PUBLIC = dict(public())


def test_import_loads_nothing_heavy_and_patches_nothing():
    code = """
    import asyncio, sys
    import pandas
    before, run = set(sys.modules), asyncio.run
    import llmlab
    assert asyncio.run is run
    print(*(set(sys.modules) - before))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "llmlab.experiment" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_all_is_complete_sorted_and_true():
    assert sorted(ll.__all__) == ll.__all__
    visible = {name for name, value in vars(ll).items() if not name.startswith("_")}
    modules = {name for name in visible if isinstance(getattr(ll, name), types.ModuleType)}
    assert visible - modules - {"TYPE_CHECKING", "Any"} == set(ll.__all__) - {"charts", "errors", "simulate"}
    assert dir(ll) == ll.__all__
    assert all(getattr(ll, name) is not None for name in ll.__all__)
    assert {"run_experiment", "RateLimiterRegistry", "TokenUsageAttempt", "PredictionCategoryTokens"} <= set(ll.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = ll.nope


def test_the_errors_are_all_drawn_in_the_tree():
    classes = [
        thing for thing in vars(ll.errors).values() if isinstance(thing, type) and issubclass(thing, ll.LlmlabError)
    ]
    assert all(re.search(rf"\b{one.__name__}\b", ll.errors.__doc__) for one in classes)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_in_numpy_style(name):
    thing = PUBLIC[name]
    doc = inspect.getdoc(thing)
    assert doc, f"{name} has no docstring"
    first = doc.splitlines()[0]
    assert first
    assert len(first) <= 120
    lines = doc.splitlines()
    for above, below in itertools.pairwise(lines):
        if re.fullmatch(r"-{3,}", below.strip()):
            assert above.strip() in SECTIONS, f"{name}: {above!r} is no section of NumPy's"
            assert len(above) == len(below), f"{name}: {above!r} is underlined with {len(below)}"
    assert not re.search(r":param |:return|^Args:|^Returns:", doc, re.MULTILINE)


def parameters(thing):
    function = thing.__init__ if inspect.isclass(thing) else thing
    return [name for name in inspect.signature(function).parameters if name not in ("self", "clock", "name")]


@pytest.mark.parametrize("thing", PAGES, ids=lambda thing: thing.__name__)
def test_every_parameter_of_the_main_entries_is_described(thing):
    doc = inspect.getdoc(thing)
    assert "Parameters\n----------\n" in doc
    described = re.split(r"\n\w+\n-{3,}\n", doc.split("Parameters\n----------\n")[1])[0]
    heads = [line.partition(":")[0] for line in described.splitlines() if line and not line.startswith(" ")]
    names = {name.strip().lstrip("*") for head in heads for name in head.split(",")}
    assert [name for name in parameters(thing) if name not in names] == []


def test_every_entry_takes_the_same_arguments():
    expected = inspect.signature(ll.run_experiment)
    for same in (ll.run_experiment_sync, ll.start_experiment):
        assert list(inspect.signature(same).parameters) == list(expected.parameters)


def test_completion_offers_the_simulator_and_the_charts_before_they_are_used():
    code = "import llmlab; print({'charts', 'simulate'} <= set(dir(llmlab)), 'matplotlib' in __import__('sys').modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def imported_modules(path):
    """(line, module) of every import of llmlab's own modules in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmlab"):
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names if one.name.startswith("llmlab"))


@pytest.mark.parametrize("path", sorted((ROOT / "llmlab").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_of_another_package_only_its_front_is_imported(path):
    package = ".".join(path.parent.relative_to(ROOT).parts)
    inside = [
        f"{path.name}:{line} imports {module}"
        for line, module in imported_modules(path)
        if module.count(".") >= 2 and not f"{package}.".startswith(f"{module.rpartition('.')[0]}.")
    ]
    assert inside == []


def test_private_doors_stay_shut():
    """Everything a user needs is one import: no public function lives only in a submodule of the story."""
    story = importlib.import_module("llmlab.experiment")
    own = {
        name for name, thing in vars(story).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == story.__name__
    }  # fmt: skip
    assert own <= set(ll.__all__)


def test_modules_and_classes_stay_small_enough_to_read():
    long = []
    for path in sorted((ROOT / "llmlab").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
        long += [(path.name, node.name) for node in parts if node.end_lineno - node.lineno >= 200]
        long += [path.name] if text.count("\n") > 350 else []
    assert long == []
