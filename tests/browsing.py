"""Pages opened in a real browser, from disk."""

import shutil
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
SIZES = {"desktop": (1280, 900), "phone": (390, 800)}


@contextmanager
def opened_page(browser, path, size="desktop", scheme="light"):
    """Open a page; at the end, nothing may have been complained of or asked for."""
    faults = []
    width, height = SIZES[size]
    view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    view.on("console", lambda message: faults.append(message.text))
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.on("dialog", lambda dialog: faults.append("a dialog"))
    view.on("request", lambda request: faults.append(request.url) if _outside(request.url) else None)
    view.goto(f"file://{path}")
    yield view
    view.close()
    assert faults == []


def _outside(url):
    return not url.startswith(("file://", "data:", "blob:"))


def until(view, condition):
    """Wait for a condition; the policy of a page forbids the way in which Playwright does that."""
    for _ in range(400):
        if view.evaluate(condition):
            return
        view.wait_for_timeout(25)
    raise AssertionError(f"never came: {condition}")
