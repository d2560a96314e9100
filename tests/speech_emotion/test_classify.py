import csv
import io
import json
import shutil

import pytest
from toy_enhancer import EMOTIONS

from pipelines import EmotionClassificationPipeline


def files(result):
    return [verdict["file"] for verdict in json.loads(result.stdout)]


def test_json_is_what_the_pipeline_says(run, model_folder, emotion_classifier, speech):
    result = run("classify", speech / "a.wav", "--json", "--model", model_folder)
    assert result.exit_code == 0
    (verdict,) = json.loads(result.stdout)
    expected = {guess["label"]: guess["score"] for guess in emotion_classifier(speech / "a.wav")}
    assert list(verdict["scores"]) == list(EMOTIONS)
    assert verdict["scores"] == pytest.approx(expected, abs=1e-4)
    assert verdict["score"] == max(verdict["scores"].values())
    assert verdict["scores"][verdict["emotion"]] == verdict["score"]
    speech_score = emotion_classifier.speech_score(speech / "a.wav")
    assert verdict["speech_score"] == pytest.approx(speech_score, abs=1e-4)


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["speech"], ["speech/a.wav", "speech/b [1].flac", "speech/inner/c.wav"]),
        (["speech/*"], ["speech/a.wav", "speech/b [1].flac", "speech/inner/c.wav"]),
        (["speech/**/*.wav"], ["speech/a.wav", "speech/inner/c.wav"]),
        # A name with brackets is a file first; whatever is named twice is heard once.
        (["speech/b [1].flac", "speech/*.flac"], ["speech/b [1].flac"]),
    ],
)
def test_folders_and_quoted_patterns(run, model_folder, speech, named, found):
    result = run("classify", *named, "--json", "--model", model_folder)
    assert result.exit_code == 0, result.stderr
    assert files(result) == found


def test_csv_has_a_row_for_each(run, model_folder, speech):
    result = run("classify", speech, "gone.wav", "--csv", "--model", model_folder)
    assert result.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["file"] for row in rows] == [
        str(speech / name) for name in ("a.wav", "b [1].flac", "inner/c.wav")
    ]
    assert list(rows[0]) == ["file", "emotion", "score", "speech_score", *EMOTIONS]
    assert sum(float(rows[0][label]) for label in EMOTIONS) == pytest.approx(1, abs=1e-3)
    assert result.stderr.startswith("Failed: gone.wav: Bad path 'gone.wav', expected an audio file")


def test_tables_for_people(run, model_folder, speech):
    one = run("classify", speech / "a.wav", "--model", model_folder).stdout
    assert all(emotion in one for emotion in EMOTIONS)
    assert "█" in one
    several = run("classify", speech, "--model", model_folder).stdout.splitlines()
    assert len(several) == 4
    assert str(speech / "b [1].flac") in several[2]


def test_nothing_to_hear_is_said(run, model_folder, speech, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("classify", "*.mp3", "empty", "--model", model_folder)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Failed: *.mp3: expected a pattern that fits recordings" in result.stderr
    assert "Failed: empty: expected a folder with recordings" in result.stderr


def test_calibration_is_that_of_the_pipeline(run, model_folder, speech):
    inner = ("classify", speech / "a.wav", "--json", "--model", model_folder)
    plain = json.loads(run(*inner).stdout)
    (speech / "broken.wav").write_bytes(b"no sound")
    result = run(*inner, "--calibrate", speech)
    # What cannot be heard is named, and the rest calibrates.
    assert result.exit_code == 1
    assert f"Failed: {speech / 'broken.wav'}: Cannot decode" in result.stderr
    assert "Calibrated with 3 recordings" in result.stderr
    classifier = load(model_folder)
    waves = [speech / name for name in ("a.wav", "b [1].flac", "inner/c.wav")]
    classifier.calibrate(waves, name="here")
    expected = {g["label"]: g["score"] for g in classifier(speech / "a.wav", corpus="here")}
    assert json.loads(result.stdout)[0]["scores"] == pytest.approx(expected, abs=1e-3)
    assert json.loads(result.stdout) != plain


def test_statistics_of_an_encoders_frames_are_calibrated_too(run, transformer, speech):
    command = ("classify", speech / "a.wav", "--json", "--model", transformer)
    plain, calibrated = (run(*command, *more) for more in ((), ("--calibrate", speech)))
    assert calibrated.exit_code == 0, calibrated.stderr
    assert json.loads(plain.stdout) != json.loads(calibrated.stdout)


def load(folder):
    from modeling import EmotionFeatureExtractor, EmotionResNetForAudioClassification

    return EmotionClassificationPipeline(
        model=EmotionResNetForAudioClassification.from_pretrained(folder),
        feature_extractor=EmotionFeatureExtractor.from_pretrained(folder),
    )


def test_statistics_of_a_corpus(run, model_folder, speech):
    command = ("classify", speech / "a.wav", "--json", "--model", model_folder)
    one, other = (run(*command, "--corpus", name).stdout for name in ("emodb", "ravdess"))
    assert one != other
    result = run(*command, "--corpus", "savee")
    assert result.exit_code == 2
    assert "Bad --corpus 'savee', expected one of ['emodb', 'ravdess']" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "--csv"), "Got --json and --csv, expected one of them"),
        (("--calibrate", "speech", "--corpus", "emodb"), "Got --calibrate and --corpus"),
        (("--calibrate", "nowhere"), "Bad --calibrate 'nowhere', expected a folder"),
        (("--model", "./gone"), "Bad --model './gone', expected a folder of a model or a Hub id"),
        (("--device", "abacus"), "Bad device 'abacus'"),
        (("--loud",), "No such option: --loud"),
    ],
)
def test_wrong_commands(run, model_folder, speech, arguments, message):
    result = run("classify", speech / "a.wav", "--model", model_folder, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_code_of_others_runs_only_when_that_is_allowed(run, model_folder, speech, tmp_path):
    """A model of an unknown kind, whose code would leave a file."""
    folder = tmp_path / "theirs"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "theirs"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_emotion_resnet.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise ValueError('theirs ran')\n"
    )
    result = run("classify", speech / "a.wav", "--model", folder, stdin=b"y\n")
    assert result.exit_code == 2
    assert not (tmp_path / "ran").exists()
    result = run("classify", speech / "a.wav", "--model", folder, "--trust_remote_code")
    assert result.exit_code == 2
    assert (tmp_path / "ran").exists()


def test_what_was_not_heard_is_said(run, model_folder, speech):
    import soundfile
    from toy_components import make_wave

    soundfile.write(speech / "long.wav", make_wave(11, 16_000), 16_000)
    result = run("classify", speech / "long.wav", "--json", "--model", model_folder)
    assert result.exit_code == 0
    assert "long.wav: 11 s long, the first 10 s were heard" in result.stderr
