"""The camera in the page of `mlr serve`: Chromium's fake one, which shows a clip of drawn faces."""

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import mlr
from mlr.io.clips import describe_clip
from mlr.samples import draw_face, sample
from tests.test_face_page import SIZES
from tests.test_face_page import Page as PhotoPage
from tests.test_report_page import CHROMIUM

SIDE, TALL, WIDE, SPAN = 190, 360, 480, 100  # pixels: of the face, the frames, and its way
FRAMES = 480

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium on this machine")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium, whose camera shows a face that moves from side to side."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    face = draw_face(7, 1, "neutral", SIDE)
    path = tmp_path_factory.mktemp("clip") / "clip.mjpeg"
    with path.open("wb") as file:
        for n in range(FRAMES):
            frame = np.full((TALL, WIDE, 3), 150, np.uint8)
            left = 140 + int(SPAN / 2 * np.sin(2 * np.pi * n / FRAMES))
            frame[70 : 70 + SIDE, left : left + SIDE] = face
            PIL.Image.fromarray(frame).save(file, "jpeg", quality=92)
    camera = ("use-fake-device-for-media-stream", f"use-file-for-fake-video-capture={path}")
    arguments = ["no-sandbox", "use-fake-ui-for-media-stream", *camera]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[f"--{each}" for each in arguments]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where `mlr serve` serves a model of drawn faces."""
    folder = tmp_path_factory.mktemp("served")
    sample(folder / "faces", pairs=12, size=128, target=["happy", "surprised"])
    mlr.train(folder / "faces", folder / "model.npz")
    command = [sys.executable, "-m", "mlr", "serve", str(folder / "model.npz"), "--no-open"]
    with subprocess.Popen(command, stdout=-1, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


class Page(PhotoPage):
    """The page with the camera on."""

    def __init__(self, browser, address, size, **how):
        super().__init__(browser, address, size, offline=False, **how)
        self.page.get_by_role("button", name="Camera").first.click()

    def frames(self, count):
        """Wait for more frames."""
        wanted = self.changes() + count
        self.page.wait_for_function("(n) => Number(picture.dataset.changes) >= n", arg=wanted)


@pytest.fixture(params=SIZES)
def live(browser, address, request):
    live = Page(browser, address, request.param, has_touch=request.param == "phone")
    live.page.wait_for_selector(".live:not([hidden])")
    yield live
    assert live.errors == []
    assert {url for url in live.loaded if not url.startswith("blob:")} == {address}
    live.context.close()


def test_face_is_followed_changed_and_recorded(live, tmp_path):
    page = live.page
    page.wait_for_selector('.status:has-text("The face fits")')
    middles = []
    for _ in range(20):  # where frames are slow it may be lost between two, and found again
        live.frames(3)
        for eyes in live.eyes():
            assert abs(eyes[1][0] - eyes[0][0] - 0.36 * SIDE) < 5
            assert abs(eyes[0][1] - 70 - 0.36 * SIDE) < 5
            middles.append((eyes[0][0] + eyes[1][0]) / 2)
    assert 10 <= len(middles) <= 20
    assert np.ptp(middles) > SPAN / 5
    both = [live.shown(name) for name in ("before", "after")]
    assert both[0].shape == (TALL, WIDE, 3)
    page.fill("#strength", "0")
    live.frames(2)
    before, after = page.evaluate("() => [before, after].map((each) => each.toDataURL())")
    assert before == after
    page.fill("#strength", "1")
    live.frames(2)
    before, after = page.evaluate("() => [before, after].map((each) => each.toDataURL())")
    assert before != after
    page.wait_for_function("() => Number(picture.dataset.rate) > 0")
    assert "frames a second" in page.inner_text(".rate")
    page.click("text=Record a clip")
    live.frames(15)
    with page.expect_download() as download:
        page.click("text=Save the clip")
    assert download.value.suggested_filename == "camera-happy.webm"
    path = tmp_path / "clip.webm"
    download.value.save_as(path)
    facts = describe_clip(path)
    assert facts["size"] == f"{WIDE}x{TALL}"
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--use-fake-device-for-media-stream"], "The camera is not allowed."),  # nobody allows it
        (["--use-fake-ui-for-media-stream"], "No camera was found."),
    ],
)
def test_a_camera_that_is_denied_or_missing_is_said(address, browser, arguments, message):
    launched = browser.browser_type.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", *arguments]
    )
    page = PhotoPage(launched, address, "desktop", offline=False)
    page.page.get_by_role("button", name="Camera").first.click()
    assert page.status.startswith(message)
    assert page.page.is_visible(".empty")
    assert page.errors == []
    launched.close()
