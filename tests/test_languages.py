"""The page in each of its languages: every sentence is there, is shown, and says the numbers as people there do."""

from __future__ import annotations

import re

import pytest
from browsing import Visits
from conftest import Server
from playwright.sync_api import expect

import build

SOURCE = (build.ROOT / "index.html").read_text("utf-8")
SCRIPT, TABLES = SOURCE.split("// ---- 6. Messages ----")
MESSAGE = re.compile(r"^ {6}'?([\w-]+)'?: '(.*)',$", re.MULTILINE)
MESSAGES = {
    language: dict(MESSAGE.findall(table))
    for language, table in re.findall(r"^ {4}(\w\w): {$(.*?)^ {4}},$", TABLES, re.MULTILINE | re.DOTALL)
}
LANGUAGES = ["en", "de", "fr", "es", "zh", "ja", "ar"]
FORMS = {"zh": {1}, "ja": {1}, "ar": {1, 6}}  # of a sentence with a number (Unicode CLDR, plural rules)


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", text))


def test_languages_are_these() -> None:
    """English first: it is what the others are compared with."""
    assert list(MESSAGES) == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_has_each_message(language: str) -> None:
    """Each message and no other, in the order of the English ones, with the same values, and in forms that it has."""
    messages = MESSAGES[language]
    assert list(messages) == list(MESSAGES["en"])
    assert TABLES.count(f"    {language}: {{") == 1
    for key, text in messages.items():
        forms = text.split("|")
        assert all(forms), key
        assert len(forms) in FORMS.get(language, {1, 2}) | {len(MESSAGES["en"][key].split("|"))}, key
        assert placeholders(text) | {"n"} == placeholders(MESSAGES["en"][key]) | {"n"}, key
        if language != "en" and len(text) > 12:
            assert text != MESSAGES["en"][key], key


def test_each_message_is_said() -> None:
    """No message that nothing says; codes are the server's."""
    codes = set(re.findall(r"^\| `([\w-]+)` \| \d{3} \|", (build.ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    for key in MESSAGES["en"]:
        said = re.search(rf"""['"]{re.escape(key)}['"]""", SCRIPT)
        assert said or key in codes, key


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_speaks_the_browsers_language(server: Server, visit: Visits, language: str) -> None:
    """By what the browser wants, and `?lang=` goes before that."""
    for locale, address in ((language, ""), ("en-GB", f"?lang={language}")):
        tab = visit(server, url=server.url + address, locale=locale)
        expected = MESSAGES[language]["titleOf"].replace(
            "{title}", tab.page.evaluate("JSON.parse(document.getElementById('settings').textContent).title")
        )
        shown = re.sub("[\u2066-\u2069]", "", tab.page.locator("h1").inner_text())
        assert shown == expected
        expect(tab.page.locator("html")).to_have_attribute("lang", language)
        expect(tab.page.locator("html")).to_have_attribute("dir", "rtl" if language == "ar" else "ltr")
        expect(tab.page.locator("#drop")).to_have_text(MESSAGES[language]["choose"])


def test_unknown_language_is_english(server: Server, visit: Visits) -> None:
    """A page is never without words."""
    tab = visit(server, url=server.url + "?lang=tlh", locale="fi-FI")
    expect(tab.page.locator("#drop")).to_have_text("Choose files")


def test_refusal_is_said_in_the_persons_language(server: Server, visit: Visits) -> None:
    """What the server says in English goes by its code; sizes are written as in that language."""
    tab = visit(server, locale="de-DE")
    visit.expect_complaints(r"status of 413")
    answer = {"error": "Larger than all.", "code": "larger-than-all", "values": {"limit": 2_100_000}}
    tab.page.route("**/upload", lambda route: route.fulfill(status=413, json=answer))
    tab.choose_content("large.bin", b"content")
    tab.expect_state("large.bin", "failed")
    status = re.sub("[\u2066-\u2069]", "", tab.row("large.bin").locator(".status").inner_text())
    assert status == "Alle Dateien zusammen dürfen hier 2,1 MB haben. Diese allein hat mehr."
