"""What works right after the clone: the weights in the box, their card, and the demo."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import processes
import pytest
import soundfile
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from toy_components import make_wave
from toy_enhancer import get_dummy_components
from transformers import pipeline

import train_classifier
from datasets_scripts.emodb.emodb import EmoDB
from modeling import extract_prosody
from pipelines import EmotionEnhancementPipeline, load_enhancer
from pipelines.audio_inputs import read_recording
from pretrained import CLASSIFIER, ENHANCER, RECORDINGS
from training.config import ClassifierConfig, DiffusionConfig, load_config
from training.enhancer_card import write_enhancer_card

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = [ROOT / "configs" / name for name in ("transformer.yaml", "everybody.yaml")]
# What the repository may grow by.
MEGABYTES = 25
RATE = 22_025
CLIPS = sorted(RECORDINGS.glob("*.flac"))


@pytest.fixture(scope="module")
def classifier():
    return pipeline("audio-classification", str(CLASSIFIER), trust_remote_code=True)


def test_importing_the_box_loads_no_library():
    code = (
        "import pretrained, sys; print(sorted({'torch', 'numpy', 'transformers'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_box_is_small():
    files = [f for f in (ROOT / "pretrained").rglob("*") if f.is_file() and not f.is_symlink()]
    assert sum(file.stat().st_size for file in files) < MEGABYTES * 1e6


class TestClassifier:
    def test_autocast_is_for_its_network(self, classifier):
        """And not for the sound, which its front end would refuse in half precision."""
        whole = classifier(str(CLIPS[0]))
        with torch.autocast("cpu", torch.bfloat16):
            half = classifier(str(CLIPS[0]))
        expected = {guess["label"]: guess["score"] for guess in whole}
        assert {g["label"]: g["score"] for g in half} == pytest.approx(expected, abs=0.03)

    def test_its_code_is_what_would_be_saved_with_it_and_stands_in_one_place(
        self, classifier, tmp_path
    ):
        classifier.save_pretrained(tmp_path)
        saved = {file.name: file.read_bytes() for file in tmp_path.glob("*.py")}
        links = {file.name: file for file in CLASSIFIER.glob("*.py")}
        assert set(links) == set(saved)
        for name, link in links.items():
            assert not Path(link.readlink()).is_absolute()
            assert link.resolve().parent in (ROOT / "modeling", ROOT / "pipelines"), name
            assert link.read_bytes() == saved[name]

    def test_it_is_kept_in_half_precision_and_computes_in_single(self, classifier):
        kept = load_file(CLASSIFIER / "model.safetensors")
        floats = [value for value in kept.values() if value.is_floating_point()]
        assert {value.dtype for value in floats} == {torch.float16}
        assert all(value.isfinite().all() for value in floats)
        assert {weight.dtype for weight in classifier.model.parameters()} == {torch.float32}

    def test_a_stranger_can_load_it_offline(self, tmp_path):
        """Without this project, and with an empty cache."""
        report = run_stranger(tmp_path)
        assert report["importable"] == []
        assert len(report["guesses"]) == 6

    def test_a_copy_that_was_saved_says_the_same(self, classifier, tmp_path):
        classifier.save_pretrained(tmp_path / "copy")
        copy = pipeline("audio-classification", str(tmp_path / "copy"), trust_remote_code=True)
        wave = make_wave(rate=16_000)
        assert copy(wave) == classifier(wave)

    def test_everybody_of_one_corpus_trained_it(self, classifier):
        trained = classifier.model.config.trained_on
        assert (trained["corpora"], trained["protocol"]) == (["emodb"], "everybody")
        assert classifier.names == ["emodb"]

    def test_its_card_is_made_of_the_records(self):
        """Of the folds of its recipe, and of the corpus that it was not trained on."""
        given = ["output_dir=emotion-transformer-emodb", f"card_records={ROOT / 'results'}"]
        config = load_config(ClassifierConfig, CONFIGS, given)
        card = train_classifier.build_card(config, [])
        assert (CLASSIFIER / "README.md").read_text(encoding="utf-8") == str(card)
        shown = {(r.dataset_type, r.dataset_config): r for r in card.data.eval_results}
        assert set(shown) == {("emodb", "speaker_independent"), ("ravdess", "cross_corpus")}
        own = json.loads((ROOT / "results" / "pretrained_classifier.json").read_text())
        assert f"{100 * own[0]['metrics']['WA']:.1f} [" in card.text
        assert card.data.license == "cc0-1.0"
        assert "whose licence is MIT" in card.text


def run_stranger(folder):
    np.save(folder / "wave.npy", make_wave(rate=16_000))
    script = Path(__file__).with_name("fresh_transformer.py")
    environment = {"PATH": "", "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", script, CLASSIFIER]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


class TestRecordings:
    def test_they_are_two_of_each_emotion_by_everybody(self):
        known = [EmoDB.parse_stem(file.stem) for file in CLIPS]
        emotions = Counter((row["emotion"], row["gender"]) for row in known)
        assert len(emotions) == 12
        assert set(emotions.values()) == {1}
        assert len({row["speaker"] for row in known}) == 10

    def test_their_card_names_them(self):
        listed = re.findall(
            r"`(\w+\.flac)`", (RECORDINGS / "README.md").read_text(encoding="utf-8")
        )
        assert sorted(listed) == [file.name for file in CLIPS]

    def test_the_classifier_knows_the_people_who_trained_it(self, classifier):
        heard = [guesses[0]["label"] for guesses in classifier([str(f) for f in CLIPS], top_k=1)]
        assert heard == [EmoDB.parse_stem(file.stem)["emotion"] for file in CLIPS]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo of a recording that can be read and of one that cannot."""
    folder = tmp_path_factory.mktemp("demo")
    enhancer = folder / "enhancer"
    EmotionEnhancementPipeline(**get_dummy_components()).save_pretrained(enhancer)
    soundfile.write(folder / "mine & yours.wav", make_wave(rate=16_000), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    files = [str(folder / name) for name in ("mine & yours.wav", "broken.wav")]
    given = ["-m", "evaluation.demo", *files, f"--enhancer={enhancer}"]
    command = [*given, f"--output_dir={folder / 'page'}"]
    return folder / "page", *processes.run(folder / "log", *command)


class TestDemo:
    def test_a_file_that_fails_does_not_stop_the_rest(self, shown):
        folder, printed, status = shown
        assert status == 1, printed
        assert "broken.wav': " in printed
        assert "mine & yours.wav" in printed
        assert (folder / "index.html").exists()

    def test_page_has_players_and_pictures_that_exist(self, shown):
        folder, _, _ = shown
        page = (folder / "index.html").read_text(encoding="utf-8")
        sources = [source.replace("%20", " ").replace("%26", "&")
                   for source in re.findall(r'src="([^"]+)"', page)]  # fmt: skip
        assert all((folder / source).stat().st_size > 1_000 for source in sources)
        made = [source for source in sources if source.endswith(".wav") and "own_0" in source]
        assert len(made) == 4  # heard, recorded, enhanced, converted
        assert {"attention.png", "enhanced.png"} <= set(sources)

    def test_page_says_whose_voices_they_are_and_what_others_would_get(self, shown):
        page = (shown[0] / "index.html").read_text(encoding="utf-8")
        assert "whose voices trained this classifier" in page
        assert re.search(r"names \d+ % of the recordings \(EmoDB, unseen speakers\)", page)


class TestEnhancer:
    @pytest.mark.parametrize("method", ["shift", "diffusion", "both"])
    def test_a_real_voice_is_moved_towards_the_emotion(self, method):
        """Anger is higher than sadness, and the other way round."""
        enhancer = load_enhancer(ENHANCER)
        sad, angry = (RECORDINGS / f"{name}.flac" for name in ("08a02Tb", "09a04Wa"))
        for clip, source, target, higher in (
            (sad, "sadness", "anger", True),
            (angry, "anger", "sadness", False),
        ):
            made = enhancer(
                str(clip),
                emotion=target,
                source_emotion=source,
                method=method,
                generator=torch.Generator().manual_seed(0),
            )
            before, after = map(median_f0, (read_recording(clip, RATE).numpy(), made.audios[0]))
            assert (after > 1.1 * before) == higher
            assert (after < before / 1.1) != higher

    def test_a_voice_of_unknown_origin_is_moved_as_far_as_was_chosen_for_the_corpus(self):
        shift = load_enhancer(ENHANCER).shift
        for source in ("anger", "sadness"):
            assert shift.factors("anger", source) == shift.factors("anger", source, "emodb")

    def test_every_method_is_there(self):
        clip, carried = str(RECORDINGS / "08a02Tb.flac"), "sadness"
        enhancer = load_enhancer(ENHANCER)
        for asked, method in (("auto", "both"), ("shift", "shift"), ("diffusion", "diffusion")):
            made = enhancer(clip, emotion="anger", source_emotion=carried, method=asked)
            assert made.methods == [method]
        assert enhancer(clip, emotion=carried, source_emotion=carried).methods == ["shift"]

    def test_it_loads_as_its_card_says_and_as_transformers_do(self):
        clip = str(RECORDINGS / "08a02Tb.flac")
        options = {"emotion": "anger", "source_emotion": "sadness", "method": "shift"}
        expected = load_enhancer(ENHANCER)(clip, **options).audios[0]
        pipe = DiffusionPipeline.from_pretrained(ENHANCER, trust_remote_code=True)
        np.testing.assert_array_equal(pipe(clip, **options).audios[0], expected)
        task = pipeline("emotion-enhancement", str(ENHANCER), trust_remote_code=True)
        np.testing.assert_array_equal(task(clip, **options)["audio"], expected)

    def test_its_card_is_made_of_the_records(self, tmp_path):
        files = ("diffusion.yaml", "small_enhancer.yaml", "everybody.yaml")
        given = [f"card_records={ROOT / 'results'}"]
        config = load_config(DiffusionConfig, [ROOT / "configs" / name for name in files], given)
        folder = tmp_path / "emotion-enhancer-emodb" / "model"
        folder.mkdir(parents=True)
        write_enhancer_card(folder, config, [])
        card = (ENHANCER / "README.md").read_text(encoding="utf-8")
        assert card == (folder / "README.md").read_text(encoding="utf-8")
        own = json.loads((ROOT / "results" / "emodb" / "enhancement.json").read_text())
        told = next(r for r in own if r["data"] == "converted_untold" and r["judge"] == "mean")
        assert f"| {100 * told['metrics']['target_WA']:.1f} |" in card
        assert "license: cc0-1.0" in card

    def test_nobody_can_tell_where_it_was_trained(self):
        for file in (ROOT / "pretrained").rglob("*.json"):
            assert not re.search(r'"/\w+/', file.read_text(encoding="utf-8")), file


def median_f0(waveform):
    prosody = extract_prosody(waveform, RATE)
    return np.exp(np.median(prosody.log_f0[prosody.voiced]))
