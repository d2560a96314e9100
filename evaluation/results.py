"""Results files: measured records with their provenance, and the pages that show them.

A file under `results/` is a list of records (`Record`). Programs write them with `write_records`;
nobody types them. The tables of the README are regenerated, or checked, by

    python -m evaluation.results --results results --readme README.md [--check]

and `--plots results/plots` draws the pictures that compare several systems.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from .conditions import AS_RECORDED, parse_condition
from .tables import TABLES, render_table

REPOSITORY = Path(__file__).resolve().parents[1]

# Who trained the systems that results call by their kind alone.
REPORTED_CORPORA = {"emodb", "ravdess"}
TASKS = ("recognition", "clarity", "preservation", "style", "usefulness", "speed", "quality")
DATA = (
    "original",
    "enhanced",
    "converted",
    "generated",
    "vocoder_only",
    "autoencoder_only",
    "unconditional",
    "wrong_emotion",
    "level_matched",
    "enhanced_guessed",
    "enhanced_untold",
    "converted_untold",
    "converted_heard",
    "converted_added",
)
IDENTITY = ("task", "corpus", "protocol", "system", "judge", "data", "condition", "beside")
PROVENANCE = ("command", "commit", "seed", "versions", "hardware", "seconds", "date")
PACKAGES = (
    "torch",
    "transformers",
    "diffusers",
    "datasets",
    "accelerate",
    "evaluate",
    "librosa",
    "numpy",
    "scikit-learn",
    "opensmile",
    "onnxruntime",
)


class Provenance(TypedDict):
    """How a record came to be; see `provenance`."""

    command: str
    commit: str
    seed: int
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: float
    date: str


class _Beside(TypedDict, total=False):
    beside: str


class Record(_Beside):
    """One measurement: `system` on the test side of `protocol` of `corpus`.

    `judge` names the recogniser where it is not the system itself, `data` what it heard, and
    `condition` in what state: one of `CONDITIONS`, or `calibrated_<by>_<n>`, e.g.
    `calibrated_speaker_10`, `calibrated_room_neutral_5`. `metrics` are those over all folds
    together (rates in 0..1, `..._ci95` as `[low, high]`), `per_fold` holds the metrics of each
    fold, or nothing, and `predictions` names the file (`evaluation.predictions`) that holds what
    was said of each recording, relative to the results file.

    `beside` names the system whose comparison a control belongs to, where it was measured for that
    alone: on the same recordings, by the same judges. Other records lack it.
    """

    task: str
    corpus: str
    protocol: str
    system: str
    judge: str | None
    data: str
    condition: str
    metrics: dict[str, Any]
    folds: int
    per_fold: list[dict[str, Any]]
    predictions: str | None
    provenance: Provenance


# --- Records -------------------------------------------------------------------------------------


def make_record(
    *,
    task: str,
    corpus: str,
    protocol: str,
    system: str,
    metrics: Mapping[str, Any],
    provenance: Provenance,
    judge: str | None = None,
    data: str = "original",
    condition: str = AS_RECORDED,
    folds: int = 1,
    per_fold: Iterable[Mapping[str, Any]] = (),
    predictions: str | None = None,
    beside: str | None = None,
) -> Record:
    """Build a record and check it; raises ValueError as `validate_record` does."""
    record = Record(
        task=task,
        corpus=corpus,
        protocol=protocol,
        system=system,
        judge=judge,
        data=data,
        condition=condition,
        metrics=dict(metrics),
        folds=folds,
        per_fold=[dict(fold) for fold in per_fold],
        predictions=predictions,
        provenance=provenance,
    )
    if beside is not None:
        record["beside"] = beside
    validate_record(record)
    return record


def validate_record(record: Mapping[str, Any]) -> None:
    """Check the fields, the closed vocabularies and the ranges of a record.

    Raises:
        ValueError: A field is missing, `task`, `data` or `condition` is unknown, a name is empty, a
            rate or an interval leaves 0..1, there are neither no nor `folds` entries in `per_fold`,
            or `predictions` does not lie beside the results.
    """
    _check_fields("record", record, sorted(Record.__required_keys__))
    _check_fields("provenance", record["provenance"], PROVENANCE)
    _check_choice("task", record["task"], TASKS)
    _check_choice("data", record["data"], DATA)
    parse_condition(record["condition"])
    for name in ("corpus", "protocol", "system", *({"beside"} & set(record))):
        if not isinstance(record[name], str) or not record[name]:
            raise ValueError(f"Bad {name} {record[name]!r}, expected a name")
    if record["folds"] < 1 or len(record["per_fold"]) not in (0, record["folds"]):
        raise ValueError(
            f"Bad folds {record['folds']!r}, expected the number of entries in per_fold "
            f"({len(record['per_fold'])}), which may be left empty"
        )
    _check_predictions(record["predictions"])
    for metrics in (record["metrics"], *record["per_fold"]):
        _check_rates(metrics)


def _check_predictions(name: Any) -> None:
    if name is None:
        return
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in name:
        raise ValueError(
            f"Bad predictions {name!r}, expected None or the name of a file beside the results"
        )


def _check_fields(what: str, mapping: Mapping[str, Any], fields: Iterable[str]) -> None:
    missing = [field for field in fields if field not in mapping]
    if missing:
        raise ValueError(f"Bad {what}, expected the fields {list(fields)}, missing {missing}")


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"Bad {name} {value!r}, expected one of {list(choices)}")


def _check_rates(metrics: Mapping[str, Any]) -> None:
    for name in ("WA", "UA", "macro_F1", "ECE"):
        if name in metrics and not 0 <= metrics[name] <= 1:
            raise ValueError(
                f"Bad {name} {metrics[name]!r}, expected a rate in 0..1, not in percent"
            )
        low, high = metrics.get(f"{name}_ci95", (0, 1))
        if not 0 <= low <= high <= 1:
            raise ValueError(f"Bad {name}_ci95 {[low, high]}, expected 0 <= low <= high <= 1")


def _identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(field) for field in IDENTITY)


# --- Files ---------------------------------------------------------------------------------------


def write_records(path: str | os.PathLike[str], records: Iterable[Record]) -> Path:
    """Put records into a results file, atomically.

    A record of the same task, corpus, protocol, system, judge, data and condition, beside the same
    system, is replaced where it stands; others are kept, new ones follow.

    Raises:
        ValueError: A record is not valid (nothing is written then).
    """
    path = Path(path)
    kept = {_identity(record): record for record in (_read_file(path) if path.exists() else ())}
    for record in records:
        validate_record(record)
        kept[_identity(record)] = record
    _write_text(path, _to_json(list(kept.values())))
    return path


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """Read and check the records of every `*.json` directly in `folder`, by file name.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A file holds something else, or two files hold the same measurement.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Bad results folder, expected a folder, got '{folder}'")
    records: dict[tuple[Any, ...], Record] = {}
    for path in sorted(folder.glob("*.json")):
        for record in _read_file(path):
            if _identity(record) in records:
                raise ValueError(
                    f"Bad results, found twice: {_identity(record)}, again in '{path.name}'"
                )
            records[_identity(record)] = record
    return list(records.values())


def _read_file(path: Path) -> list[Record]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(records, list):
            raise ValueError(f"expected a list of records, got {type(records).__name__}")
        for record in records:
            validate_record(record)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Bad results file '{path}': {error}") from error
    return records


def _to_json(records: list[Record]) -> str:
    """Indented JSON; a list of plain values (a row of a confusion matrix) takes one line."""
    text = json.dumps(records, indent=1, allow_nan=False, ensure_ascii=False)
    return re.sub(r"\[\n[^\[\]{}]*\]", _on_one_line, text) + "\n"


def _on_one_line(match: re.Match[str]) -> str:
    # A newline inside a JSON string is escaped, so those matched here are all layout.
    return re.sub(r"\n\s*", " ", match[0]).replace("[ ", "[", 1)[:-2] + "]"


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


# --- Provenance ----------------------------------------------------------------------------------


def provenance(seed: int, seconds: float, command: Sequence[str] | None = None) -> Provenance:
    """Say how a result was made: what ran, from which commit, with which versions, on what.

    Args:
        seed: The seed of the run.
        seconds: Wall-clock time the measurement took, training included.
        command: Script and arguments; `sys.argv` when not given. Paths are shown relative to the
            repository, and those outside of it by their last component only.
    """
    return Provenance(
        command=_portable_command(sys.argv if command is None else command),
        commit=_commit(),
        seed=seed,
        versions=_versions(),
        hardware=_hardware(),
        seconds=round(seconds, 1),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _portable_command(command: Sequence[str]) -> str:
    return shlex.join(["python", *(_portable_argument(argument) for argument in command)])


def _portable_argument(argument: str) -> str:
    """Shorten the paths in `path`, `--option=path` and `a=path,path`; URLs stay."""
    return "".join(_portable_path(part) for part in re.split(r"([=,])", argument))


def _portable_path(text: str) -> str:
    path = Path(text.removeprefix("file://")).expanduser()
    if not path.is_absolute() and ".." not in path.parts:
        return text
    path = Path(os.path.abspath(path))
    return path.relative_to(REPOSITORY).as_posix() if path.is_relative_to(REPOSITORY) else path.name


def _commit() -> str:
    """The commit of this checkout, with "-dirty" when code differs from it, or "unknown".

    Results and pages of text are left out of the comparison: they are what a series of runs writes.
    """
    if not (REPOSITORY / ".git").exists():
        return "unknown"
    changes = ("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", ":!*.md")
    try:
        return _git("rev-parse", "HEAD") + ("-dirty" if _git(*changes) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    # Without optional locks a status never gets in the way of a git command run beside it.
    command = ["git", "--no-optional-locks", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    import torch  # here, so that tables are made without waiting for it

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "gpu": gpu}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


# --- Pages ---------------------------------------------------------------------------------------


def update_between_markers(path: str | os.PathLike[str], name: str, text: str) -> bool:
    """Put `text` between `<!-- results:NAME -->` and `<!-- /results:NAME -->`.

    Returns whether that changed the file.

    Raises:
        ValueError: The file does not hold the two markers, once and in this order.
    """
    path = Path(path)
    old = path.read_text(encoding="utf-8")
    new = _replace_between_markers(old, name, text, path)
    if new != old:
        _write_text(path, new)
    return new != old


def _replace_between_markers(page: str, name: str, text: str, path: Path) -> str:
    start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f"Bad markers in '{path}', expected once '{start}', then once '{end}'")
    before, rest = page.split(start)
    after = rest.split(end)[1]
    return f"{before}{start}\n{text}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerate the tables of a README, or check them (exit status 1 if out of date); plots."""
    options = _parse_arguments(arguments)
    page = old = options.readme.read_text(encoding="utf-8")
    records = read_records(options.results)
    for name in options.tables:
        table = render_table(name, records)
        page = _replace_between_markers(page, name, table, options.readme)
    if options.check and page != old:
        print(f"{options.readme} is out of date, run: python -m evaluation.results")
        return 1
    if page != old:
        _write_text(options.readme, page)
    if options.plots and not options.check:
        from .comparison_plots import (
            plot_comparisons,
        )  # here, so that tables do not wait for matplotlib

        plot_comparisons(records, options.plots)
    return 0


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m evaluation.results", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="page with markers")
    parser.add_argument("--tables", nargs="+", default=["recognition"], choices=list(TABLES))
    parser.add_argument("--plots", type=Path, help="folder of pictures that compare systems")
    parser.add_argument(
        "--check", action="store_true", help="change nothing, exit 1 if out of date"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
