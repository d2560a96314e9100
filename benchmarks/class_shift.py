"""Judge what needs no network: bands, pitch and tempo moved by the mean effect of an emotion.

    python -m benchmarks.class_shift --corpus emodb=/data/emodb --corpus ravdess=/data/ravdess \\
        --output results/class_shift.json

The controls of every enhancer, on all folds of unseen speakers: effects are fitted on the training
speakers of a fold (`training.shift`), and applied to its test speakers, at the level that each
recording had.

* `psola`: the waveform taken apart and put together again;
* `band-filter`: the same bands for everybody, no pitch and no tempo;
* `class-shift`: bands, mean and range of pitch, and tempo.

How far to go, and which filter, is chosen for each corpus on the *validation* speakers of the folds
of `--choose_on`: the settings that the judges hear the target best in, nine for each use. The
primary comparison is the gain in WA of `class-shift` over the originals, in the mean of all judges,
over the folds whose test speakers took part in no choice (`"clean"` in the records).

Everything is kept in `--work`, so that a call goes on where the one before was stopped; corpora may
be measured by several calls side by side.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from datasets_scripts import EMOTIONS, load_corpus, protocol_folds
from evaluation import Record, plot_pitch, provenance, write_records
from evaluation.quality import QualityMeter
from evaluation.tables import BAND_FILTER, CLASS_SHIFT, PANEL, RECORDINGS
from modeling import EmotionShift, MelVocoder, Prosody, extract_prosody
from training.shift import BAND_FILTERS, Voices, fit_band_filter, fit_class_shift
from training.state import write_json

from .clarity import (
    PROTOCOL,
    Condition,
    condition_records,
    describe,
    join,
    of_corpus,
    panel_clarity,
    read_reports,
    write_votes,
)
from .command_line import add_corpora
from .fold_quality import measure_quality, quality_meter
from .frame_classifier import FrameClassifier
from .judges import EMOTION_JUDGES, log_mels
from .panel import (
    Clips,
    Panel,
    corpus_fold,
    judged_parser,
    load_clips,
    some_clips,
    wrong_emotions,
)

PSOLA, ORIGINAL = "psola", RECORDINGS
NOTHING = (0.0, 0.0)
# What models of others are asked about voice, words and sound of: that takes the most time.
PRESERVED = ("vocoder_only", "enhanced", "converted")


CONDITIONS = (
    Condition(ORIGINAL, "original"),
    Condition(PSOLA, "vocoder_only"),
    Condition(BAND_FILTER, "enhanced"),
    Condition(CLASS_SHIFT, "enhanced"),
    Condition(CLASS_SHIFT, "enhanced_guessed"),
    Condition(CLASS_SHIFT, "wrong_emotion"),
    Condition(BAND_FILTER, "converted"),
    Condition(CLASS_SHIFT, "converted"),
)


@dataclass(frozen=True)
class Setting:
    """How a system moves recordings.

    Args:
        system: `BAND_FILTER` or `CLASS_SHIFT`.
        kind: Of the band filter.
        factors: How far, for bands and for prosody.
    """

    system: str
    kind: str
    factors: tuple[float, float]

    @property
    def name(self) -> str:
        """Of its report."""
        return f"{self.system}_{self.kind}_{self.factors[0]:g}_{self.factors[1]:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, measure every fold of every corpus, then write the records."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    options.command = ["-m", "benchmarks.class_shift", *arguments]
    for corpus, data_dir in options.corpus:
        indices = fold_indices(corpus, data_dir, options.folds)
        claim(corpus, indices, options)
        bench = Bench(corpus, data_dir, options)
        chosen = bench.choose()
        for index in indices:
            bench.measure(index, chosen)
        write_records(options.output, collect(corpus, indices, options))
        if options.plots:
            bench.draw(indices[0], chosen)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = judged_parser("benchmarks.class_shift", __doc__, "results/class_shift.json")
    parser.set_defaults(work=Path("outputs/class_shift"))
    add_corpora(parser)
    parser.add_argument("--folds", type=int, nargs="+", help="only these; all when not given")
    parser.add_argument("--choose_on", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--choose_limit", type=int, default=24)
    parser.add_argument("--own_factors", type=float, nargs="+", default=[0.4, 0.7, 1.0])
    parser.add_argument("--other_factors", type=float, nargs="+", default=[1.0, 1.5, 2.0])
    parser.add_argument(
        "--plots", type=Path, help="folder of pictures of the first fold's recordings"
    )
    parser.add_argument(
        "--classifiers",
        help="pattern of folders of classifiers, '{}' for the fold, whose labels are predicted",
    )
    return parser.parse_args(arguments)


def fold_indices(corpus: str, data_dir: str | None, wanted: Sequence[int] | None) -> list[int]:
    """Those of all folds that are asked for.

    Raises:
        ValueError: A fold that the corpus does not have.
    """
    count = len(protocol_folds(load_corpus(corpus, "six_emotions", data_dir), PROTOCOL))
    wanted = list(range(count)) if wanted is None else list(wanted)
    if wrong := [index for index in wanted if not 0 <= index < count]:
        raise ValueError(f"Bad folds {wrong} of '{corpus}', expected 0 to {count - 1}")
    return wanted


def claim(corpus: str, indices: Sequence[int], options: argparse.Namespace) -> None:
    """Refuse to go on with what was measured otherwise.

    Raises:
        ValueError: The folder holds measurements of something else; names what differs.
    """
    names = ("judges", "judge_seeds", "limit", "seed", "choose_on", "choose_limit")
    now = {name: getattr(options, name) for name in (*names, "own_factors", "other_factors")}
    now = json.loads(json.dumps({**now, "classifiers": bool(options.classifiers)}))
    file = options.work / f"measured_with_{corpus}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else now
    if changed := sorted(key for key in now if before.get(key) != now[key]):
        raise ValueError(
            f"'{options.work}' was measured with other {changed}, expected a new --work"
        )
    write_json(file, now)


# --- Measuring -----------------------------------------------------------------------------------


class Bench:
    """A corpus, whose folds are measured one after the other.

    Args:
        corpus: Its name.
        data_dir: Its folder; downloaded when not given.
        options: The command line.
    """

    def __init__(self, corpus: str, data_dir: str | None, options: argparse.Namespace) -> None:
        self.corpus, self.data_dir, self.options = corpus, data_dir, options

    def choose(self) -> dict[str, Setting]:
        """The best setting for each system and use, of all that were tried."""
        for index in self.options.choose_on:
            stage = Stage(self.corpus, self.data_dir, index, self.options)
            rows = stage.fold.corpora.fold.validation
            for use in ("enhanced", "converted"):
                for setting in settings_to_try(use, self.options):
                    stage.listen(rows, self.options.choose_limit, f"choice_{use}", use, setting)
        points = list(choice_points(self.corpus, self.options))
        write_json(
            self.options.output.parent / "curves" / f"class_shift_{self.corpus}.json", points
        )
        return {
            f"{p['system']}_{p['use']}": Setting(p["system"], p["kind"], tuple(p["factors"]))
            for p in points
            if p["chosen"]
        }

    def measure(self, index: int, chosen: Mapping[str, Setting]) -> None:
        """Every condition of the test speakers of a fold."""
        stage = Stage(self.corpus, self.data_dir, index, self.options)
        rows = stage.fold.corpora.fold.test
        for condition in CONDITIONS:
            if condition.data == "enhanced_guessed" and not self.options.classifiers:
                continue
            use = "converted" if condition.data == "converted" else "enhanced"
            setting = chosen.get(
                f"{condition.system}_{use}", Setting(condition.system, "none", NOTHING)
            )
            stage.listen(rows, self.options.limit, "test", condition.data, setting)

    def draw(self, index: int, chosen: Mapping[str, Setting]) -> None:
        """The first recording of each emotion, made clearer, and moved to another emotion."""
        stage = Stage(self.corpus, self.data_dir, index, self.options)
        clips = some_clips(stage.fold, stage.fold.corpora.fold.test, None, self.options.seed)
        firsts = clips.take([clips.emotions.index(e) for e in EMOTIONS if e in clips.emotions])
        versions: list[tuple[str, list[np.ndarray], list[str]]] = [
            ("recorded", firsts.waves, firsts.emotions)
        ]
        for data in ("enhanced", "converted"):
            aimed = stage.aims(firsts, data)
            moved = stage.move(firsts, aimed, data, chosen[f"{CLASS_SHIFT}_{data}"])
            versions.append((data, moved, aimed))
        sounds = {
            emotion: [
                (
                    data if data != "converted" else f"converted to {aimed[i]}",
                    *stage.picture(waves[i]),
                )
                for data, waves, aimed in versions
            ]
            for i, emotion in enumerate(firsts.emotions)
        }
        plot_pitch(sounds, self.options.plots / f"class_shift_{stage.fold.name}.png")


class Stage:
    """One fold: its shifts, its judges and its recordings, made when they are needed."""

    def __init__(
        self, corpus: str, data_dir: str | None, index: int, options: argparse.Namespace
    ) -> None:
        self.index, self.options = index, options
        self.fold = corpus_fold(corpus, data_dir, index, options.work)
        extractor = self.fold.feature_extractor
        self.vocoder = MelVocoder(extractor.sampling_rate)
        self._meter: QualityMeter | None = None

    @cached_property
    def panel(self) -> Panel:
        """The judges."""
        return Panel.of(self.fold, self.options)

    @cached_property
    def shifts(self) -> dict[str, EmotionShift]:
        """Class shift and band filters, fitted on the training speakers."""
        clips = load_clips(self.fold, self.fold.corpora.fold.train)
        voices = Voices(
            [torch.from_numpy(mel) for mel in log_mels(self.fold.feature_extractor, clips.waves)],
            [self.prosody(wave) for wave in tqdm(clips.waves, desc="Prosody", mininterval=5)],
            clips.emotions,
            clips.speakers,
            clips.sentences,
            clips.corpora,
        )
        filters = {kind: fit_band_filter(voices, EMOTIONS, kind) for kind in BAND_FILTERS}
        return {CLASS_SHIFT: fit_class_shift(voices, EMOTIONS), **filters}

    def prosody(self, wave: np.ndarray) -> Prosody:
        """Pitch of a waveform, kept in a file for the same sound."""
        folder = self.options.work / "features"
        file = folder / f"prosody-{hashlib.sha256(wave.tobytes()).hexdigest()[:16]}.npz"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            prosody = extract_prosody(wave, self.vocoder.config.sampling_rate)
            temporary = file.with_suffix(".tmp.npz")
            np.savez(temporary, **vars(prosody))
            temporary.replace(file)
        with np.load(file) as kept:
            return Prosody(**kept)

    def picture(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-mels and F0 in Hz, NaN where nothing is voiced."""
        (mel,) = log_mels(self.fold.feature_extractor, [wave])
        return mel, extract_prosody(wave, self.vocoder.config.sampling_rate).f0

    def listen(
        self, rows: Sequence[int], limit: int | None, report: str, data: str, setting: Setting
    ) -> None:
        """Move some recordings, have them judged and write down what was heard, and how."""
        name = f"{report}_{setting.name}" if report != "test" else f"{setting.system}_{data}"
        file = self.fold.folder / f"{name}.json"
        if file.exists():
            return
        started = time.monotonic()
        clips = some_clips(self.fold, rows, limit, self.options.seed)
        aimed = self.aims(clips, data)
        waves = self.move(clips, aimed, data, setting)
        heard = self.panel.hear(clips, waves, aimed)
        kept = {}
        if report == "test" and data in PRESERVED:
            kept = {clips.corpora[0]: self.quality(clips, waves)}
        content = describe(self.fold, clips, aimed, heard, kept)
        seconds = time.monotonic() - started
        content["provenance"] = provenance(self.options.seed, seconds, self.options.command)
        content["setting"] = {"kind": setting.kind, "factors": setting.factors}
        write_json(file, content)

    def quality(self, clips: Clips, waves: Sequence[np.ndarray]) -> dict[str, float]:
        """What is left of voice, words and sound; the originals are measured once."""
        if self._meter is None:
            options = self.options
            self._meter = quality_meter(self.fold, clips, options.encoder, options.seed)
        return measure_quality(self._meter, clips, waves)

    def aims(self, clips: Clips, data: str) -> list[str]:
        """The emotion that each recording is moved towards."""
        if data in ("wrong_emotion", "converted"):
            return wrong_emotions(clips.emotions, self.options.seed)
        if data == "enhanced_guessed":
            return self.predicted_labels(clips)
        return list(clips.emotions)

    def predicted_labels(self, clips: Clips) -> list[str]:
        """What the classifier of the fold hears."""
        classifier = FrameClassifier(self.options.classifiers.format(self.index))
        rate, known = self.fold.feature_extractor.sampling_rate, classifier.statistics(None)
        heard = [
            classifier.probabilities(classifier.frames(wave, rate), known) for wave in clips.waves
        ]
        labels = classifier.model.config.id2label
        return [labels[int(probabilities.argmax())] for probabilities in heard]

    def move(
        self, clips: Clips, aimed: Sequence[str], data: str, setting: Setting
    ) -> list[np.ndarray]:
        """The recordings as a system moves them; as they are, without one."""
        if setting.system == ORIGINAL:
            return clips.waves
        key = setting.kind if setting.system == BAND_FILTER else CLASS_SHIFT
        sources = clips.emotions if data == "converted" else aimed
        jobs = zip(clips.waves, clips.corpora, aimed, sources, strict=True)
        moved = []
        for wave, corpus, target, source in tqdm(
            jobs, total=len(clips.waves), desc=setting.name, mininterval=5
        ):
            (log_mel,) = log_mels(self.fold.feature_extractor, [wave])
            sound = self.shifts[key].move(
                wave,
                torch.from_numpy(log_mel),
                self.vocoder,
                target,
                source,
                corpus,
                setting.factors,
                self.prosody(wave),
            )
            moved.append(sound)
        return moved


# --- Choosing ------------------------------------------------------------------------------------


def settings_to_try(use: str, options: argparse.Namespace) -> Iterator[Setting]:
    """As many for the band filter as for the class shift."""
    factors = options.own_factors if use == "enhanced" else options.other_factors
    for kind, factor in itertools.product(BAND_FILTERS, factors):
        yield Setting(BAND_FILTER, kind, (factor, 0.0))
    for pair in itertools.product(factors, factors):
        yield Setting(CLASS_SHIFT, "ridge", pair)


def choice_points(corpus: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every setting with how often the judges heard the target, the best of each use chosen."""
    folders = [options.work / f"{corpus}_{index}" for index in options.choose_on]
    for use in ("enhanced", "converted"):
        tried = list(settings_to_try(use, options))
        heard = [target_heard(folders, f"choice_{use}_{setting.name}", corpus) for setting in tried]
        for system in (BAND_FILTER, CLASS_SHIFT):
            own = [i for i, setting in enumerate(tried) if setting.system == system]
            best = max(own, key=lambda i: heard[i])
            for i in own:
                yield {
                    "corpus": corpus,
                    "use": use,
                    "system": system,
                    "kind": tried[i].kind,
                    "factors": list(tried[i].factors),
                    "target_WA": heard[i],
                    "chosen": i == best,
                }


def target_heard(folders: Sequence[Path], report: str, corpus: str) -> float:
    """How often the judges hear the target, in the mean."""
    table = join([of_corpus(one, corpus) for one in read_reports(folders, report)])
    judges = [judge for judge in EMOTION_JUDGES if judge in table]
    return float(np.mean([table[judge] == table["aimed"] for judge in judges]))


# --- Records -------------------------------------------------------------------------------------


def collect(corpus: str, indices: Sequence[int], options: argparse.Namespace) -> list[Record]:
    """Records of all conditions that every fold has finished."""
    folders = [options.work / f"{corpus}_{index}" for index in indices]
    reports = {condition: read_reports(folders, condition.name) for condition in CONDITIONS}
    originals = reports[CONDITIONS[0]]
    records = []
    for system in dict.fromkeys(condition.system for condition in CONDITIONS):
        own = {c.data: r for c, r in reports.items() if c.system == system and r}
        if not own:
            continue
        kept = write_votes(options.output.parent, system, corpus, own)
        for data, of_folds in own.items():
            found = condition_records(system, data, corpus, of_folds, originals, kept)
            records += [with_clean_folds(r, of_folds, originals, options) for r in found]
    return records


def with_clean_folds(
    record: Record,
    reports: Sequence[Mapping[str, Any]],
    originals: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
) -> Record:
    """Add the mean of judges over the folds whose test speakers took part in no choice."""
    if record["judge"] != PANEL:
        return record
    corpus = record["corpus"]
    choosers = speakers_who_chose(corpus, options)
    clean = [
        i for i, report in enumerate(reports) if not choosers & set(report["clips"]["speaker"])
    ]
    if clean:
        before, after = (
            join([of_corpus(of_folds[i], corpus) for i in clean])
            for of_folds in (originals, reports)
        )
        record["metrics"]["clean"] = {
            "folds": [reports[i]["fold"] for i in clean],
            **panel_clarity(before, after),
        }
    return record


def speakers_who_chose(corpus: str, options: argparse.Namespace) -> set[str]:
    """Validation speakers of the folds that settings were chosen on."""
    speakers: set[str] = set()
    for index in options.choose_on:
        folder = options.work / f"{corpus}_{index}"
        for file in folder.glob("choice_*.json"):
            speakers |= set(json.loads(file.read_text(encoding="utf-8"))["clips"]["speaker"])
    return speakers


if __name__ == "__main__":
    main()
