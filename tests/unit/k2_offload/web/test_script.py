"""A page that is left open says when it could not be renewed, and no longer once it could."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from k2_offload.files import TEMPLATES

BROWSER = """
let renew = null, main = null;
const makeMain = () => ({
  dataset: {}, shown: [],
  querySelector(what) {
    return what === "[data-stale]" ? this.shown.find((each) => each.dataset.stale) ?? null : null;
  },
  querySelectorAll: () => [],
  prepend(each) { this.shown.unshift(each); },
  replaceWith(next) { main = next; },
});
main = makeMain();
globalThis.location = { href: "http://k2/" };
globalThis.document = {
  documentElement: { dataset: {} }, hidden: false, activeElement: null,
  querySelector: () => main, addEventListener() {}, createElement: () => ({ dataset: {}, setAttribute() {} }),
};
globalThis.window = { getSelection: () => ({ isCollapsed: true }) };
window.parent = window;
globalThis.DOMParser = class {
  parseFromString(text) { return { querySelector: () => text === "" ? null : makeMain() }; }
};
globalThis.setTimeout = (run) => { renew = run; };
let answer = null;
globalThis.fetch = async () => { if (answer === null) throw new TypeError("no answer"); return answer; };
async function seen(next) {
  answer = next;
  await renew();
  return main.shown.map((each) => each.textContent);
}
"""
ASK = """
const good = { ok: true, text: async () => "<main>" };
(async () => console.log(JSON.stringify([
  await seen(good), await seen(null), await seen({ ok: false }), await seen({ ...good, redirected: true }),
  await seen(good),
])))();
"""


def test_a_page_that_cannot_be_renewed_says_so_until_it_can() -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js, which runs the page's script here, is not installed")
    script = BROWSER + (TEMPLATES / "page.js").read_text() + ASK
    done = subprocess.run(["node", "-"], input=script, check=True, capture_output=True, text=True)
    well, *failed, again = json.loads(done.stdout)
    assert (well, again) == ([], [])
    for sentences in failed:
        [sentence] = sentences
        assert "has not been renewed since 2" in sentence
        assert "log in" in sentence
