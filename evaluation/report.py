"""One page about a training run: scores, pictures and what the finished pipeline says.

python -m evaluation.report outputs/toy
"""

import argparse
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
import yaml
from datasets import Dataset
from transformers import pipeline

from datasets_scripts import EMOTIONS, decode_audio, load_corpus
from modeling import EmotionFeatureExtractor

from .plots import plot_attention, plot_dataset_distribution, plot_mel_gallery
from .tables import enhancement_table, markdown_table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; margin: .5rem 0 } 
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left }
audio { width: 9rem; height: 2rem; vertical-align: middle }
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write `report.html` into the folder of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="output folder of train_classifier.py")
    parser.add_argument("--enhancer", type=Path, help="output folder of train_diffusion.py")
    options = parser.parse_args(arguments)
    path = write_report(options.run, options.enhancer)
    print(f"Report: {path}")


def write_report(run: Path, enhancer: Path | None = None) -> Path:
    """Draw what is missing and write the page.

    Args:
        run: Output folder of a finished `train_classifier.py`.
        enhancer: Output folder of a finished `train_diffusion.py`, with `enhancement.json` if
            judges have heard it.

    Raises:
        FileNotFoundError: The run is not finished.
    """
    if not (run / "metrics.json").exists():
        raise FileNotFoundError(f"No metrics.json in '{run}', expected a finished run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    records = json.loads((run / "metrics.json").read_text())
    classifier = pipeline("audio-classification", str(run / "model"), trust_remote_code=True)
    parts = [f"<h1>{html.escape(run.name)}</h1>", _table(markdown_table(records))]
    parts += [image("plots/history.png")] if (run / "plots" / "history.png").exists() else []
    for name, options in config["corpora"].items():
        options = options if isinstance(options, dict) else {"data_dir": options}
        dataset = load_corpus(name, **options)
        assert isinstance(dataset, Dataset)
        parts += _corpus_part(run, name, dataset, classifier)
    parts += [] if enhancer is None else _enhancer_part(run, enhancer)
    return write_page(run / "report.html", run.name, parts)


def write_page(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write a page of parts in HTML, under a temporary name, and move it."""
    temporary = path.with_suffix(".tmp")
    viewport = '<meta name="viewport" content="width=device-width">'
    head = f"{viewport}<title>{html.escape(title)}</title><style>{STYLE}</style>"
    temporary.write_text(
        f"<!doctype html><meta charset=utf-8>{head}\n" + "\n".join(parts), encoding="utf-8"
    )
    os.replace(temporary, path)
    return path


def _corpus_part(run: Path, name: str, dataset: Dataset, classifier: Any) -> list[str]:
    """Pictures of a corpus, and the pipeline's verdict on a test recording of each emotion."""
    predictions = json.loads((run / "predictions.json").read_text())
    tested = {p["file"] for p in predictions if p["corpus"] == name}
    files, emotions = dataset["file"], dataset["emotion"]
    chosen = {
        emotion: next(i for i, file in enumerate(files) if file in tested and emotions[i] == number)
        for number, emotion in enumerate(EMOTIONS)
        if number in {emotions[i] for i, file in enumerate(files) if file in tested}
    }
    plot_dataset_distribution(dataset, run / "plots" / f"{name}_distribution.png")
    _draw_mels(run, name, dataset, chosen, classifier)
    names = ("distribution", "mels", "attention", "confusion", "per_emotion", "reliability")
    # Statistics are chosen by name; a corpus that was tested only is of unknown origin.
    corpus = name if name in getattr(classifier, "names", []) else None
    rows = [_verdict(dataset[i], emotion, classifier, corpus) for emotion, i in chosen.items()]
    paths = [f"plots/{name}_{picture}.png" for picture in names]
    pictures = [path for path in paths if (run / path).exists()]
    head = "| recording | acted | heard |\n|---|---|---|\n"
    return [
        f"<h2>{html.escape(name)}</h2>",
        _table(head + "\n".join(rows)),
        *[image(picture) for picture in pictures],
    ]


def _enhancer_part(run: Path, enhancer: Path) -> list[str]:
    """What judges heard, and pictures of the enhancer's run."""
    parts, judged = ["<h2>enhancement</h2>"], enhancer / "enhancement.json"
    if judged.exists():
        parts.append(_table(enhancement_table(json.loads(judged.read_text()))))
    pictures = sorted((enhancer / "plots").glob("*.png"))
    return parts + [image(os.path.relpath(picture, run)) for picture in pictures]


def _draw_mels(
    run: Path, name: str, dataset: Dataset, chosen: dict[str, int], classifier: Any
) -> None:
    """A spectrogram of each emotion, and where each head looks in the first of them."""
    extractor = classifier.feature_extractor
    if not hasattr(extractor, "denormalize"):
        return
    corpus = name if name in extractor.names else None
    mels = {e: _features(dataset[i]["audio"], extractor, corpus) for e, i in chosen.items()}
    scale = {"sampling_rate": extractor.sampling_rate, "hop_length": extractor.hop_length}
    plots = run / "plots"
    gallery = {e: extractor.denormalize(mel, corpus).numpy() for e, mel in mels.items()}
    plot_mel_gallery(gallery, plots / f"{name}_mels.png", **scale)
    mel = mels.get("anger", next(iter(mels.values())))
    with torch.no_grad():
        output = classifier.model(mel[None].to(classifier.device), output_attentions=True)
    attention = output.attentions[0][0].cpu().numpy()
    log_mel = extractor.denormalize(mel, corpus).numpy()
    plot_attention(log_mel, attention, EMOTIONS, plots / f"{name}_attention.png", **scale)


def _features(
    audio: dict[str, Any], extractor: EmotionFeatureExtractor, corpus: str | None
) -> torch.Tensor:
    wave, rate = decode_audio(audio)
    features = extractor(
        [wave], sampling_rate=rate, padding=True, return_tensors="pt", corpus=corpus
    )
    return features["input_features"][0]


def _verdict(row: dict[str, Any], emotion: str, classifier: Any, corpus: str | None) -> str:
    guesses = classifier(row["audio"], top_k=2, **({} if corpus is None else {"corpus": corpus}))
    heard = ", ".join(f"{g['label']} {100 * g['score']:.0f} %" for g in guesses)
    return f"| {row['file']} | {emotion} | {heard} |"


def _table(markdown: str) -> str:
    """A Markdown table as HTML."""
    lines = [line.strip("| ").split("|") for line in markdown.strip().splitlines()]
    head, *body = [[html.escape(cell.strip()) for cell in line] for line in lines]
    return table(head, [line for line in body[1:] if len(line) == len(head)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row(head, "th") + "".join(row(line, "td") for line in rows) + "</table>"


def player(path: str) -> str:
    """Something that plays a sound; its path is relative to the page."""
    return f'<audio controls preload="none" src="{html.escape(quote(path))}"></audio>'


def image(path: str) -> str:
    """A picture; its path is relative to the page."""
    return f'<img src="{html.escape(path)}" alt="{html.escape(Path(path).stem)}">'


if __name__ == "__main__":
    main()
