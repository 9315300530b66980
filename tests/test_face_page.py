"""The page of `mlr export` in a browser: every control, at the size of a desktop and of a phone."""

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest

import mlr
from mlr.photo.composite import change_faces
from mlr.photo.eyes import Eyes
from mlr.samples import sample
from tests.test_export import photograph
from tests.test_report_page import CHROMIUM, check_controls

SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
WAIT = 60_000  # milliseconds, for slow machines

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium on this machine")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    sample(folder / "faces", pairs=12, size=64, target=["happy", "surprised"])
    mlr.train(folder / "faces", folder / "model.npz")
    return mlr.load(folder / "model.npz")


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The page, pages of other models, and pictures to open."""
    folder = tmp_path_factory.mktemp("pages")
    text = mlr.export(model, folder / "face.html").read_text()
    arrays = re.search(r'id="arrays">(.*?)</script>', text, re.S)[1]
    broken = base64.b64encode(b"\xff" * 4 + base64.b64decode(arrays)[4:]).decode()
    (folder / "broken.html").write_text(text.replace(arrays, broken))
    pictures = {
        "one.png": photograph((1, 200, 110, 40, 3))[0],
        "two.png": photograph((2, 110, 40, 60, 0), (3, 140, 230, 90, 0))[0],
        "noise.png": np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8),
        "large.png": np.zeros((10_000, 10_000), np.uint8),
    }
    for name, pixels in pictures.items():
        PIL.Image.fromarray(pixels).save(folder / name)
    (folder / "damaged.png").write_bytes((folder / "one.png").read_bytes()[:60])
    return folder


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """The page in a browser without a network; it notes errors, and what is loaded."""

    def __init__(self, browser, address, size, **how):
        width, height = SIZES[size]
        how = {"offline": True, "accept_downloads": True} | how
        self.context = browser.new_context(viewport={"width": width, "height": height}, **how)
        self.page = page = self.context.new_page()
        page.set_default_timeout(WAIT)
        self.errors, self.loaded = [], []
        page.on("pageerror", lambda error: self.errors.append(error))
        page.on("console", lambda m: self.errors.append(m.text) if m.type != "log" else None)
        page.on("request", lambda request: self.loaded.append(request.url))
        page.goto(address)

    @property
    def status(self):
        """What the page says when it is done."""
        self.page.wait_for_selector(".status:not(.busy):not(:empty)")
        return self.page.inner_text(".status")

    def open(self, path):
        self.page.evaluate("() => say('')")
        self.page.set_input_files(".file", path)
        return self.status

    def shown(self, name="after"):
        """The pixels of a canvas."""
        uri = self.page.evaluate(f"() => document.querySelector('.{name}').toDataURL()")
        with PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def changes(self):
        return int(self.page.get_attribute(".picture", "data-changes") or 0)

    def after(self, act):
        """Return the pixels after an action that changes them."""
        before = self.changes()
        act()
        self.page.wait_for_selector(f".picture:not([data-changes='{before}'])")
        self.page.wait_for_selector(".status:not(.busy)")
        return self.shown()

    def slide(self, selector, value):
        """Move a slider."""
        return self.after(lambda: self.page.fill(selector, str(value)))

    def eyes(self):
        """The eyes of each face, in pixels of the preview."""
        return self.page.evaluate("() => state.faces.map(({ eyes }) => eyes)")

    def drag(self, dot, right, down):
        box = self.page.locator(".dot").nth(dot).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + right / 2, y + down / 2)
        mouse.move(x + right, y + down)
        mouse.up()


def far(a, b, level=2):
    """The share of values that differ by more than a level."""
    return float((np.abs(a - b) > level).mean())


@pytest.fixture(params=SIZES)
def opened(browser, files, request):
    """The page with one face, after any test without errors and without a network."""
    opened = Page(
        browser, (files / "face.html").as_uri(), request.param, has_touch=request.param == "phone"
    )
    assert "fits well" in opened.open(files / "one.png")
    yield opened
    assert opened.errors == []
    assert {url.partition(":")[0] for url in opened.loaded} <= {"file", "blob", "data"}
    opened.context.close()


def test_strength_shares_style_and_regions_change_the_picture(opened):
    page = opened.page
    before, happy = opened.shown("before"), opened.shown()
    assert far(happy, before) > 0.02
    page.wait_for_selector("#strength")
    half = opened.slide("#strength", 0.5)
    assert 0 < far(half, before) < far(happy, before)
    assert far(opened.slide("#strength", 0), before, 0) == 0
    opened.slide("#strength", 1)
    mixed = opened.slide("#share1", 0.5)
    assert far(mixed, happy) > 0.01
    assert page.inner_text("output[for=share1]") == "0.50"
    assert far(opened.slide("#share1", 0), happy, 0) == 0
    automatic = "automatic"
    assert page.inner_text("output[for=style]") == automatic
    assert far(opened.slide("#style", 2), happy) > 0.001
    assert page.inner_text("output[for=style]") == "2.0"
    assert far(opened.after(lambda: page.click("text=Automatic")), happy, 0) == 0
    assert page.get_attribute("#style", "aria-valuetext") == automatic
    for name in ("mouth", "eyes", "brows", "lower", "upper"):
        chip = page.get_by_label(name, exact=True)
        part = opened.after(lambda chip=chip: chip.check(force=True))
        assert far(part, happy) > 0
        assert far(part, before) < far(happy, before)
        assert far(opened.after(lambda chip=chip: chip.uncheck(force=True)), happy, 0) == 0


def test_slider_compares_before_and_after(opened):
    page, slider = opened.page, opened.page.locator(".compare")
    picture = page.locator(".picture")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box["width"] <= page.viewport_size["width"]
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.9)
    assert abs(int(slider.input_value()) - 80) <= 3
    edge = page.locator(".edge").bounding_box()
    assert abs(edge["x"] - box["x"] - box["width"] * 0.8) < 12
    clip = "() => getComputedStyle(after).clipPath"
    assert page.evaluate(clip) == f"inset(0px 0px 0px {slider.input_value()}%)"
    slider.focus()
    page.keyboard.press("Home")
    assert slider.input_value() == "0"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 0px 0px 1%)"


def test_dots_are_dragged_and_moved_by_keys(opened):
    page = opened.page
    page.locator(".picture").scroll_into_view_if_needed()
    start = opened.eyes()[0]
    first = opened.shown()
    opened.after(lambda: opened.drag(0, -9, 14))
    (left, right), scale = (
        opened.eyes()[0],
        page.evaluate("() => before.width / picture.getBoundingClientRect().width"),
    )
    assert right == start[1]
    np.testing.assert_allclose(np.subtract(left, start[0]), np.array([-9, 14]) * scale, atol=1.5)
    moved = opened.shown()
    assert far(moved, first, 0) > 0
    dot = page.get_by_role("button", name="Right eye")
    dot.focus()
    for key in ("ArrowRight", "Shift+ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft"):
        opened.after(lambda key=key: page.keyboard.press(key))
    np.testing.assert_allclose(np.subtract(opened.eyes()[0][1], right), [-1, 9])
    opened.drag(0, -2000, 0)
    assert opened.eyes()[0][0][0] == 0  # kept inside
    page.get_by_label("Show dots").uncheck()
    assert not dot.is_visible()


def test_dots_on_no_face_are_named(opened):
    opened.page.locator(".picture").scroll_into_view_if_needed()
    far_away = -0.4 * opened.page.locator(".picture").bounding_box()["width"]
    for dot in (0, 1):
        opened.after(lambda dot=dot: opened.drag(dot, far_away, 60))
    assert "does not fit" in opened.status
    assert far(opened.shown(), opened.shown("before"), 0) == 0


def test_several_faces_are_found_chosen_added_and_removed(opened, files):
    page = opened.page
    opened.open(files / "two.png")
    faces = page.get_by_role("group", name="Faces").get_by_role("button")
    assert faces.all_inner_texts() == ["Face 1", "Face 2"]
    both, before = opened.shown(), opened.shown("before")
    half = before.shape[1] // 2
    sides = (slice(half), slice(half, None))
    assert all(far(both[:, side], before[:, side]) > 0.01 for side in sides)
    faces.nth(1).click()
    assert faces.nth(1).get_attribute("aria-pressed") == "true"
    assert faces.nth(0).get_attribute("aria-pressed") == "false"
    assert page.locator(".dot:not(.other)").count() == 2
    gone = int(opened.eyes()[1][0][0] > half)
    one = opened.after(lambda: page.click("text=Remove"))
    assert far(one[:, sides[gone]], before[:, sides[gone]], 0) == 0
    np.testing.assert_array_equal(one[:, sides[1 - gone]], both[:, sides[1 - gone]])
    opened.after(lambda: page.click("text=Add a face"))
    assert len(opened.eyes()) == 2
    assert "Face 2" in opened.status
    for _ in range(2):
        opened.after(lambda: page.click("text=Remove"))
    assert "Add one" in opened.status
    assert page.get_by_role("button", name="Save as PNG").is_disabled()


def test_saved_file_has_the_programs_pixels_and_a_record(opened, files, model, run, tmp_path):
    page = opened.page
    opened.slide("#share0", 0.6)
    opened.slide("#share1", 0.4)
    opened.slide("#strength", 1.2)
    opened.slide("#style", -1)
    opened.after(lambda: page.get_by_label("lower", exact=True).check(force=True))
    with page.expect_download() as download:
        page.click("text=Save as PNG")
    assert download.value.suggested_filename == "one-happy-0.6-surprised-0.4.png"
    path = tmp_path / "saved.png"
    download.value.save_as(path)
    assert "Saved as one-happy" in opened.status
    with PIL.Image.open(path) as image:
        saved = np.asarray(image).astype(int)
    with PIL.Image.open(files / "one.png") as image:
        pixels = np.asarray(image)
    eyes = [Eyes(*(complex(*eye) for eye in face)) for face in opened.eyes()]
    shares = {"happy": 0.6, "surprised": 0.4}
    wanted = change_faces(model, pixels, eyes, shares, 1.2, -1, "lower")
    assert far(saved, wanted.astype(int)) < 0.001
    assert far(saved, pixels.astype(int)) > 0.01
    record = json.loads(run("info", path, "--json").out)
    assert (record["expression"], record["strength"]) == ("happy-0.6-surprised-0.4", 1.2)
    assert (record["style"], record["region"]) == (-1, ["lower"])
    assert record["model"] == model.sha256


def test_pictures_are_dropped_and_pasted(opened, files):
    page = opened.page
    data = base64.b64encode((files / "two.png").read_bytes()).decode()
    for number, kind in enumerate(("drop", "paste"), 1):
        page.evaluate(
            """async ([kind, data]) => {
            const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
            const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer })
              : new ClipboardEvent("paste", { clipboardData: transfer });
            document.dispatchEvent(event);
            }""",
            [kind, data],
        )
        page.wait_for_selector(".status.busy")
        assert "Face 1 fits well" in opened.status
        assert page.evaluate("() => [state.name, state.turn]") == [f"{kind}.png", number + 1]


def test_pictures_that_cannot_be_used_are_named(opened, files):
    before = opened.shown()
    assert "cannot be opened as a picture" in opened.open(files / "damaged.png")
    assert "100 megapixels; up to 64" in opened.open(files / "large.png")
    np.testing.assert_array_equal(opened.shown(), before)
    assert "does not fit" in opened.open(files / "noise.png")
    assert far(opened.shown(), opened.shown("before"), 0) == 0


def test_damaged_model_is_named(browser, files):
    opened = Page(browser, (files / "broken.html").as_uri(), "desktop")
    assert "model in this page is damaged: source has values" in opened.status
    assert "model in this page is damaged" in opened.open(files / "one.png")
    assert opened.errors == []
    opened.context.close()


def test_everything_has_a_name_and_fits_the_screen(opened):
    page = opened.page
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    check_controls(page)
    for _ in range(30):  # Tab reaches all controls
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.matches('.save')"):
            break
    else:
        pytest.fail("Save as PNG is not reached by Tab")


def test_colours_follow_the_scheme(browser, files):
    colours = []
    for scheme in ("light", "dark"):
        opened = Page(browser, (files / "face.html").as_uri(), "phone", color_scheme=scheme)
        style = "() => getComputedStyle(document.body)"
        found = [opened.page.evaluate(f"{style}.{name}") for name in ("backgroundColor", "color")]
        colours.append([np.mean([*map(float, re.findall(r"[\d.]+", each)[:3])]) for each in found])
        opened.context.close()
    (paper, ink), (dark_paper, dark_ink) = colours
    assert paper - ink > 150
    assert dark_ink - dark_paper > 150
