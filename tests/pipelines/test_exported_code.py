import importlib.util
import inspect
import sys

import pytest

import modeling
from pipelines.exported_code import export_code, joined_source

FILES = {
    "shapes": "SIDES = 4\n\n\ndef area(x):\n    return x**2\n",
    "colours": "from .shapes import SIDES\n\nCOLOURS = ['red'] * SIDES\n",
    "thing": '"""A thing."""\n\nfrom .colours import (\n    COLOURS as NAMES,\n)\n'
    "from .shapes import area\n\n\nclass Thing:\n    size = area(len(NAMES))\n",
}


@pytest.fixture
def package(tmp_path):
    """Files of a project, some of which import others."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def load(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def thing(package, monkeypatch):
    monkeypatch.syspath_prepend(package.parent)
    return importlib.import_module("package.thing").Thing


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "package"]:
        del sys.modules[name]


def test_one_file_holds_everything(thing, tmp_path):
    """Whoever loads it and exports it again gets the same file."""
    module = load(tmp_path / f"{export_code(thing, tmp_path)}.py")
    assert module.Thing.size == 16
    again = tmp_path / "again"
    again.mkdir()
    sys.modules[module.__name__] = module
    export_code(module.Thing, again)
    sys.modules.pop(module.__name__)
    (first,), (second,) = tmp_path.glob("*.py"), again.glob("*.py")
    assert first.name == second.name
    assert first.read_text() == second.read_text()


def test_other_code_has_another_name_and_takes_the_place(thing, package, tmp_path):
    first = export_code(thing, tmp_path)
    (package / "shapes.py").write_text(FILES["shapes"].replace("x**2", "x**3"))
    (tmp_path / "thing_of_mine.py").write_text("")
    second = export_code(thing, tmp_path)
    assert second != first
    assert {path.stem for path in tmp_path.glob("*.py")} == {second, "thing_of_mine"}
    assert load(tmp_path / f"{second}.py").Thing.size == 64


def test_two_meanings_of_a_name_are_refused(package):
    (package / "colours.py").write_text(FILES["colours"] + "\n\ndef area(x):\n    return 0\n")
    message = r"Bad names \{'area': \['colours.py', 'shapes.py'\]\}, expected one meaning each"
    with pytest.raises(ValueError, match=message):
        joined_source(package / "thing.py")


@pytest.mark.parametrize(
    "line",
    ["from . import shapes", "from ..shapes import area", "if True:\n    from .shapes import area"],
)
def test_other_imports_are_refused(package, line):
    (package / "thing.py").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="expected one of the form 'from .sibling import name'"):
        joined_source(package / "thing.py")


@pytest.mark.parametrize("name", sorted(modeling.__all__))
def test_whatever_this_project_saves_can_be_exported(name, tmp_path):
    kind = getattr(modeling, name)
    if inspect.isclass(kind):
        compile((tmp_path / f"{export_code(kind, tmp_path)}.py").read_text(), name, "exec")
