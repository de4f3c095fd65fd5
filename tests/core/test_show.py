"""What is displayed of a text from outside: what acts unseen is written out, no formula is set, every tag is text."""

import pandas as pd

from workbench.core import show

UNSEEN = [
    *"\x00\x07\x1b\x7f\x9b\u00ad\u034f\u061c\u115f\u180e\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\u206f\u3164\ufdd0\ufeff\uffa0\ufff9\ufffe",
    "\ud800", "\udfff", "\U0001d173", "\U000e0001", "\U000e0041", "\U000e0100",
]  # fmt: skip


def test_what_acts_unseen_is_written_out():
    for sign in UNSEEN:
        assert show.visible(f"a{sign}b") == f"a⟪U+{ord(sign):04X}⟫b"
    assert show.visible("a\r\nb\tc") == "a\nb\tc"
    for seen in ("é", "日本", "עברית", "زن‌ها", "👩‍👧", "❤️", "a\nb", "\xa0"):
        assert show.visible(seen) == seen


def test_a_line_holds_no_terminal_escape():
    line = show.short("a\x1b[2Jb\u202ec\x9b31m d\x85e")
    assert line == "a⟪U+001B⟫[2Jb⟪U+202E⟫c⟪U+009B⟫31m d e"
    assert len(show.short("\x1b" * 500)) == show.WIDTH


def test_a_card_is_text_and_sets_no_formula():
    evil = "<img src=x onerror=alert(1)> $\\style{background:url(http://x)}{y}$ \u202e\x1b[2J &amp;"
    table = pd.DataFrame({evil: [evil, 1.5], "b": [evil[::-1], None]})
    page = show.card(evil, {evil: evil}, tables=[table], notes=[evil])
    assert page.startswith('<div class="tex2jax_ignore mathjax_ignore">')
    assert page.endswith("</div>")
    assert "<img" not in page
    assert page.count("&lt;img src=x") == 6
    assert not set(page) & {"\u202e", "\x1b"}
    assert page.count("⟪U+202E⟫") >= 6
    assert page.count("&amp;amp;") == 6
    assert show.framed("<p>no formula</p>") == "<p>no formula</p>"
    assert show.framed("\\(x\\)").startswith('<div class="tex2jax_ignore')
