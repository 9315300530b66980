"""The page of an evaluation: complete, self-contained, and usable in a browser."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import mlr
from mlr.evaluation import report as report_module
from mlr.evaluation.evaluate import evaluate
from mlr.evaluation.report import SIDE, choose_pictured, pair_pictures, render_page
from mlr.evaluation.scores import PairScores
from mlr.exports.export import PAGE
from mlr.io import page as shared
from mlr.io.images import write_image
from mlr.photo.detect import installed
from tests.conftest import PEOPLE, draw, draw_pairs

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
UNNAMED = """() => [...document.querySelectorAll("button, input, select, canvas")].filter((each) =>
    !(each.hidden || each.ariaLabel || each.textContent.trim() || each.labels?.length))
    .map((each) => each.outerHTML)"""
SMALL = """() => [...document.querySelectorAll("button:not(.link), select")].filter((each) =>
    each.offsetParent && each.getBoundingClientRect().height < 40)
    .map((each) => each.outerHTML)"""
ODD = "<img src=x onerror=alert(1)>&\"' [[title]] ]] </script>"


def check_controls(page):
    """Check that every control of a page has a name, and room for a finger."""
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(SMALL) == []


class Page(HTMLParser):
    """Tags and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of two expressions, of which one pair is a perfect copy."""
    folder = tmp_path_factory.mktemp("report")
    data = draw_pairs(folder / "data", targets=("happy", "sad"))
    model = mlr.train(data)
    for expression in ("neutral", "happy", "sad"):
        write_image(data / expression / "flat.png", np.zeros((16, 16, 3), np.uint8))
    scores = evaluate(model, data, report_dir=folder / "report")
    return folder / "report" / "report.html", scores


def pictures(text):
    return json.loads(re.search(r'id="pictures">(.*?)</script>', text, re.S)[1])


def scores(mse):
    part = {"mse": mse, "ssim": 1.0, "sharpness": float("nan")}
    return {**part, "psnr": 1.0, "face": part, "mouth": part}


def test_page_needs_no_other_file_and_shows_all_pairs(report):
    path, result = report
    text = path.read_text()
    page = Page(text)
    assert page.links == []
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert page.tags.count("svg") == 2 * (3 + installed())
    assert text.count("<tr data-id=") == result["pairs"] == 2 * (PEOPLE + 1)
    assert "{&#x27;" not in text  # facts are text, not Python
    for means in result["targets"].values():
        interval = means["interval"]
        for part, ends in (
            (means, interval),
            (means["face"], interval["face"]),
            (means["mouth"], interval["mouth"]),
            (means["copy_input"]["mouth"], interval["copy_input"]["mouth"]),
        ):
            between = "&ndash;".join(f"{end:.5f}" for end in ends["mse"])
            assert f"<td class=group>{part['mse']:.5f}<small>{between}</small></td>" in text
        assert f"<td>{100 * means['fitted']:.0f} %</td>" in text
    assert len(pictures(text)) == result["pairs"]
    assert {len(files) for files in pictures(text).values()} == {4}


def test_a_pair_shows_face_mouth_identity_and_fit():
    mouth = {**scores(0.125), "sharpness": 0.75}
    ours = {**scores(0.5), "face": {**scores(0.25)}, "mouth": mouth}
    pairs = [
        PairScores("ann", "happy", ours, scores(1.0), 0.375, fit=0.8125, fitted=True),
        PairScores("bob", "happy", scores(0.01), scores(1.0), fit=-0.5, fitted=False),
    ]
    text = render_page("x", {"model": "m.npz", "data": "faces"}, pairs, [])
    summary = "Model <b>m.npz</b>, data <b>faces</b>, 2 pairs of 2 subjects, 1 expression, "
    assert f"{summary}1 of 2 inputs fit</p>" in text
    assert "<td>happy</td><td>2</td><td>50 %</td>" in text
    assert "<td class=group>&ndash;<small></small></td></tr>" in text
    alone = render_page("x", {}, pairs[:1], [])
    assert "<td class=group>0.38<small></small></td></tr>" in alone
    assert ">1 pair of 1 subject, 1 expression, 1 of 1 input fit</p>" in alone
    assert '<td data-value="0.8125">yes, 0.81</td>' in text
    assert '<td data-value="-0.5"><span class="problem">no</span>, -0.50</td>' in text
    paper = render_page("x", {}, [PairScores("bob", "happy", scores(0.01), scores(1.0))], [])
    assert ">1 pair of 1 subject, 1 expression</p>" in paper
    assert '<td data-value="NaN">&ndash;</td></tr>' in paper
    ann, bob = (
        re.findall(r'data-value="(.*?)"', row) for row in re.findall(r"<tr data-id.*", text)
    )
    assert ann == ["ann", "happy", "0.5", "0.5", "0.25", "0.125", "0.75", "0.375", "0.8125"]
    assert bob[-3:] == ["NaN", "NaN", "-0.5"]
    heads = re.search(r'<section class="list.*?<thead>(.*?)</thead>', text, re.S)[1]
    assert heads.count("<th ") == len(ann)


def test_histograms_count_pairs_of_outputs_and_copies():
    errors = [0.0, 0.1, 0.1, 0.4]
    pairs = [
        PairScores(str(n), "happy", scores(error), scores(0.2), fit=0.5)
        for n, error in enumerate(errors)
    ]
    text = render_page("x", {}, pairs, [])
    label = "happy, face MSE: 4 pairs, mean 0.15; of the copies of the input 0.2"
    drawn = re.search(rf'<svg [^>]*aria-label="{label}">(.*?)</svg>', text, re.S)[1]
    bars = {
        kind: [
            (float(x) + float(width) / 2, float(height))
            for x, width, height in re.findall(
                rf'"{kind}" x="(.*?)" y=".*?" width="(.*?)" height="(.*?)"', drawn
            )
        ]
        for kind in ("ours", "copied")
    }
    assert re.findall(r">([^<]+)</text>", drawn) == ["4", "0", "0", "0.4"]
    (middle, tallest), step = bars["copied"][0], 212 / 6  # of six bars between 26 and 238
    assert middle == pytest.approx(26 + 3.5 * step, abs=0.1)
    expected = [(0, 1), (1, 2), (5, 1)]  # bar, pairs
    for (middle, height), (bar, count) in zip(bars["ours"], expected, strict=True):
        assert middle == pytest.approx(26 + (bar + 0.5) * step, abs=0.1)
        assert height == pytest.approx(tallest * count / 4, abs=0.1)
    assert "mouth sharpness:" not in text  # not known
    assert "identity:" not in text
    assert 'aria-label="happy, fit: 4 pairs, mean 0.5"' in text


def test_pages_share_their_style_and_script(report, tmp_path):
    common = Path(shared.__file__)
    style, script = (common.with_suffix(each).read_text() for each in (".css", ".mjs"))
    script = script.replace("export ", "")
    text = report[0].read_text()
    assert style in text
    assert script in text
    for own in (PAGE / "page.css", Path(report_module.__file__).with_suffix(".css")):
        repeated = {*style.splitlines()} & {*own.read_text().splitlines()}
        assert [line for line in repeated if ":" in line and "@media" not in line] == []
    (tmp_path / "x.html").write_text("[[a]] [[style]] [[script]] [[generator]]")
    (tmp_path / "x.css").write_text("p {}")
    (tmp_path / "x.mjs").write_text('import { $ } from "y";\nexport const z = 1;')
    text = shared.filled(tmp_path / "x.html", {"a": "[[style]]"})
    assert text == f"[[style]] {style}\np {{}} {script}\nconst z = 1; mlr {mlr.__version__}"


def test_names_are_text_and_never_markup():
    pair = PairScores(ODD, ODD, scores(0.5), scores(0.0))
    large = pair_pictures(*(draw(seed, 300) for seed in range(3)))
    text = render_page(ODD, {ODD: ODD}, [pair], [(0, large)])
    page = Page(text)
    assert page.tags.count("script") == 2  # the page's own
    assert page.links == []
    assert text.count("onerror") == text.count("&lt;img src=x onerror")
    for uri in pictures(text)["0"]:
        with PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as shown:
            assert shown.size == (SIDE, SIDE)


def test_pictures_are_limited_and_the_page_says_so():
    pairs = [PairScores(str(n), "happy", scores(n / 1e6), scores(0.1)) for n in range(2000)]
    chosen = choose_pictured(pairs)
    assert len(chosen) == 300
    assert chosen[:1] + chosen[-1:] == [0, 1999]
    text = render_page("x", {}, pairs, [(index, []) for index in chosen])
    assert "of 300 of the 2000 pairs" in text
    assert sorted(map(int, pictures(text))) == chosen


def test_every_expression_gets_pictures():
    pairs = [PairScores("", "many", {}, {})] * 50 + [PairScores("", "few", {}, {})] * 4
    chosen = choose_pictured(pairs, 24)
    assert len(chosen) == len(set(chosen)) == 24
    assert [index for index in chosen if index >= 50] == [50, 51, 52, 53]
    assert {0, 49} < set(chosen)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, without a network."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    if not CHROMIUM:
        pytest.skip("needs Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 740)], ids=["desktop", "phone"])
def page(browser, report, request):
    """The report in a browser; any error in its script fails the test."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(report[0].as_uri())
    yield page
    assert errors == []
    context.close()


def column(page, number):
    cells = page.locator(f"#pairs tr:not([hidden]) td:nth-child({number})")
    return [float(value) for value in cells.evaluate_all("all => all.map(x => x.dataset.value)")]


def test_table_is_sorted_and_filtered(page):
    assert column(page, 3) == sorted(column(page, 3), reverse=True)
    head = page.locator(".list th").nth(2)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 3) == sorted(column(page, 3))
    page.get_by_role("button", name="÷ copy").focus()
    page.keyboard.press("Enter")
    ratios = column(page, 4)
    numbers = [ratio for ratio in ratios if ratio == ratio]
    assert numbers == sorted(numbers, reverse=True)
    assert all(ratio != ratio for ratio in ratios[len(numbers) :])  # not a number: last
    page.get_by_label("Expression").select_option("sad")
    assert len(column(page, 3)) == PEOPLE + 1
    assert "sad" in page.locator(".viewer h2").inner_text()
    page.get_by_role("button", name="fit").click()
    assert column(page, 9) == sorted(column(page, 9), reverse=True)


def test_slider_shows_more_of_one_picture_or_the_other(page):
    def shown():
        """Whether a quarter from the left the slider shows the picture before, or after."""
        page.wait_for_function(
            "[...document.querySelectorAll('.picture img')].every(x => x.complete)"
        )
        return slider.screenshot()

    slider = page.locator(".picture")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box["width"] <= page.viewport_size["width"]
    middle = shown()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    assert abs(int(slider.get_by_role("slider").input_value()) - 90) <= 2
    right = shown()
    slider.get_by_role("slider").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert abs(int(slider.get_by_role("slider").input_value()) - 85) <= 2
    assert len({middle, right, shown()}) == 3


def test_pair_is_chosen_by_click_and_by_keyboard(page):
    title = page.locator(".viewer h2")
    worst = title.inner_text()
    page.get_by_role("button", name="next").click()
    second = title.inner_text()
    page.get_by_role("button", name="previous").click()
    assert title.inner_text() == worst != second
    button = page.locator("#pairs .name").nth(2)
    button.focus()
    page.keyboard.press("Enter")
    assert title.inner_text() not in (worst, second)
    assert page.locator(".four img").count() == 4
    sides = page.locator(".sides")
    assert sides.inner_text().split() == ["output", "target"]
    page.get_by_label("Compare").select_option("input, output")
    assert sides.inner_text().split() == ["input", "output"]


def test_pictures_are_enlarged_by_click_and_by_keyboard(page):
    dialog, small = page.locator("dialog"), page.locator(".four button")
    assert not dialog.is_visible()
    small.nth(1).click()
    large = dialog.locator("img")
    assert large.get_attribute("src") == small.nth(1).locator("img").get_attribute("src")
    assert large.bounding_box()["width"] > 2.5 * small.nth(1).bounding_box()["width"]
    assert dialog.locator("p").inner_text().startswith("output: ")
    page.keyboard.press("ArrowRight")
    assert dialog.locator("p").inner_text().startswith("target: ")
    dialog.get_by_role("button", name="Next").click()
    dialog.get_by_role("button", name="Next").click()
    assert dialog.locator("p").inner_text().startswith("input: ")
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    small.nth(3).focus()
    page.keyboard.press("Enter")
    assert large.get_attribute("alt").startswith("error")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.matches('.four button:last-child')")
    small.nth(0).click()
    page.mouse.click(2, 2)  # outside
    assert not dialog.is_visible()


def test_page_begins_with_pictures(page):
    top = page.locator(".viewer").bounding_box()["y"]
    assert top < page.viewport_size["height"] / 3
    for below in (".scores", ".histograms"):
        assert top < page.locator(below).first.bounding_box()["y"]
    assert page.locator(".viewer").is_visible()


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".four button").first.click()
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.viewport_size["width"]
    assert box["y"] + box["height"] <= page.viewport_size["height"]


def test_every_control_has_a_name_and_room_for_a_finger(page):
    check_controls(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme(browser, report, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(report[0].as_uri())
    found = [
        np.mean([*map(float, re.findall(r"[\d.]+", page.evaluate(each))[:3])])
        for each in (
            "getComputedStyle(document.body).backgroundColor",
            "getComputedStyle(document.body).color",
        )
    ]
    page.close()
    assert (found[0] - found[1] > 150) if scheme == "light" else (found[1] - found[0] > 150)
