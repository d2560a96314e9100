"""Results files: measured records with their provenance, and the tables made from them.

A file under `results/` is a list of records (`Record`). Programs write them with `write_records`;
nobody types them. The tables of the README are regenerated, or checked, by

    python -m evaluation.results --results results --readme README.md [--check]
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

REPOSITORY = Path(__file__).resolve().parents[1]
PAPER = Path(__file__).with_name("paper.json")

TASKS = ("recognition", "clarity", "preservation", "style", "usefulness", "speed")
DATA = (
    "original",
    "enhanced",
    "generated",
    "vocoder_only",
    "autoencoder_only",
    "no_emotion",
    "wrong_emotion",
    "level_matched",
    "enhanced_guessed",
)
IDENTITY = ("task", "corpus", "protocol", "system", "judge", "data")
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
)

CORPUS_TITLES = {"emodb": "EmoDB", "ravdess": "RAVDESS", "toy_emotions": "Toy emotions"}
PROTOCOL_TITLES = {
    "speaker_independent": "unseen speakers",
    "cross_corpus": "unseen corpus",
    "sentence_independent": "unseen sentences",
    "paper": "random 80/20",
}
# What was done to the speech, in the order of tables.
DATA_TITLES = {
    "original": "original",
    "vocoder_only": "vocoder only",
    "autoencoder_only": "autoencoder only",
    "no_emotion": "noised and denoised, no emotion",
    "wrong_emotion": "told a wrong emotion",
    "enhanced": "told the emotion",
    "level_matched": "told the emotion, level as before",
    "enhanced_guessed": "with the recogniser's own guess",
    "generated": "generated",
}
# The judges of emotion together.
PANEL = "panel"
PANEL_TITLES = ("gain", "target heard")
KEPT_TITLES = ("speaker", "sentence", "mel, dB", "F0, r")


class Provenance(TypedDict):
    """How a record came to be; see `provenance`."""

    command: str
    commit: str
    seed: int
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: float
    date: str


class Record(TypedDict):
    """One measurement: `system` on the test side of `protocol` of `corpus`.

    `judge` names the recogniser where it is not the system itself, and `data` what it heard.
    `metrics` are those over all folds together (rates in 0..1, `..._ci95` as `[low, high]`), and
    `per_fold` holds the metrics of each fold, or nothing.
    """

    task: str
    corpus: str
    protocol: str
    system: str
    judge: str | None
    data: str
    metrics: dict[str, Any]
    folds: int
    per_fold: list[dict[str, Any]]
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
    folds: int = 1,
    per_fold: Iterable[Mapping[str, Any]] = (),
) -> Record:
    """Build a record and check it; raises ValueError as `validate_record` does."""
    record = Record(
        task=task,
        corpus=corpus,
        protocol=protocol,
        system=system,
        judge=judge,
        data=data,
        metrics=dict(metrics),
        folds=folds,
        per_fold=[dict(fold) for fold in per_fold],
        provenance=provenance,
    )
    validate_record(record)
    return record


def validate_record(record: Mapping[str, Any]) -> None:
    """Check the fields, the closed vocabularies and the ranges of a record.

    Raises:
        ValueError: A field is missing, `task` or `data` is unknown, a name is empty, a rate or an
            interval leaves 0..1, or there are neither no nor `folds` entries in `per_fold`.
    """
    _check_fields("record", record, Record.__annotations__)
    _check_fields("provenance", record["provenance"], PROVENANCE)
    _check_choice("task", record["task"], TASKS)
    _check_choice("data", record["data"], DATA)
    for name in ("corpus", "protocol", "system"):
        if not isinstance(record[name], str) or not record[name]:
            raise ValueError(f"Bad {name} {record[name]!r}, expected a name")
    if record["folds"] < 1 or len(record["per_fold"]) not in (0, record["folds"]):
        raise ValueError(
            f"Bad folds {record['folds']!r}, expected the number of entries in per_fold "
            f"({len(record['per_fold'])}), which may be left empty"
        )
    for metrics in (record["metrics"], *record["per_fold"]):
        _check_rates(metrics)


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
    return tuple(record[field] for field in IDENTITY)


# --- Files ---------------------------------------------------------------------------------------


def write_records(path: str | os.PathLike[str], records: Iterable[Record]) -> Path:
    """Put records into a results file, atomically.

    A record of the same task, corpus, protocol, system, judge and data is replaced where it stands;
    others are kept, new ones follow.

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


# --- Tables --------------------------------------------------------------------------------------


def paper_records() -> list[dict[str, Any]]:
    """The recognition results printed by Kim & Lee 2024, as far as a record goes (`paper.json`)."""
    return json.loads(PAPER.read_text(encoding="utf-8"))["recognition"]


def markdown_table(
    records: Iterable[Mapping[str, Any]], references: Iterable[Mapping[str, Any]] = ()
) -> str:
    """Table of recognition results in percent, with 95 % intervals, best UA first in each group.

    Args:
        records: Measured records; those of another task are left out.
        references: Printed results (`paper_records()`), shown in italics below the measured ones of
            the same corpus and protocol.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    measured = [record for record in records if record["task"] == "recognition"]
    for record in sorted(measured, key=_table_order):
        groups.setdefault((record["corpus"], record["protocol"]), []).append(_table_row(record))
    for reference in references:
        if (reference["corpus"], reference["protocol"]) in groups:
            row = _table_row(reference, system="*{}*")
            groups[reference["corpus"], reference["protocol"]].append(row)
    header = ("corpus", "protocol", "system", "WA", "UA", "macro-F1", "folds")
    alignment = "|---|---|---|---:|---:|---:|---:|"
    return "\n".join([_join(header), alignment, *(row for rows in groups.values() for row in rows)])


def _table_order(record: Mapping[str, Any]) -> tuple[Any, ...]:
    corpora, protocols = list(CORPUS_TITLES), list(PROTOCOL_TITLES)
    corpus, protocol = record["corpus"], record["protocol"]
    return (
        corpora.index(corpus) if corpus in corpora else len(corpora),
        corpus,
        protocols.index(protocol) if protocol in protocols else len(protocols),
        protocol,
        -record["metrics"]["UA"],
        record["system"],
    )


def _table_row(record: Mapping[str, Any], system: str = "{}") -> str:
    metrics = record["metrics"]
    name = record["system"]
    if record["data"] != "original" or "folds" not in record:
        name += f", {record['data'].replace('_', ' ')} data"
    cells = [
        CORPUS_TITLES.get(record["corpus"], record["corpus"]),
        PROTOCOL_TITLES.get(record["protocol"], record["protocol"].replace("_", " ")),
        system.format(name),
        *(format_rate(metrics, score) for score in ("WA", "UA", "macro_F1")),
        str(record.get("folds", "")),
    ]
    return _join(cells)


def format_rate(metrics: Mapping[str, Any], name: str) -> str:
    """A rate in percent, with its interval if there is one ("82.4 [78.1, 86.0]"), or ""."""
    if name not in metrics:
        return ""
    text = f"{100 * metrics[name]:.1f}"
    if f"{name}_ci95" in metrics:
        low, high = metrics[f"{name}_ci95"]
        text += f" [{100 * low:.1f}, {100 * high:.1f}]"
    return text


def _join(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


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


# --- Command line --------------------------------------------------------------------------------


def folds_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of WA and UA in percent of every fold, one row a fold and one pair a system."""
    measured = [r for r in records if r["task"] == "recognition" and r["per_fold"]]
    systems = sorted({record["system"] for record in measured})
    scores: dict[tuple[str, str, int], dict[str, str]] = {}
    for record in sorted(measured, key=_table_order):
        for index, fold in enumerate(record["per_fold"]):
            key = (record["corpus"], record["protocol"], index)
            cell = f"{100 * fold['WA']:.1f} / {100 * fold['UA']:.1f}"
            scores.setdefault(key, {})[record["system"]] = cell
    rows = [
        _join(
            [
                CORPUS_TITLES.get(corpus, corpus),
                PROTOCOL_TITLES.get(protocol, protocol.replace("_", " ")),
                str(index),
                *(cells.get(system, "") for system in systems),
            ]
        )
        for (corpus, protocol, index), cells in scores.items()
    ]
    header = _join(["corpus", "protocol", "fold", *(f"{system}, WA / UA" for system in systems)])
    return "\n".join([header, "|---|---|---:|" + "---:|" * len(systems), *rows])


def enhancement_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what judges hear in enhanced speech, in percent: one row a corpus and condition.

    Each judge of emotion has its WA with the 95 % interval; all together the gain over the original
    and how often they hear the emotion aimed at; then how often the speaker and the sentence are
    still named, the mean distance of mels in dB and the correlation of F0.
    """
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        if record["task"] in ("clarity", "preservation"):
            rows.setdefault((record["corpus"], record["data"]), []).append(record)
    own = [record for row in rows.values() for record in row]
    heard = {record["judge"] for record in own if record["task"] == "clarity"}
    judges = sorted(heard - {PANEL})
    titles = (*(f"emotion, {judge}" for judge in judges), *PANEL_TITLES, *KEPT_TITLES)
    header = ["corpus", "sound", *titles]
    alignment = "|---|---|" + "---:|" * (len(header) - 2)
    lines = [_enhancement_row(*rows[key], judges=judges) for key in sorted(rows, key=_row_order)]
    return "\n".join([_join(header), alignment, *lines])


def _enhancement_row(*records: Mapping[str, Any], judges: Sequence[str]) -> str:
    heard = {r["judge"]: r["metrics"] for r in records if r["task"] == "clarity"}
    kept: Mapping[str, Any] = next(
        (r["metrics"] for r in records if r["task"] == "preservation"), {}
    )
    panel = heard.get(PANEL, {})
    corpus, data = records[0]["corpus"], records[0]["data"]
    cells = [
        CORPUS_TITLES.get(corpus, corpus),
        DATA_TITLES[data],
        *(format_rate(heard.get(judge, {}), "WA") for judge in judges),
        _format_gain(panel) if data != "original" else "",
        format_rate(panel, "target_WA"),
        *(format_rate(kept, name) for name in ("speaker_WA", "sentence_WA")),
        *(f"{kept[m]:.2f}" if m in kept else "" for m in ("mel_distance_db", "f0_correlation")),
    ]
    return _join(cells)


def clarity_folds_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what all judges of emotion together hear of every fold, WA in percent."""
    panels = [r for r in records if r["task"] == "clarity" and r["judge"] == PANEL]
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for record in panels:
        for index, fold in enumerate(record["per_fold"]):
            row = rows.setdefault((record["corpus"], index), {})
            row[record["data"]] = f"{100 * fold['WA']:.1f}"
    data = [name for name in DATA_TITLES if any(name in row for row in rows.values())]
    header = _join(["corpus", "fold", *(DATA_TITLES[name] for name in data)])
    lines = [
        _join([CORPUS_TITLES.get(corpus, corpus), str(index), *(row.get(d, "") for d in data)])
        for (corpus, index), row in rows.items()
    ]
    return "\n".join([header, "|---|---:|" + "---:|" * len(data), *lines])


def _format_gain(metrics: Mapping[str, Any]) -> str:
    if "gain" not in metrics:
        return ""
    gain, low, high = (100 * value for value in (metrics["gain"], *metrics["gain_ci95"]))
    return f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]"


def style_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what a linear probe reads in representations of utterances, in percent."""
    rows = [
        _join(
            [
                CORPUS_TITLES.get(record["corpus"], record["corpus"]),
                record["system"].replace("-", " "),
                *(format_rate(record["metrics"], name) for name in ("UA", "speaker_WA")),
            ]
        )
        for record in records
        if record["task"] == "style"
    ]
    header = _join(("corpus", "read from", "emotion, UA", "speaker"))
    return "\n".join([header, "|---|---|---:|---:|", *rows])


def _row_order(key: tuple[str, str]) -> tuple[int, str, int]:
    corpora, (corpus, data) = list(CORPUS_TITLES), key
    place = corpora.index(corpus) if corpus in corpora else len(corpora)
    return place, corpus, list(DATA_TITLES).index(data)


TABLES: dict[str, Callable[[Sequence[Any]], str]] = {
    "recognition": lambda records: markdown_table(records, paper_records()),
    "folds": folds_table,
    "enhancement": enhancement_table,
    "clarity_folds": clarity_folds_table,
    "style": style_table,
}


def render_table(name: str, records: Sequence[Record]) -> str:
    """The text of a table by the name of its markers, one of `TABLES`."""
    return TABLES[name](records)


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerate the tables of a README, or check them (exit status 1 if out of date)."""
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
    return 0


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m evaluation.results", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="page with markers")
    parser.add_argument("--tables", nargs="+", default=["recognition"], choices=list(TABLES))
    parser.add_argument(
        "--check", action="store_true", help="change nothing, exit 1 if out of date"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
