import shutil

import numpy as np
import pytest
import soundfile

from pipelines import ENHANCEMENT_SETTINGS, load_enhancer
from pipelines.emotion_enhancement import SURE
from speech_emotion.files import write_sound

QUICK = (
    "--method",
    "diffusion",
    "--set",
    "num_inference_steps=2",
    "--set",
    "num_noises=1",
)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


@pytest.fixture
def enhance(run, enhancer):
    return lambda *arguments, **options: run(
        "enhance", *arguments, *QUICK, "--model", enhancer, **options
    )


def test_it_is_what_the_pipeline_makes(enhance, enhancer, speech, tmp_path):
    import torch

    result = enhance(speech / "a.wav", "--emotion", "anger", "--strength", "0.6", "--seed", 3)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "a_anger.wav\n"
    made, rate = soundfile.read(tmp_path / "a_anger.wav")
    pipe = load_enhancer(enhancer)
    expected = pipe(
        speech / "a.wav",
        emotion="anger",
        source_emotion="anger",
        method="diffusion",
        strength=0.6,
        num_inference_steps=2,
        num_noises=1,
        generator=torch.Generator().manual_seed(3),
    )
    assert rate == expected.sampling_rate
    np.testing.assert_allclose(made, expected.audios[0], atol=1e-3)


def test_a_folder_becomes_a_folder(enhance, speech, tmp_path):
    (speech / "broken.wav").write_bytes(b"no sound")
    result = enhance(speech, "-o", "made")
    assert result.exit_code == 1
    assert contents(tmp_path / "made") == ["a.wav", "b [1].wav", "inner/c.wav"]
    assert result.stdout.splitlines() == ["made/a.wav", "made/b [1].wav", "made/inner/c.wav"]
    assert f"Failed: {speech / 'broken.wav'}: Cannot decode" in result.stderr


def test_what_is_there_stays_unless_it_is_to_be_replaced(enhance, speech, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.wav").write_text("precious")
    result = enhance(speech / "a.wav", speech / "inner/c.wav", "-o", "made")
    assert result.exit_code == 1
    assert f"Failed: {speech / 'a.wav'}: 'made/a.wav' exists, expected" in result.stderr
    assert (tmp_path / "made" / "a.wav").read_text() == "precious"
    assert contents(tmp_path / "made") == ["a.wav", "c.wav"]
    assert enhance(speech / "a.wav", "-o", "made", "--overwrite").exit_code == 0
    assert soundfile.info(tmp_path / "made" / "a.wav").frames > 0


def test_the_recording_itself_is_never_replaced(enhance, speech):
    before = (speech / "a.wav").read_bytes()
    result = enhance(speech / "a.wav", "-o", speech / "a.wav", "--overwrite")
    assert result.exit_code == 1
    assert "expected another output than the recording" in result.stderr
    assert (speech / "a.wav").read_bytes() == before


def test_no_recording_of_the_command_is_replaced(enhance, speech, tmp_path):
    """Not even by what is made of another one: it may not have been read yet."""
    other = tmp_path / "a_enhanced.wav"
    shutil.copy(speech / "inner/c.wav", other)
    before = other.read_bytes()
    result = enhance(speech / "a.wav", "a_enhanced.wav", "--overwrite")
    assert result.exit_code == 1
    assert (
        f"Failed: {speech / 'a.wav'}: expected another output than the recording" in result.stderr
    )
    assert other.read_bytes() == before
    assert result.stdout.splitlines() == ["a_enhanced_enhanced.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_minutes_can_be_written(tmp_path, suffix):
    """An encoder has died of so much at once, and the program with it."""
    sound = 0.1 * np.random.default_rng(0).standard_normal(200 * 22_025).astype(np.float32)
    write_sound(tmp_path / f"long.{suffix}", sound, 22_025)
    written, rate = soundfile.read(tmp_path / f"long.{suffix}", dtype="float32")
    assert (len(written), rate) == (len(sound), 22_025)
    assert np.corrcoef(written, sound)[0, 1] > 0.9


def test_the_suffix_chooses_the_format(enhance, speech, tmp_path):
    for suffix, kind in (("flac", "FLAC"), ("ogg", "OGG")):
        result = enhance(speech / "a.wav", "-o", f"made.{suffix}")
        assert result.exit_code == 0, result.stderr
        assert soundfile.info(tmp_path / f"made.{suffix}").format == kind


def test_convert_needs_an_emotion_and_takes_what_is_carried(run, enhancer, speech, tmp_path):
    command = ("convert", speech / "a.wav", "--model", enhancer, "--method", "shift")
    assert "Missing option '--emotion'" in run(*command).stderr
    anger = ("--emotion", "anger", "--overwrite", "--corpus", "emodb")
    made = []
    for carried in ("sadness", "anger"):
        result = run(*command, *anger, "--source_emotion", carried)
        assert result.exit_code == 0, result.stderr
        made.append(soundfile.info(tmp_path / "a_anger.wav").frames)
    # Sadness is slow: taking it away makes it shorter still.
    assert made[0] < made[1]


def test_the_version_in_which_it_is_heard_best_is_kept(run, enhancer, speech, tmp_path):
    command = ("convert", speech / "a.wav", "--emotion", "anger", "--source_emotion", "sadness")
    result = run(*command, "--method", "shift", "--rerank", "--model", enhancer)
    assert result.exit_code == 0, result.stderr
    pipe = load_enhancer(enhancer)
    told = {"emotion": "anger", "source_emotion": "sadness", "method": "shift"}
    expected = pipe(speech / "a.wav", **told, rerank=True)
    far = {1.0: ""}.get(expected.amounts[0], f", {expected.amounts[0]:g} times as far")
    heard = f"{100 * expected.certainties[0]:.0f} %"
    assert (
        f"a.wav: towards anger by shift{far}; heard with {heard} in the mean of who listens"
        in result.stderr
    )
    unsure = expected.certainties[0] < SURE
    assert ("which is not sure (that is 70 %)" in result.stderr) == unsure
    made, _ = soundfile.read(tmp_path / "a_anger.wav")
    np.testing.assert_allclose(made, expected.audios[0], atol=1e-3)
    wrong = run(*command, "--set", "rerank=perhaps", "--overwrite", "--model", enhancer)
    assert wrong.exit_code == 2
    assert "Bad rerank 'perhaps', expected true or false" in wrong.stderr


def test_what_a_recording_carries_is_made_clearer(run, enhancer, speech, tmp_path):
    """And not something else on the way from what the classifier hears."""
    command = ("--emotion", "anger", "--corpus", "emodb", "--model", enhancer)
    assert run("enhance", speech / "a.wav", *command, "-o", "clear.wav").exit_code == 0
    carried = ("--source_emotion", "anger", "-o", "same.wav")
    assert run("convert", speech / "a.wav", *command, *carried).exit_code == 0
    assert (tmp_path / "clear.wav").read_bytes() == (tmp_path / "same.wav").read_bytes()


@pytest.mark.parametrize(("use", "method"), [("enhance", "shift"), ("convert", "both")])
def test_by_default_the_best_method_of_a_use_is_taken(run, enhancer, speech, tmp_path, use, method):
    command = [use, speech / "a.wav", "--model", enhancer, "--emotion", "anger"]
    command += ["--source_emotion", "fear"] if use == "convert" else []
    made = []
    for number, chosen in enumerate([(), ("--method", "auto"), ("--method", method, "--rerank")]):
        result = run(*command, *chosen, "-o", f"{number}.wav")
        assert result.exit_code == 0, result.stderr
        made.append((tmp_path / f"{number}.wav").read_bytes())
    assert made[0] == made[1] == made[2]


def test_strength_stands_for_diffusion_on_top_of_the_shift(run, enhancer, speech, tmp_path):
    command = ("enhance", speech / "a.wav", "--model", enhancer, "--emotion", "anger")
    for name, chosen in (("strength", ()), ("both", ("--method", "both"))):
        assert run(*command, "--strength=0.9", *chosen, "-o", f"{name}.wav").exit_code == 0
    made, named = ((tmp_path / f"{name}.wav").read_bytes() for name in ("strength", "both"))
    assert made == named
    refused = run(*command, "--strength", "0.3", "--method", "shift", "--overwrite")
    assert "Got ['strength'] for method 'shift'" in refused.stderr


def test_calibrated_with_a_folder(enhance, speech, tmp_path):
    # Which keeps the tempo.
    command = (speech / "a.wav", "--method", "diffusion", "--set", "vocoder=source_filter")
    enhance(*command, "-o", "plain.wav")
    result = enhance(*command, "-o", "calibrated.wav", "--calibrate", speech)
    assert result.exit_code == 0, result.stderr
    plain, calibrated = (
        soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("plain", "calibrated")
    )
    assert np.abs(plain - calibrated).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--emotion", "joy"), "Bad emotion 'joy', expected one of ['neutral', 'happiness'"),
        (("--set", "volume=3"), "Bad setting 'volume', expected some of: method=auto"),
        (("--set", "volume"), "Bad --set 'volume', expected NAME=VALUE"),
        (("--strength", "0.5", "--set", "strength=1"), "Got --set strength beside an option"),
        (("--strength", "1.5"), "Bad strength 1.5, expected 0 to 1"),
        (("--set", "source_emotion=rage"), "Bad emotion 'rage', expected one of"),
        (("--corpus", "nix"), "Bad corpus 'nix', expected one of"),
        (("--set", "guidance_scale=much"), "Bad guidance_scale 'much', expected a number"),
        (("-o", "made.txt"), "Bad --output 'made.txt', expected one of ['.wav'"),
        (("speech/inner/c.wav", "-o", "made.wav"), "for 2 recordings, expected a folder"),
        (("speech/inner/c.wav", "-o", "-"), "Got 2 recordings for standard output"),
        (("copy/a.wav",), "both for 'a_enhanced.wav', expected other names"),
    ],
)
def test_wrong_commands_write_nothing(enhance, speech, tmp_path, arguments, message):
    (tmp_path / "copy").mkdir()
    shutil.copy(speech / "a.wav", tmp_path / "copy" / "a.wav")
    before = contents(tmp_path)
    result = enhance(speech / "a.wav", *arguments)
    assert result.exit_code == 2
    # Once, however many recordings there are.
    assert result.stderr.count(message) == 1
    assert contents(tmp_path) == before


def test_all_settings_are_offered(enhance, speech):
    said = enhance(speech / "a.wav", "--set", "volume=3").stderr
    assert all(f"{name}=" in said for name in ENHANCEMENT_SETTINGS)
