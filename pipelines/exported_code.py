"""Code that goes to the Hub with a diffusion pipeline: one file for each class.

`diffusers` downloads one file of code for a component, the one that the pipeline's index names, and
keeps the files of all models and revisions in one folder, by their names. So a class is written
together with what it imports from its siblings, into a file whose name ends in a digest of what it
holds: nothing is missing, and two revisions in one process do not run each other's code.

This file is copied to the Hub with the models; it imports nothing of this project.
"""

import ast
import hashlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Whoever loads a pipeline has these: their classes need no code beside them.
LIBRARIES = ("diffusers", "transformers")
DIGEST_LENGTH = 12
DIGEST = re.compile(rf"_[0-9a-f]{{{DIGEST_LENGTH}}}$")


def export_code(kind: type, folder: Path) -> str:
    """Write the code of a class into a folder, in the place of an earlier version of it.

    Args:
        kind: A class of a file whose imports of this project are `from .sibling import name`.
        folder: Where to write; it is there.

    Returns:
        The name of the module, which is that of the file without `.py`.

    Raises:
        ValueError: Siblings that give different things the same name, or are imported otherwise.
    """
    source = Path(inspect.getfile(kind))
    content = joined_source(source).encode()
    stem = DIGEST.sub("", source.stem)
    name = f"{stem}_{hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]}"
    for earlier in folder.glob(f"{stem}_*.py"):
        if DIGEST.sub("", earlier.stem) == stem and earlier.stem != name:
            earlier.unlink()
    (folder / f"{name}.py").write_bytes(content)
    return name


def export_component(component: Any, folder: Path) -> str:
    """Write the code of a part of a pipeline into the folder where that part has been saved.

    Copies of several files, which transformers puts there, give way to the one that is complete.

    Returns:
        The name of the module.

    Raises:
        ValueError: As for `export_code`.
    """
    module = export_code(type(component), folder)
    for source in _with_siblings(Path(inspect.getfile(type(component)))):
        if source.stem != module:
            (folder / source.name).unlink(missing_ok=True)
    for file in folder.glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if classes := content.get("auto_map"):
            content["auto_map"] = {k: f"{module}.{v.split('.')[-1]}" for k, v in classes.items()}
            file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return module


def joined_source(file: Path) -> str:
    """The source of a module behind that of the siblings it imports, as one module.

    Raises:
        ValueError: As for `export_code`.
    """
    sources = _with_siblings(file)
    if len(sources) == 1:
        return sources[file]
    _check_names(sources)
    parts = [f"# From {path.name}\n{_standing_alone(text)}" for path, text in sources.items()]
    return "\n\n".join(parts)


def _with_siblings(file: Path) -> dict[Path, str]:
    """Sources by file, each behind those that it imports."""
    text = file.read_text(encoding="utf-8")
    sources: dict[Path, str] = {}
    for node in _relative_imports(ast.parse(text)):
        if node.level != 1 or node.module is None or "." in node.module or node.col_offset:
            raise ValueError(
                f"Bad import in line {node.lineno} of '{file.name}', expected one of the form "
                "'from .sibling import name' that is not indented"
            )
        sources |= _with_siblings(file.with_name(f"{node.module}.py"))
    return sources | {file: text}


def _relative_imports(tree: ast.Module) -> list[ast.ImportFrom]:
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    return sorted(nodes, key=lambda node: node.lineno)


def _standing_alone(text: str) -> str:
    """A source without its imports of siblings: their names are there already, or get another."""
    lines = text.splitlines()
    for node in reversed(_relative_imports(ast.parse(text))):
        renamed = [f"{name.asname} = {name.name}" for name in node.names if name.asname]
        lines[node.lineno - 1 : node.end_lineno] = renamed
    return "\n".join(lines) + "\n"


def _check_names(sources: dict[Path, str]) -> None:
    meanings: dict[str, set[str]] = {}
    for file, text in sources.items():
        for name, meaning in _names(ast.parse(text), file.name):
            meanings.setdefault(name, set()).add(meaning)
    if shared := {name: sorted(m) for name, m in sorted(meanings.items()) if len(m) > 1}:
        raise ValueError(f"Bad names {shared}, expected one meaning each to write them in one file")


def _names(tree: ast.Module, file: str) -> Iterator[tuple[str, str]]:
    """Names that a module gives, and what they stand for."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, file
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (n for target in targets for n in ast.walk(target)):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    yield name.id, file
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"from {node.module} import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            yield from ((a.asname, f"{node.module}.{a.name}") for a in node.names if a.asname)
