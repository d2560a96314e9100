"""Tables and their words: Markdown made from records, everything in percent."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .conditions import (
    AS_RECORDED,
    CALIBRATED_BY_TITLES,
    CONDITION_TITLES,
    CONDITIONS,
    Calibration,
    parse_condition,
)

# Records, whatever they are kept as.
R = TypeVar("R", bound=Mapping[str, Any])
PAPER = Path(__file__).with_name("paper.json")

CORPUS_TITLES = {
    "emodb": "EmoDB",
    "ravdess": "RAVDESS",
    "crema_d": "CREMA-D",
    "savee": "SAVEE",
    "tess": "TESS",
    "nemo": "nEMO",
    "toy_emotions": "Toy emotions",
}
PROTOCOL_TITLES = {
    "speaker_independent": "unseen speakers",
    "cross_corpus": "unseen corpus",
    "sentence_independent": "unseen sentences",
    "paper": "random 80/20",
    "all_recordings": "all recordings",
}
# What was done to the speech, in the order of tables.
DATA_TITLES = {
    "original": "original",
    "vocoder_only": "vocoder only",
    "autoencoder_only": "autoencoder only",
    "unconditional": "noised and denoised, no emotion",
    "wrong_emotion": "told a wrong emotion",
    "enhanced": "told the emotion",
    "level_matched": "told the emotion, level as before",
    "enhanced_guessed": "with the listener's own guess",
    "enhanced_untold": "told nothing",
    "converted": "told another emotion",
    "converted_untold": "told another emotion, and nothing else",
    "generated": "a take from one noise",
    "converted_heard": "told another emotion, the half that it was heard best in",
    "converted_added": "recordings, and that half",
}
# Where judges are to hear another emotion than the recording carries.
ANOTHER = ("converted", "converted_untold", "generated")
# The trained enhancer, whatever else moves recordings.
ENHANCER = "emotion-enhancer"
CLASS_SHIFT = "class-shift"
BAND_FILTER = "band-filter"
DIFFUSION = "diffusion-alone"
UNRANKED, RERANKED_SHIFT = "emotion-enhancer-unranked", "class-shift-reranked"
RECORDINGS = "recordings"
# Of `beside`, where judges are told apart by whom they know.
JUDGES_OF = "judges_of_"
# What is shown first, by what it is shown of.
HEADLINE = {
    RECORDINGS: ("original",),
    BAND_FILTER: ("enhanced", "converted"),
    RERANKED_SHIFT: ("enhanced", "enhanced_guessed", "enhanced_untold", "converted"),
    ENHANCER: ("converted", "converted_untold", "generated"),
}
SECONDS_A_SECOND = "_seconds_a_second"
# The judges of emotion together.
PANEL = "mean"
PANEL_TITLES = ("gain, WA", "gain, UA", "target heard")
GAINS = ("gain_WA", "gain_UA")
CLEAN_TITLE = "gain, WA, clean folds"
# Of the target, paired with the class shift, or the band filter, of the same run.
OVER_SHIFT, OVER_FILTER = "over_shift", "over_band_filter"
OVER_TITLES = {OVER_SHIFT: "over the class shift", OVER_FILTER: "over the band filter"}
# What a change should leave as it was; rates are shown in percent.
KEPT_TITLES = {
    "speaker_WA": "speaker",
    "sentence_WA": "sentence",
    "speaker_rank1": "speaker, Resemblyzer",
    "speaker_similarity": "similarity",
    "word_error_rate": "words wrong",
    "ovrl_mos": "DNSMOS",
    "mel_distance_db": "mel, dB",
    "f0_correlation": "F0, r",
}
SPEED_FORMS = {"pipeline": "PyTorch pipeline", "onnx": "ONNX", "onnx_half": "ONNX, half precision"}
KEPT_RATES = ("speaker_WA", "sentence_WA", "speaker_rank1", "word_error_rate")


def paper_records() -> list[dict[str, Any]]:
    """The recognition results printed by Kim & Lee 2024, as far as a record goes (`paper.json`)."""
    return json.loads(PAPER.read_text(encoding="utf-8"))["recognition"]


def markdown_table(
    records: Iterable[Mapping[str, Any]], references: Iterable[Mapping[str, Any]] = ()
) -> str:
    """Table of recognition results in percent, with 95 % intervals, best UA first in each group.

    The expected calibration error (ECE) has a column where any record holds one.

    Args:
        records: Measured records; those of another task, or of another condition than
            "as_recorded", are left out.
        references: Printed results (`paper_records()`), shown in italics below the measured ones of
            the same corpus and protocol.
    """
    measured = [record for record in _recognition(records) if record["condition"] == AS_RECORDED]
    scores = ["WA", "UA", "macro_F1"]
    if any("ECE" in record["metrics"] for record in measured):
        scores.append("ECE")
    groups: dict[tuple[str, str], list[str]] = {}
    for record in sorted(measured, key=_table_order):
        rows = groups.setdefault((record["corpus"], record["protocol"]), [])
        rows.append(_table_row(record, scores))
    for reference in references:
        if (reference["corpus"], reference["protocol"]) in groups:
            row = _table_row(reference, scores, system="*{}*")
            groups[reference["corpus"], reference["protocol"]].append(row)
    titles = ["macro-F1" if score == "macro_F1" else score for score in scores]
    lines = [row for rows in groups.values() for row in rows]
    return _table(["corpus", "protocol", "system"], [*titles, "folds"], lines)


def _recognition(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for record in records if record["task"] == "recognition"]


def _table(left: Sequence[str], right: Sequence[str], lines: Iterable[str]) -> str:
    """A header of columns set to the left, then to the right, above finished rows."""
    alignment = "|" + "---|" * len(left) + "---:|" * len(right)
    return "\n".join([_join([*left, *right]), alignment, *lines])


def _corpus_and_protocol(corpus: str, protocol: str) -> list[str]:
    title = PROTOCOL_TITLES.get(protocol, protocol.replace("_", " "))
    return [CORPUS_TITLES.get(corpus, corpus), title]


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


def _table_row(record: Mapping[str, Any], scores: Sequence[str], system: str = "{}") -> str:
    name = record["system"]
    if record["data"] != "original" or "folds" not in record:
        name += f", {record['data'].replace('_', ' ')} data"
    name += remarks(record["metrics"])
    cells = [
        *_corpus_and_protocol(record["corpus"], record["protocol"]),
        system.format(name),
        *(format_rate(record["metrics"], score) for score in scores),
        str(record.get("folds", "")),
    ]
    return _join(cells)


def remarks(metrics: Mapping[str, Any]) -> str:
    """What makes scores no equal of others, in brackets: a system that was trained on the corpus
    that it is tested on (contaminated), or that was tested on some emotions only; or "".
    """
    notes = []
    if "coverage" in metrics:
        share = f"{100 * metrics['coverage']:.0f} % of the recordings"
        notes.append(f"{len(metrics['classes'])} emotions, {share}")
    if metrics.get("contaminated"):
        notes.append("contaminated")
    return f" ({'; '.join(notes)})" if notes else ""


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


def folds_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of WA and UA in percent of every fold, one row a fold and one pair a system.

    Other conditions than "as_recorded" are left out.
    """
    measured = [
        record
        for record in _recognition(records)
        if record["per_fold"] and record["condition"] == AS_RECORDED
    ]
    systems = sorted({record["system"] for record in measured})
    scores: dict[tuple[str, str, int], dict[str, str]] = {}
    for record in sorted(measured, key=_table_order):
        for index, fold in enumerate(record["per_fold"]):
            key = (record["corpus"], record["protocol"], index)
            cell = format_pair(fold) + remarks(record["metrics"])
            scores.setdefault(key, {})[record["system"]] = cell
    lines = [
        _join([*_corpus_and_protocol(corpus, protocol), str(index), *_in_order(cells, systems)])
        for (corpus, protocol, index), cells in scores.items()
    ]
    titles = [f"{system}, WA / UA" for system in systems]
    return _table(["corpus", "protocol"], ["fold", *titles], lines)


def format_pair(metrics: Mapping[str, Any]) -> str:
    """WA and UA in percent, without intervals: "82.4 / 81.0"."""
    return f"{100 * metrics['WA']:.1f} / {100 * metrics['UA']:.1f}"


def _in_order(cells: Mapping[Any, str], keys: Iterable[Any]) -> list[str]:
    return [cells.get(key, "") for key in keys]


def robustness_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of recognition under changed conditions, in percent: one row per corpus and system.

    Cells hold WA / UA and, except as recorded, the difference in WA from as recorded. Systems that
    were tested as recorded only, or calibrated by number only (`calibration_table`), have no row.
    """
    rows = recognition_by_condition(records)
    shown = {key: row for key, row in rows.items() if set(row) & set(CONDITIONS[1:])}
    columns = [name for name in CONDITIONS if any(name in row for row in shown.values())]
    lines = []
    for (corpus, protocol, system), row in shown.items():
        cells = _in_order({name: _robustness_cell(row, name) for name in row}, columns)
        name = system + remarks(next(iter(row.values())))
        lines.append(_join([*_corpus_and_protocol(corpus, protocol), name, *cells]))
    titles = [f"{CONDITION_TITLES[name]}, WA / UA" for name in columns]
    return _table(["corpus", "protocol", "system"], titles, lines)


def recognition_by_condition(
    records: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str, str], dict[str, Mapping[str, Any]]]:
    """Metrics of recognition by condition, for each corpus, protocol and system, in their order."""
    rows: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    measured = [r for r in _recognition(records) if r["data"] == "original"]
    # As recorded first: it says which system is the better one.
    for record in sorted(measured, key=lambda r: (r["condition"] != AS_RECORDED, _table_order(r))):
        key = (record["corpus"], record["protocol"], record["system"])
        rows.setdefault(key, {})[record["condition"]] = record["metrics"]
    return rows


def _robustness_cell(row: Mapping[str, Mapping[str, Any]], condition: str) -> str:
    cell = format_pair(row[condition])
    if condition == AS_RECORDED or AS_RECORDED not in row:
        return cell
    return f"{cell} ({100 * (row[condition]['WA'] - row[AS_RECORDED]['WA']):+.1f})"


def calibration_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what calibration by so many unlabelled recordings brings, WA / UA in percent.

    One row per corpus, protocol, system and whose recordings they are; the first column of scores
    is the system as recorded.
    """
    rows: list[tuple[list[str], dict[int, str]]] = []
    for (corpus, protocol, system), row in recognition_by_condition(records).items():
        calibrations = {name: parse_condition(name) for name in row}
        for by, title in CALIBRATED_BY_TITLES.items():
            cells = {
                calibration.number: format_pair(row[name])
                for name, calibration in calibrations.items()
                if isinstance(calibration, Calibration) and calibration.by == by
            }
            if cells:
                none = format_pair(row[AS_RECORDED]) if AS_RECORDED in row else ""
                name = system + remarks(next(iter(row.values())))
                left = [*_corpus_and_protocol(corpus, protocol), name, title]
                rows.append((left, {0: none, **cells}))
    numbers = sorted({number for _, cells in rows for number in cells})
    lines = [_join([*left, *_in_order(cells, numbers)]) for left, cells in rows]
    titles = ["none" if number == 0 else str(number) for number in numbers]
    return _table(["corpus", "protocol", "system", "calibrated by"], titles, lines)


def enhancement_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what judges hear in enhanced speech, in percent: a row per corpus, method and aim.

    Each judge of emotion has its WA with the 95 % interval, of the emotion aimed at where that is
    another one than the recording's; all together the gain over the original (also of those folds
    alone whose speakers chose nothing, where others were measured too) and how often they hear the
    emotion aimed at, and, where that was compared, how many points more often than in what the
    class shift and the band filter make; then what was kept, as far as it was measured.
    """
    rows: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        if record["task"] in ("clarity", "preservation"):
            key = (record["corpus"], *_measured_system(record), record["data"])
            rows.setdefault(key, []).append(record)
    own = [record for row in rows.values() for record in row]
    heard = {record["judge"] for record in own if record["task"] == "clarity"}
    judges = sorted(heard - {PANEL})
    measured = {
        name for record in own if record["task"] == "preservation" for name in record["metrics"]
    }
    kept = [name for name in KEPT_TITLES if name in measured]
    compared = [name for name in OVER_TITLES if any(name in r["metrics"] for r in own)]
    titles = [f"emotion, {judge}" for judge in judges]
    clean = any("clean" in record["metrics"] for record in own)
    titles += [*PANEL_TITLES, *([CLEAN_TITLE] if clean else [])]
    titles += [OVER_TITLES[name] for name in compared]
    titles += [KEPT_TITLES[name] for name in kept]
    lines = [
        _enhancement_row(
            *rows[key],
            measured=_kept(rows[key], own),
            judges=judges,
            kept=kept,
            compared=compared,
            clean=clean,
        )
        for key in sorted(rows, key=_row_order)
    ]
    return _table(["corpus", "method", "sound"], titles, lines)


def _kept(
    records: Sequence[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What voice, words and sound are like; of recordings it stands with what was made of them."""
    if records[0]["data"] != "original":
        return next((r["metrics"] for r in records if r["task"] == "preservation"), {})
    wanted = (records[0]["corpus"], _comparison(records[0]))
    made = (
        r["metrics"]
        for r in others
        if r["task"] == "preservation" and (r["corpus"], _comparison(r)) == wanted
    )
    end = "_original"
    return {k.removesuffix(end): v for k, v in next(made, {}).items() if k.endswith(end)}


def _comparison(record: Mapping[str, Any]) -> str:
    """Whose comparison a record belongs to, or ""."""
    system, beside = _measured_system(record)
    return ENHANCER if ENHANCER in (system, beside) else beside


def _enhancement_row(
    *records: Mapping[str, Any],
    measured: Mapping[str, Any],
    judges: Sequence[str],
    kept: Sequence[str],
    compared: Sequence[str],
    clean: bool,
) -> str:
    heard = {r["judge"]: r["metrics"] for r in records if r["task"] == "clarity"}
    panel = heard.get(PANEL, {})
    corpus, data = records[0]["corpus"], records[0]["data"]
    cells = [
        CORPUS_TITLES.get(corpus, corpus),
        records[0]["system"],
        DATA_TITLES[data],
        *(_judged(heard.get(judge, {}), data) for judge in judges),
        *("" if data == "original" else _format_gain(panel, name) for name in GAINS),
        format_rate(panel, "target_WA"),
        *([_of_clean_folds(panel, data)] if clean else []),
        *(_format_gain(panel.get(name, {}), "gain") for name in compared),
        *(_format_kept(measured, name) for name in kept),
    ]
    return _join(cells)


def _judged(metrics: Mapping[str, Any], data: str) -> str:
    return format_rate(metrics, "target_WA" if data in ANOTHER else "WA") + remarks(metrics)


def _of_clean_folds(metrics: Mapping[str, Any], data: str) -> str:
    found = metrics.get("clean", {})
    return "" if data == "original" else _format_gain(found, GAINS[0])


def _format_kept(metrics: Mapping[str, Any], name: str) -> str:
    if name in KEPT_RATES:
        return format_rate(metrics, name)
    return f"{metrics[name]:.2f}" if name in metrics else ""


def clarity_folds_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what all judges of emotion together hear of every fold, WA in percent."""
    panels = [r for r in records if r["task"] == "clarity" and r["judge"] == PANEL]
    rows: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for record in panels:
        for fold in record["per_fold"]:
            row = rows.setdefault((record["corpus"], *_measured_system(record), fold["fold"]), {})
            row[record["data"]] = f"{100 * fold['WA']:.1f}"
    data = [name for name in DATA_TITLES if any(name in row for row in rows.values())]
    lines = [
        _join([CORPUS_TITLES.get(corpus, corpus), system, name, *_in_order(row, data)])
        for (corpus, system, _, name), row in rows.items()
    ]
    return _table(["corpus", "method", "fold"], [DATA_TITLES[name] for name in data], lines)


def judges_apart_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what each judge hears of the target after converting, in percent, with the gain of
    the enhancer over the class shift that is reranked like it.
    """
    heard: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for record in of_enhancer(records):
        if record["task"] == "clarity" and record["data"] == "converted":
            row = heard.setdefault((record["corpus"], record["judge"]), {})
            row[record["system"]] = record["metrics"]
    systems = (BAND_FILTER, RERANKED_SHIFT, ENHANCER)
    lines = [
        _join(
            [
                CORPUS_TITLES.get(corpus, corpus),
                "mean of all" if judge == PANEL else judge,
                *(format_rate(row.get(system, {}), "target_WA") for system in systems),
                _format_gain(row.get(ENHANCER, {}).get(OVER_SHIFT, {}), "gain"),
            ]
        )
        for (corpus, judge), row in heard.items()
    ]
    titles = [f"target heard, {system}" for system in systems]
    return _table(["corpus", "judge"], [*titles, OVER_TITLES[OVER_SHIFT]], lines)


def _format_gain(metrics: Mapping[str, Any], name: str) -> str:
    if name not in metrics:
        return ""
    gain, low, high = (100 * value for value in (metrics[name], *metrics[f"{name}_ci95"]))
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(round(x, 1) + 0.0 for x in (gain, low, high)))


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


def usefulness_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what is named rightly, in percent, by who learned from changed speech alone."""
    lines = [
        _join(
            [
                CORPUS_TITLES.get(record["corpus"], record["corpus"]),
                record["system"],
                DATA_TITLES[record["data"]],
                str(record["metrics"]["learned_from"]),
                *(format_rate(record["metrics"], name) for name in ("WA", "UA")),
                str(record["folds"]),
            ]
        )
        for record in sorted(records, key=_useful_order)
        if record["task"] == "usefulness"
    ]
    right = ["recordings", "WA", "UA", "folds"]
    return _table(["corpus", "learned from", "sound"], right, lines)


def _useful_order(record: Mapping[str, Any]) -> tuple[int, float]:
    corpora, corpus = list(CORPUS_TITLES), record["corpus"]
    place = corpora.index(corpus) if corpus in corpora else len(corpora)
    return place, -record["metrics"].get("UA", 0.0)


def speed_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of size and latency of a classifier in each form, measured side by side."""
    lines = [
        _join(
            (
                record["system"],
                title,
                f"{metrics[f'{form}_MB']:.1f}",
                f"{metrics[f'{form}_ms']:.0f}",
                # Of each recording, in the median.
                f"{metrics.get(f'{form}_speed_up', 1.0):.2f}",
            )
        )
        for record in records
        if record["task"] == "speed"
        for metrics in [record["metrics"]]
        for form, title in SPEED_FORMS.items()
        if f"{form}_ms" in metrics
    ]
    return _table(["system", "form"], ["MB", "ms a recording", "times as fast"], lines)


def enhancer_speed_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what a conversion takes, in seconds of one thread for a second of the recording."""
    lines = [
        _join((record["system"], name.removesuffix(SECONDS_A_SECOND), f"{value:.2f}"))
        for record in records
        if record["task"] == "speed"
        for name, value in record["metrics"].items()
        if name.endswith(SECONDS_A_SECOND)
    ]
    return _table(["system", "method"], ["seconds a second"], lines)


def _row_order(key: tuple[str, str, str, str]) -> tuple[int, str, int, str, str]:
    corpora, (corpus, system, beside, data) = list(CORPUS_TITLES), key
    place = corpora.index(corpus) if corpus in corpora else len(corpora)
    return place, corpus, list(DATA_TITLES).index(data), system, beside


def _measured_system(record: Mapping[str, Any]) -> tuple[str, str]:
    """Who changed the speech, and beside whom: a control is another one in each comparison."""
    return record["system"], record.get("beside", "")


def shared_speakers_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Table of what judges of a shift's own training speakers hear in it, and judges of others."""
    lines = [
        _join(
            [
                CORPUS_TITLES.get(record["corpus"], record["corpus"]),
                DATA_TITLES[record["data"]],
                record["beside"].removeprefix(JUDGES_OF).replace("_", " "),
                format_rate(record["metrics"], "WA"),
                "" if record["data"] == "original" else _format_gain(record["metrics"], "gain_WA"),
                format_rate(record["metrics"], "target_WA"),
            ]
        )
        for record in records
        if _is_shared(record) and record["judge"] == PANEL
    ]
    return _table(["corpus", "sound", "judges know"], ["WA", *PANEL_TITLES[::2]], lines)


def _is_shared(record: Mapping[str, Any]) -> bool:
    return str(record.get("beside", "")).startswith(JUDGES_OF)


def _of_controls(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [r for r in records if ENHANCER not in _measured_system(r) and not _is_shared(r)]


def of_enhancer(records: Iterable[R]) -> list[R]:
    """Records of the trained enhancer, and of what was measured beside it."""
    return [record for record in records if ENHANCER in _measured_system(record)]


def _headline(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The enhancer as it is used by default, beside a filter that anybody can make."""
    return [
        record
        for record in of_enhancer(records)
        if record["data"] in HEADLINE.get(record["system"], ())
    ]


TABLES: dict[str, Callable[[Sequence[Any]], str]] = {
    "recognition": lambda records: markdown_table(records, paper_records()),
    "folds": folds_table,
    "robustness": robustness_table,
    "calibration": calibration_table,
    "enhancement": lambda records: enhancement_table(of_enhancer(records)),
    "headline": lambda records: enhancement_table(_headline(records)),
    "controls": lambda records: enhancement_table(_of_controls(records)),
    "judges_apart": judges_apart_table,
    "clarity_folds": lambda records: clarity_folds_table(of_enhancer(records)),
    "control_folds": lambda records: clarity_folds_table(_of_controls(records)),
    "style": style_table,
    "usefulness": usefulness_table,
    "shared_speakers": shared_speakers_table,
    "speed": speed_table,
    "enhancer_speed": enhancer_speed_table,
}


def render_table(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The text of a table by the name of its markers, one of `TABLES`."""
    return TABLES[name](records)
