"""The page of a report, in a browser."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest

import sktransfer.inspection.report as report_package
from tests.helpers.reports import BROKEN, QUOTES, SCRIPT

pytestmark = pytest.mark.slow


def test_no_template_switches_escaping_off():
    templates = [*Path(report_package.__file__).parent.glob("templates/*")]
    assert len(templates) == 3
    for template in templates:
        assert not re.search(r"safe|autoescape|Markup|tojson|<script", template.read_text())


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromium = chromium or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the path to open the page in")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    arguments += ["--disable-sync"]
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def opened(browser, report, tmp_path_factory):
    """Opens the page, and notes what it asks for and complains of."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(file)

    @contextlib.contextmanager
    def open_it(width=1200, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        asked, complaints, dialogs = [], [], []

        def route(request):
            asked.append(request.request.url)
            (request.continue_ if request.request.url == file.as_uri() else request.abort)()

        page.route("**/*", route)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        page.wait_for_load_state("networkidle")
        yield page
        assert asked == [file.as_uri()]
        assert complaints == []
        assert dialogs == []
        page.close()

    return open_it


def test_the_page_loads_nothing_runs_nothing_and_shows_hostile_names_as_text(opened):
    with opened() as page:
        text = page.inner_text("body")
        for name in (SCRIPT, QUOTES, BROKEN, "$\\frac{1}$"):
            assert name in text
        assert page.inner_text("h1") == f"Digits {SCRIPT}"
        assert page.locator("script, iframe, object, embed, form, img[onerror]").count() == 0
        policy = page.get_attribute('meta[http-equiv="Content-Security-Policy"]', "content")
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        sources = page.eval_on_selector_all("img", "all => all.map(one => one.src)")
        assert sources
        assert all(source.startswith("data:image/") for source in sources)
        shown = "all => all.every(one => one.complete && one.naturalWidth > 0)"
        assert page.eval_on_selector_all("img", shown)


def test_a_script_that_got_in_would_not_run(browser, report):
    """The policy is a second wall behind escaping."""
    page = browser.new_page()
    hostile = "<script>window.ran = 1</script><img src='data:,' onerror='window.ran = 1'></main>"
    page.set_content(report.to_html().replace("</main>", hostile))
    page.wait_for_timeout(100)
    assert page.locator("main script").count() == 1
    assert page.evaluate("window.ran") is None
    page.close()


@pytest.mark.parametrize("width", [360, 390, 768, 1200])
def test_the_page_is_no_wider_than_the_screen(width, opened):
    with opened(width) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        small = (
            "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert page.eval_on_selector_all("section, .tile, figure, .scroll, h1, h2", small) == 0


CONTRASTS = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = colour => {
    const [r, g, b] = colour.map(
      c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(rgba(getComputedStyle(e).backgroundColor));
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
    if (!own || element.closest('.skip, .unseen, svg')) continue;
    const grounds = [ground(element)];
    const fill = element.closest('.bar')?.querySelector('.fill');
    if (fill) grounds.push(rgba(getComputedStyle(fill).backgroundColor).slice(0, 3));
    for (const under of grounds) {
      const ink = over(rgba(getComputedStyle(element).color), under);
      const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
      found.push([(high + .05) / (low + .05), element.outerHTML.slice(0, 120)]);
    }
  }
  return {ground: light(ground(document.body)), texts: found};
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(scheme, opened):
    with opened(scheme=scheme) as page:
        found = page.evaluate(CONTRASTS)
    assert found["ground"] < 0.02 if scheme == "dark" else found["ground"] > 0.8
    assert len(found["texts"]) > 300
    assert min(found["texts"])[0] >= 4.5, min(found["texts"])


def test_figures_change_with_the_scheme(opened):
    shown = []
    for scheme in ("light", "dark"):
        with opened(scheme=scheme) as page:
            current = "all => all.map(one => one.currentSrc)"
            shown.append(page.eval_on_selector_all("img.plot", current))
    assert len(shown[0]) == len(shown[1]) >= 3  # shift, layers, embedding
    assert not set(shown[0]) & set(shown[1])


def test_the_page_can_be_found_ones_way_in_without_eyes(opened):
    with opened() as page:
        assert page.get_attribute("html", "lang") == "en"
        assert page.locator("h1").count() == 1
        assert page.locator("header, nav, main, footer").count() == 4
        lost = "all => all.filter(a => !document.getElementById(a.hash.slice(1))).length"
        assert page.eval_on_selector_all("a", lost) == 0
        assert page.eval_on_selector_all("img", "all => all.filter(i => !i.alt).length") == 0
        unnamed = "all => all.filter(s => !s.getAttribute('aria-labelledby')).length"
        assert page.eval_on_selector_all("section", unnamed) == 0
        assert page.locator("th:not([scope])").count() == 0
        tables = page.locator("table").count()
        assert page.locator("table > caption").count() == tables > 5
        ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))
