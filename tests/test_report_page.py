"""The page of an evaluation: complete, self-contained, and usable in a browser."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

import mlr
from mlr.evaluation.evaluate import evaluate
from mlr.evaluation.report import SIDE, choose_pictured, pair_pictures, render_page
from mlr.evaluation.scores import PairScores
from mlr.io.images import write_image
from tests.conftest import PEOPLE, draw, draw_pairs

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
ODD = "<img src=x onerror=alert(1)>&\"' [[title]] ]] </script>"


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
    assert page.tags.count("svg") == 2
    assert text.count("<tr data-id=") == result["pairs"] == 2 * (PEOPLE + 1)
    assert "{&#x27;" not in text  # facts are text, not Python
    for means in result["targets"].values():
        for part in (means, means["face"], means["mouth"], means["copy_input"]["mouth"]):
            assert f"<td class=group>{part['mse']:.5f}</td>" in text
        assert f"<td>{means['copy_input']['ssim']:.3f}</td>" in text
    assert len(pictures(text)) == result["pairs"]
    assert {len(files) for files in pictures(text).values()} == {4}


def test_a_pair_shows_face_mouth_and_identity():
    ours = {**scores(0.5), "face": {**scores(0.25)}, "mouth": {**scores(0.125)}}
    pairs = [
        PairScores("ann", "happy", ours, scores(1.0), 0.375),
        PairScores("bob", "happy", scores(0.01), scores(1.0)),
    ]
    text = render_page("x", {}, pairs, [])
    assert "<td class=group>&ndash;</td></tr>" in text
    assert "<td class=group>0.38</td></tr>" in render_page("x", {}, pairs[:1], [])
    ann, bob = (
        re.findall(r'data-value="(.*?)"', row) for row in re.findall(r"<tr data-id.*", text)
    )
    assert ann == ["ann", "happy", "0.5", "0.5", "0.25", "0.125", "1.0", "1.0", "NaN", "0.375"]
    assert bob[-1] == "NaN"
    heads = re.search(r'<section class="list.*?<thead>(.*?)</thead>', text, re.S)[1]
    assert heads.count("<th ") == len(ann)


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


@pytest.fixture(params=[(1280, 900), (360, 740)], ids=["desktop", "phone"])
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
    head = page.locator(".list").get_by_role("columnheader", name="MSE")
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
    assert "sad" in page.locator(".viewer h3").inner_text()


def test_slider_shows_more_of_one_picture_or_the_other(page):
    def shown():
        """Whether a quarter from the left the slider shows the picture before, or after."""
        page.wait_for_function(
            "[...document.querySelectorAll('.slider img')].every(x => x.complete)"
        )
        return slider.screenshot()

    slider = page.locator(".slider")
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
    title = page.locator(".viewer h3")
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
    left = page.locator(".sides .left")
    page.get_by_label("Compare").select_option("1 2")
    assert left.inner_text() == "output"


def test_page_begins_with_pictures(page):
    top = page.locator(".viewer").bounding_box()["y"]
    assert top < min(
        page.viewport_size["height"] / 2, page.locator(".histograms").bounding_box()["y"]
    )


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
