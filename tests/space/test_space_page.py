"""The page as it is served: over its HTTP interface, and in a browser."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gradio
import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import SpaceCard
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import expect, sync_playwright

from space.actions import Models
from space.export import export_space
from space.layout import build_page, launch_page

QUICK = {"strength": 0.8, "guidance_scale": 4, "num_noises": 1, "num_inference_steps": 2}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: tests may run as root. Nobody listens.
BROWSER_OPTIONS = ["--no-sandbox", "--mute-audio"]
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PHONE = {"width": 390, "height": 844}
# Milliseconds that a busy machine may take.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """Of a server of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
        page = build_page(models)
        local = {"server_name": "127.0.0.1", "prevent_thread_lock": True, "quiet": True}
        _, url, _ = launch_page(page, **local)
        yield url
        page.close()


@pytest.fixture
def client(address):
    return Client(address, verbose=False)


def ask_to_enhance(client, file, emotion, method="diffusion", intensity=1.0, rerank=False):
    values = [rerank, intensity, *QUICK.values()]
    return client.predict(handle_file(file), emotion, method, *values, api_name="/enhance")


class TestInterface:
    def test_recognises(self, client, models, uploads):
        file = uploads / "speech_0.wav"
        label, pitch, maps = client.predict(handle_file(file), api_name="/recognise")
        scores = {entry["label"]: entry["confidence"] for entry in label["confidences"]}
        assert scores == {
            guess["label"]: pytest.approx(guess["score"]) for guess in models.classifier(str(file))
        }
        assert Path(pitch).read_bytes().startswith(b"\x89PNG")
        assert Path(maps["value"]).read_bytes().startswith(b"\x89PNG")

    def test_converted_sound_comes_back_as_the_enhancer_made_it(self, client, models, uploads):
        file = uploads / "speech_0.wav"
        text, before, heard, after, *_ = ask_to_enhance(client, file, "anger", "shift")
        assert text.startswith("Converted to **anger**, by shift.")
        assert Path(before).read_bytes() == file.read_bytes()
        samples, rate = soundfile.read(after, dtype="float32")
        alone = models.enhancer(
            str(file),
            emotion="anger",
            source_emotion=heard["label"],
            method="shift",
            rerank=False,
        )
        assert rate == alone.sampling_rate
        np.testing.assert_allclose(samples, alone.audios[0], atol=1e-4)

    def test_settings_of_the_diffusion_count_where_it_is_chosen_by_name(self, client, uploads):
        """Their sliders always stand somewhere: by default they are no wish for the diffusion."""
        said = {
            method: ask_to_enhance(
                client, uploads / "speech_0.wav", "clearer, whatever it is", method
            )
            for method in ("auto", "diffusion")
        }
        for (method, (text, *_)), used in zip(said.items(), ("shift", "diffusion"), strict=True):
            assert text.startswith("Made clearer:"), method
            assert f", by {used}." in text

    def test_says_how_far_the_version_goes_that_is_heard_best(self, client, models, uploads):
        file = uploads / "speech_0.wav"
        text, _, heard, *_ = ask_to_enhance(client, file, "anger", "shift", rerank=True)
        settings = {"emotion": "anger", "source_emotion": heard["label"], "method": "shift"}
        (amount,) = models.enhancer(str(file), **settings, rerank=True).amounts
        far = {1.0: "."}.get(amount, f", {amount:g} times as far.")
        assert text.startswith(f"Converted to **anger**, by shift{far}")

    def test_a_calibration_is_of_one_session(self, client, address, models, uploads):
        def hear(who):
            return who.predict(handle_file(uploads / "speech_0.wav"), api_name="/recognise")[0]

        unknown = hear(client)
        voice = [handle_file(uploads / f"speech_{i}.wav") for i in (1, 2, 3)]
        said = client.predict(voice, api_name="/calibrate")
        assert said == "Calibrated with 3 recordings, for this session."
        assert hear(client) != unknown
        assert hear(Client(address, verbose=False)) == unknown
        client.predict(api_name="/forget")
        assert models.voices == []

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("text.wav", "'text.wav' cannot be read as a recording, expected wav, flac"),
            ("a minute and more.ogg", "lasts 61 seconds, expected 0.25 to 60"),
            ("silence.wav", "'silence.wav' is silent"),
        ],
    )
    def test_what_cannot_be_heard_is_one_sentence(self, client, uploads, name, message):
        with pytest.raises(AppError, match=message):
            client.predict(handle_file(uploads / name), api_name="/recognise")

    def test_large_files_are_not_taken(self, address):
        content = {"files": ("large.wav", bytes(26 * 2**20))}
        answer = httpx.post(f"{address}gradio_api/upload", files=content, trust_env=False)
        assert answer.status_code == 413

    def test_files_of_the_server_are_no_recordings(self, client):
        """A visitor may name what was uploaded, and nothing else."""
        given = {"path": str(Path(__file__)), "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AppError):
            client.predict(given, api_name="/recognise")


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(
                executable_path=program, args=[*BROWSER_OPTIONS, *MICROPHONE]
            )
        except BrowserError:
            pytest.skip(f"no browser, expected one of {list(BROWSERS)} or Playwright's own")
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """The page on a screen of a computer; what goes wrong in it fails the test."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(PATIENCE)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    page.get_by_role("button", name="Recognise", exact=True).wait_for()
    yield page
    page.close()
    assert wrong == []


def upload(page, file):
    page.set_input_files("#recording input[type=file]", file)
    expect(page.locator("#recording").get_by_label("Clear")).to_be_visible()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def wait_for_pictures(page, count):
    """Until so many that can be seen have been drawn by the browser."""
    page.wait_for_function(
        """count => [...document.querySelectorAll("img[src*='/file=']")]
        .filter(image => image.naturalWidth > 100 && image.offsetWidth > 0).length >= count""",
        arg=count,
    )


def play(page, player):
    """Play a sound, and return how many seconds it has."""
    # A recorder that has just stopped stands beside its player for a moment.
    sound = page.locator(f"#{player} audio[src]")
    expect(sound).to_have_count(1)
    page.locator(f"#{player}").get_by_label("Play", exact=True).click()
    page.wait_for_function("sound => sound.currentTime > 0", arg=sound.element_handle())
    return sound.evaluate("sound => sound.duration")


class TestBrowser:
    def test_upload_and_recognise(self, page, models, uploads):
        upload(page, uploads / "speech_0.wav")
        press(page, "Recognise")
        wait_for_pictures(page, 2)
        (guess,) = models.classifier(str(uploads / "speech_0.wav"), top_k=1)
        expect(page.get_by_role("heading", name=guess["label"])).to_be_visible()
        assert play(page, "recording") == pytest.approx(1.29, abs=0.05)

    def test_record_and_recognise(self, page):
        recorder = page.locator("#recording")
        recorder.get_by_label("Record audio").click()
        recorder.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(1_500)
        recorder.get_by_role("button", name="Stop", exact=True).first.click()
        assert play(page, "recording") > 1
        press(page, "Recognise")
        wait_for_pictures(page, 2)

    def test_convert_and_play_both(self, page, uploads):
        upload(page, uploads / "speech_0.wav")
        page.get_by_role("tab", name="Enhance").click()
        page.get_by_role("combobox", name="Make the emotion").click()
        page.get_by_role("option", name="sadness").click()
        page.get_by_label("shift", exact=True).check()
        press(page, "Enhance or convert")
        expect(page.get_by_text("Converted to sadness")).to_be_visible()
        wait_for_pictures(page, 2)
        assert play(page, "before") == pytest.approx(1.29, abs=0.05)
        # Sadness is slower in the toy enhancer.
        assert play(page, "after") > 1.35

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("text.wav", "'text.wav' cannot be read as a recording"),
            ("a minute and more.ogg", "lasts 61 seconds"),
            ("silence.wav", "is silent"),
            ("noise & hum.wav", "hardly any speech"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_sentence(self, page, uploads, name, message):
        upload(page, uploads / name)
        press(page, "Recognise")
        toast = page.get_by_test_id("toast-body")
        expect(toast).to_have_count(1)
        expect(toast).to_contain_text(message)

    def test_calibrate_and_forget(self, page, models, uploads):
        page.get_by_role("tab", name="Calibrate").click()
        files = [uploads / f"speech_{i}.wav" for i in (1, 2)]
        page.set_input_files("#voice input[type=file]", files)
        expect(page.get_by_text("speech_2")).to_be_visible()
        press(page, "Calibrate")
        expect(page.get_by_text("Calibrated with 2 recordings")).to_be_visible()
        assert len(models.voices) == 1
        press(page, "Forget")
        expect(page.get_by_text("Not calibrated")).to_be_visible()
        assert models.voices == []

    def test_fits_a_phone(self, page, uploads):
        page.set_viewport_size(PHONE)
        upload(page, uploads / "speech_0.wav")
        for tab in ("Recognise", "Enhance", "Calibrate"):
            page.get_by_role("tab", name=tab).click()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], tab

    def test_asks_no_other_host_for_anything(self, browser, address):
        asked = []
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.get_by_role("button", name="Recognise", exact=True).wait_for()
        page.close()
        assert [url for url in asked if not url.startswith(address)] == []


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spaces") / "mine"
    return export_space(folder, Models(enhancer_name="somebody/enhancer"))


class TestExport:
    def test_the_page_runs_from_the_folder_alone(self, exported):
        """In a process where the checkout cannot be imported."""
        code = """
import importlib, json, sys
from pathlib import Path
here, root = map(Path, sys.argv[1:])
sys.path.insert(0, str(here))
import app
app.build_page(app.Models.of_environment())
files = [getattr(module, "__file__", None) for module in sys.modules.values()]
print(json.dumps([file for file in files if file and Path(file).is_relative_to(root)
                  and not Path(file).is_relative_to(root / ".venv")]))
"""
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-I", "-B", "-c", code, str(exported), str(root)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=exported)
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout.splitlines()[-1]) == []

    def test_holds_files_and_no_links(self, exported):
        assert not [file for file in exported.rglob("*") if file.is_symlink()]
        assert not list(exported.rglob("__pycache__"))

    def test_card_is_what_the_hub_reads(self, exported):
        metadata = SpaceCard.load(exported / "README.md").data
        assert metadata.sdk == "gradio"
        assert metadata.sdk_version == gradio.__version__
        assert (exported / metadata.app_file).is_file()
        assert metadata.license == "apache-2.0"
        assert metadata.models == ["somebody/enhancer"]
        assert len(metadata.short_description) <= 60

    def test_requirements_are_what_is_installed(self, exported):
        lines = (exported / "requirements.txt").read_text().split()
        assert f"gradio=={gradio.__version__}" in lines
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
        assert len(lines) > 15

    def test_a_folder_that_holds_something_is_left_alone(self, tmp_path):
        (tmp_path / "mine.txt").touch()
        with pytest.raises(ValueError, match="expected a new or an empty one"):
            export_space(tmp_path, Models())
        assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
