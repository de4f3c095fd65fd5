"""The endpoint judge against a server that drips, floods, lies, points elsewhere and repeats the key; nothing leaves this machine."""

import ast
import base64
import contextlib
import gzip
import html
import json
import logging
import math
import sys
import threading
import time
import tracemalloc
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from workbench.core import errors
from workbench.evaluation import judges
from workbench.evaluation.judges import BudgetExceeded, EndpointFailed, EndpointJudge, EndpointRefused, MissingKey, judge_all
from workbench.evaluation.judges.base import texts, whole
from workbench.evaluation.judges.cache import Rated, RatingCache
from workbench.evaluation.judges.rubric import MalformedReply, parse_rating
from workbench.evaluation.judges.secret import HIDDEN, Secret

KEY = "sk_Quiet-River/0123+456789_abcXYZ"
LONG = 300_000  # characters; what goes back at each of them takes minutes or days


def completion(content, finish="stop", usage=None, model="tiny-judge-1"):
    body = {"model": model, "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish}]}
    return json.dumps(body | {"usage": usage or {"prompt_tokens": 30, "completion_tokens": 10}})


GOOD = completion('{"rating": 7, "reason": "declines"}')


class Server:
    """Answers with `rule(handler)`, or with the text that `rule` is."""

    def __init__(self, rule=GOOD):
        self.rule, self.seen = rule, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                if callable(outer.rule):
                    outer.rule(self)
                else:
                    reply(self, outer.rule)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):
                pass  # a client that hangs up is what is tested

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(timeout=5)


def reply(handler, body, status=200, headers=None, reason=None):
    data = body if isinstance(body, bytes) else body.encode()
    handler.send_response(status, reason)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = []

    def start(rule=GOOD):
        made.append(Server(rule))
        return made[-1]

    yield start
    for one in made:
        one.close()


def judge_of(server, **how):
    return EndpointJudge(
        f"{server.address}/v1",
        "tiny-judge",
        **{"sleep": lambda seconds: None, "clock": lambda: 0.0, "progress": False, "timeout": 5.0, "retries": 1, **how},
    )


def chain_of(error):
    out = ""
    while error is not None:
        out += repr(error) + str(vars(error))
        error = error.__cause__ or error.__context__
    return out


def holds_key(text):
    """Whether twelve characters of the key stand in a text, as they are."""
    return any(KEY[i : i + 12].lower() in text.lower() for i in range(len(KEY) - 11))


# ---- the key

FORMS = {
    "as it is": KEY,
    "in capitals": KEY.upper(),
    "its first half": KEY[:16],
    "its second half": KEY[16:],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 with a user": base64.b64encode(f"me:{KEY}:x".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"a{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "percent-encoded": quote(KEY, safe=""),
    "each letter percent-encoded": "".join(f"%{ord(c):02X}" for c in KEY),
    "percent-encoded twice": quote("".join(f"%{ord(c):02x}" for c in KEY), safe=""),
    "as JSON": json.dumps(KEY),
    "each letter escaped": "".join(f"\\u{ord(c):04x}" for c in KEY),
    "escaped twice": "".join(f"\\\\u{ord(c):04X}" for c in KEY),
    "HTML": html.escape(KEY),
    "HTML numbers": "".join(f"&#{ord(c)};" for c in KEY),
    "HTML hexadecimal": "".join(f"&#x{ord(c):x};" for c in KEY),
    "spaces between": " ".join(KEY),
    "lines between": "\n".join(KEY),
    "invisible between": "\u200b".join(KEY),
}


def readable(text):
    """What a reader who tries every form gets of a text."""
    bare = "".join(c for c in text if "!" <= c <= "~")
    escaped = bare.replace("\\\\", "\\")
    out = [bare, html.unescape(bare), unquote(unquote(bare)), escaped.encode().decode("unicode_escape", "replace")]
    for skip in range(len(text)):
        code = text[skip:].replace("-", "+").replace("_", "/").split(" ")[0]
        with contextlib.suppress(ValueError):
            out.append(base64.b64decode(code[: len(code) // 4 * 4]).decode("latin-1"))
        with contextlib.suppress(ValueError):
            out.append(bytes.fromhex(text[skip:].split(" ")[0]).decode("latin-1"))
    return " | ".join(out)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_key_is_hidden_in_every_form(form):
    assert holds_key(readable(form))  # the reader can read the form at all
    shown = Secret(KEY).hide(form)
    assert not holds_key(readable(shown))
    assert HIDDEN in shown
    around = Secret(KEY).hide(f"before {form} after")
    assert not holds_key(readable(around))


def test_what_is_no_key_is_shown():
    text = 'The answer says "not needed" and 100 % of it is <b>fine</b> \\u0041 &amp; so on; aGVsbG8gd29ybGQ= 0123'
    assert Secret(KEY).hide(text) == text
    assert Secret("not-needed").hide(text) == text
    assert Secret("EMPTY").hide("an empty reply") == "an empty reply"
    assert Secret("EMPTY").hide("key=EMPTY") == f"key={HIDDEN}"
    assert Secret("").hide(text) == text
    assert Secret(KEY).hide(f"a {KEY} b {KEY}") == f"a {HIDDEN} b {HIDDEN}"
    assert KEY not in repr(Secret(KEY))


def test_hiding_takes_time_in_proportion():
    """Runs of what begins an escape, in which a search that goes back takes the square of the length."""
    for part in ("\\", "\\\\u00", "%25", "&#0", "&#x0", KEY[:7], " ", "a"):
        text = part * (2**18 // len(part))
        assert Secret(KEY).hide(text) == text


PLACES = {
    "finish_reason": completion("no rating", finish=KEY),
    "a part of it as finish_reason": completion("no rating", finish=KEY[:20]),
    "model": completion('{"rating": 7}', model=f"judge {KEY}"),
    "reason": completion(json.dumps({"rating": 7, "reason": f"saw {KEY}"})),
    "an escaped reason": completion('{"rating": 7, "reason": "' + FORMS["each letter escaped"] + '"}'),
    "rating": completion(json.dumps({"rating": KEY})),
    "rating in a list": completion(json.dumps({"rating": [KEY]})),
    "no rating, where a message is cut": completion("x" * 68 + KEY),
    "no rating, in another place": completion("x" * 60 + KEY),
    "a reason that is cut": completion(json.dumps({"rating": 7, "reason": "x" * 290 + KEY})),
    "a reply that ends within the key": completion('{"rating": 7, "reason": "' + KEY[:20], finish="length"),
    "parts": completion([{"text": '{"rating": 7, "reason": "' + KEY[:9]}, {"text": KEY[9:] + '"}'}]),
    "no completion": f"<html>{KEY}</html>",
    "usage": completion('{"rating": 7}', usage={"prompt_tokens": KEY, "completion_tokens": KEY}),
}


@pytest.mark.parametrize("body", PLACES.values(), ids=PLACES)
def test_a_reply_does_not_show_the_key(servers, tmp_path, caplog, body):
    judge = judge_of(servers(body), cache=tmp_path, malformed_retries=0, price_in=1.0, price_out=1.0)
    with caplog.at_level(0):
        got = judge_all([judge], ["q"], [f"an answer with {KEY}"])
    kept = "".join(p.read_text() for p in tmp_path.iterdir())
    for text in (got.drop(columns="answers").to_csv(), str(got.attrs), kept, caplog.text, repr(judge), str(vars(judge))):
        assert not holds_key(text)


def echo(status, *, headers=False, reason=False, body=True):
    def rule(handler):
        seen = "\n".join(f"{k}: {v}" for k, v in handler.headers.items())
        reply(
            handler,
            json.dumps({"error": {"message": f"bad request:\n{seen}"}}) if body else "",
            status,
            {"X-Request-Id": KEY, "X-Echo": f"Bearer {KEY}", "Retry-After": KEY} if headers else None,
            f"No {KEY}" if reason else None,
        )

    return rule


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500])
def test_an_error_does_not_show_the_key(servers, caplog, status):
    server = servers(echo(status, headers=True, reason=True))
    with caplog.at_level(0), pytest.raises((EndpointRefused, EndpointFailed), match=f"status {status}: bad request") as caught:
        judge_of(server).judge(["q"], ["a private answer"])
    assert {"openai._base_client", "httpx2", "httpcore2.http11"} <= {record.name for record in caplog.records}  # they all have logged
    assert "private" not in caplog.text
    assert server.seen[0][1]["authorization"] == f"Bearer {KEY}"
    assert not holds_key(chain_of(caught.value) + caplog.text)
    assert not any(f for name in logging.root.manager.loggerDict for f in logging.getLogger(name).filters if "clean" in repr(f))


def test_a_broken_response_does_not_show_the_key(servers, caplog):
    server = servers(lambda handler: handler.wfile.write(f"{KEY} {KEY}\r\n\r\n".encode()))
    with caplog.at_level(0), pytest.raises(EndpointFailed, match="no answer in 1 tries") as caught:
        judge_of(server, retries=0).judge(["q"], ["a"])
    assert not holds_key(chain_of(caught.value) + caplog.text)


# ---- where the key and the texts go


def test_a_redirection_is_not_followed(servers):
    other = servers()
    for status in (301, 302, 303, 307, 308):
        server = servers(lambda handler, status=status: reply(handler, "", status, {"Location": f"{other.address}/v1/chat/completions"}))
        with pytest.raises(EndpointRefused, match=f"status {status}.*points elsewhere"):
            judge_of(server).judge(["q"], ["a"])
        assert len(server.seen) == 1
    assert not other.seen


def test_the_environment_changes_nothing(servers, monkeypatch):
    server, other = servers(), servers()
    plain = judge_of(server)
    plain.judge(["q"], ["a"])
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.address)
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET", "OTHER"):
        monkeypatch.setenv(name, f"from {name}")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer other\nHost: {other.address}\nX-More: 1")
    judge_of(server).judge(["q"], ["a"])
    judge_of(server, key_variable=None).judge(["q"], ["a"])
    first, second, third = server.seen
    assert second == first
    assert first[1]["authorization"] == f"Bearer {KEY}"
    assert third[1] == {k: v for k, v in first[1].items() if k != "authorization"}
    assert set(first[1]) == {"host", "content-type", "content-length", "accept", "accept-encoding", "authorization"}
    assert not other.seen


def test_a_proxy_is_used_where_it_is_named(servers, monkeypatch):
    server, proxy = servers(), servers()
    monkeypatch.setenv("MY_PROXY", proxy.address)
    judge_of(server, proxy_variable="MY_PROXY").judge(["q"], ["a"])
    assert not server.seen
    assert [path for path, _, _ in proxy.seen] == [f"{server.address}/v1/chat/completions"]
    for value in ("", "ftp://user:hunter2@host", "no address"):
        monkeypatch.setenv("MY_PROXY", value)
        with pytest.raises(errors.BadInput, match=r"MY_PROXY: no address of a (proxy|web endpoint)") as caught:
            judge_of(server, proxy_variable="MY_PROXY").judge(["q"], ["a"])
        assert "hunter2" not in str(caught.value)


def test_a_connection_that_fails_names_the_proxy_that_is_not_used(servers, monkeypatch):
    server = servers()
    server.close()
    judge = judge_of(server)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128")
    with pytest.raises(EndpointFailed, match=r"ConnectError.*name its variable with proxy_variable=") as caught:
        judge.judge(["q"], ["a"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/v1",
        "http://134744072/v1",  # 8.8.8.8, which is a name without a dot
        "http://0x08080808/v1",
        "http://8.526344/v1",
        "http://[::ffff:8.8.8.8]/v1",
        "http://[2001:4860:4860::8888]/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://example.com./v1",
        "http://example\u3002com/v1",
        "http://127.0.0.1@example.com/v1",
        "http://localhost:pass@127.0.0.1/v1",
        "https://user@host.example/v1",
        "https://host.example/v1#x",
        "https://host.example/v1?key=x",
        "file:///etc/passwd",
        "ws://127.0.0.1/v1",
        "//127.0.0.1/v1",
        "https:///v1",
        "",
        "https://\ud800.example/v1",
        "https://host.example\n/v1",
    ],
)
def test_addresses_that_are_refused(url):
    with pytest.raises(errors.BadInput, match=r"url|in the clear"):
        EndpointJudge(url, "m")


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1.example.com", "https://10.0.0.7", "https://localhost.example", "https://[::ffff:8.8.8.8]"]
)
def test_without_a_key_only_this_machine(url):
    with pytest.raises(MissingKey, match="is not this machine"):
        EndpointJudge(url, "m", key_variable=None)


@pytest.mark.parametrize("url", ["http://127.1:8000", "http://2130706433", "http://[::ffff:127.0.0.1]", "http://LOCALHOST", "http://[::1]"])
def test_this_machine_however_it_is_written(url):
    assert EndpointJudge(url, "m", key_variable=None).url.endswith("/chat/completions")


# ---- size


def flood(handler, headers, parts):
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    for part in parts:
        handler.wfile.write(part)
        handler.server.parts += 1


def test_a_compressed_flood_is_not_read_to_its_end(servers):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([*(squeeze.compress(bytes(2**20)) for _ in range(400)), squeeze.flush()])
    assert len(bomb) < 2**19
    server = servers(lambda handler: reply(handler, bomb, headers={"Content-Encoding": "gzip"}))
    tracemalloc.start()
    try:
        got = judge_of(server, malformed_retries=0).judge(["q", "q"], ["a", "a"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got["verdict"].isna().all()
    assert got["note"][0] == "no verdict after 1 replies; the last: a response of more than 2 MiB"
    assert peak < 30e6


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, b" " * 2**16),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"")),  # members without content: nothing comes out, however much comes in
        ({"Content-Encoding": "gzip", "Content-Length": str(10**12)}, b"\x1f\x8b\x08\x08" + b"x" * 2**16),  # a name without an end
    ],
    ids=["plain", "empty members", "an endless name"],
)
def test_a_flood_without_an_end_is_not_read_on(servers, headers, part):
    def parts():
        while True:
            yield part

    server = servers(lambda handler: flood(handler, headers, parts()))
    server.http.parts = 0
    judge = judge_of(server, malformed_retries=0)
    got = judge.judge(["q"], ["a"])
    assert got["verdict"].isna().all()
    server.rule = GOOD
    assert judge.judge(["q"], ["a"])["verdict"].all()  # and the connections still work


@pytest.mark.parametrize(
    ("coding", "press"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)], ids=["gzip", "deflate", "GZIP"]
)
def test_a_compressed_reply_is_read(servers, coding, press):
    server = servers(lambda handler: reply(handler, press(GOOD.encode()), headers={"Content-Encoding": coding}))
    assert judge_of(server).judge(["q"], ["a"])["note"][0] == "declines"
    assert server.seen[0][1]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("coding", "body", "why"),
    [
        ("gzip", gzip.compress(GOOD.encode())[:-20], "ends within its gzip data"),
        ("gzip", GOOD.encode(), "not gzip, as it says"),
        ("br", b"x", "compressed as 'br'"),
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD.encode())), "compressed as 'gzip, gzip'"),
    ],
    ids=["cut", "plain", "other", "twice"],
)
def test_a_reply_that_cannot_be_decompressed_is_tried_again(servers, coding, body, why):
    server = servers(lambda handler: reply(handler, body, headers={"Content-Encoding": coding}))
    with pytest.raises(EndpointFailed, match=f"in 2 tries; the last: DecodingError: .*{why}"):
        judge_of(server).judge(["q"], ["a"])
    assert len(server.seen) == 2


def test_an_error_with_an_endless_body_is_an_error(servers):
    server = servers(lambda handler: reply(handler, "no " * 2**20, 404))
    with pytest.raises(EndpointRefused, match="status 404: no no"):
        judge_of(server).judge(["q"], ["a"])


def test_the_charset_of_a_reply_is_not_obeyed(servers):
    for charset in ("zip", "hex", "rot13", "utf-16", "unicode_escape"):
        server = servers(lambda handler, c=charset: reply(handler, GOOD, headers={"Content-Type": f"application/json; charset={c}"}))
        assert judge_of(server).judge(["q"], ["a"])["verdict"].all()


# ---- time


def drip(handler, data):
    for byte in data:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


@pytest.mark.parametrize("where", ["body", "headers", "first line"])
def test_a_reply_in_drops_does_not_last(servers, where):
    """The whole of it would take a day."""
    head = b"HTTP/1.1 200 OK\r\nX-Pad: "
    endless = (b"x" for _ in iter(int, 1))

    def rule(handler):
        if where == "body":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
        elif where == "headers":
            handler.wfile.write(head)
        drip(handler, (b[0] for b in endless))

    server = servers(rule)
    with pytest.raises(EndpointFailed, match="no answer in 2 tries; the last: ReadTimeout"):
        judge_of(server, timeout=0.3).judge(["q"], ["a"])
    assert len(server.seen) == 2


class Time:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)

    def clock(self):
        return self.now


def test_all_tries_together_have_a_deadline(servers):
    fake, server = Time(), servers(lambda handler: reply(handler, "busy", 503))
    judge = judge_of(server, retries=50, backoff=10.0, deadline=100.0, sleep=fake.sleep, clock=fake.clock)
    with pytest.raises(EndpointFailed, match=r"within the 100 s of deadline, in \d+ tries; the last: status 503: busy"):
        judge.judge(["q"], ["a"])
    assert 2 < len(server.seen) < 10
    assert 0 < sum(fake.slept) < 100


def test_a_pause_beyond_the_deadline_is_not_waited_for(servers):
    fake, server = Time(), servers(lambda handler: reply(handler, "busy", 429, {"Retry-After": "90"}))
    with pytest.raises(EndpointFailed, match="within the 60 s of deadline, in 1 tries"):
        judge_of(server, deadline=60.0, sleep=fake.sleep, clock=fake.clock).judge(["q"], ["a"])
    assert not fake.slept
    assert judge_of(server).deadline == 600
    assert judge_of(server, timeout=100.0).deadline == 1000


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_is_tried_again(servers, status):
    answers = iter([lambda handler: reply(handler, "later", status)])
    server = servers(lambda handler: next(answers, lambda h: reply(h, GOOD))(handler))
    assert judge_of(server).judge(["q"], ["a"])["verdict"].all()
    assert len(server.seen) == 2


@pytest.mark.parametrize("header", ["-5", "nan", "inf", "soon", "0", "", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_a_pause_that_is_none(servers, header):
    fake, server = Time(), servers(lambda handler: reply(handler, "busy", 503, {"Retry-After": header}))
    with pytest.raises(EndpointFailed, match="in 3 tries"):
        judge_of(server, retries=2, sleep=fake.sleep, clock=fake.clock).judge(["q"], ["a"])
    assert len(fake.slept) == 2
    assert 0.5 <= fake.slept[0] <= 1
    assert 1 <= fake.slept[1] <= 2


@pytest.mark.parametrize("header", ["121", "1e999", "Mon, 01 Jan 2400 00:00:00 GMT", "100"])
def test_a_pause_that_is_too_long(servers, header):
    fake, server = Time(), servers(lambda handler: reply(handler, "busy", 503, {"Retry-After": header}))
    with pytest.raises(EndpointFailed, match=r"asks for a pause of \d+ s, longer than the 90 s of longest_pause \(status 503: busy\)"):
        judge_of(server, longest_pause=90.0, sleep=fake.sleep, clock=fake.clock).judge(["q"], ["a"])
    assert (fake.slept, len(server.seen)) == ([], 1)


# ---- what a reply says


HALVES = {"one": "\ud800", "inside": "a\udfffb", "reversed": "\udc00\ud800", "pair": "\ud83d\ude00"}


@pytest.mark.parametrize("text", HALVES.values(), ids=HALVES)
def test_half_a_character_ends_nothing(servers, tmp_path, text):
    server = servers(completion(json.dumps({"rating": 7, "reason": f"it says {text}"}), model=f"m{text}"))
    judge = judge_of(server, cache=tmp_path)
    got = judge_all([judge], [f"question {text}"], [f"answer {text}"])
    assert got["verdict"].all()
    assert got["note"][0].startswith("it says ")
    for column in ("questions", "answers", "note"):
        got[column][0].encode()
    got.to_parquet(tmp_path / "table")
    assert judge_all([judge], [f"question {text}"], [f"answer {text}"]).equals(got)
    assert len(server.seen) == 1
    assert json.loads(server.seen[0][2]["messages"][1]["content"]) == {
        "question": whole(f"question {text}"),
        "answer": whole(f"answer {text}"),
    }


def test_half_a_character_is_replaced_and_two_halves_are_joined():
    assert texts(["a\ud800b"], ["\ud83d\ude00"]) == (["a\ufffdb"], ["\U0001f600"])
    assert whole("\ud83d") == "\ufffd"
    assert whole("\ud83d!") == "\ufffd!"
    assert whole("\udc00\ud800") == "\ufffd\ufffd"


def test_the_cache_writes_any_text(tmp_path):
    cache = RatingCache(tmp_path)
    rated = Rated(rating=3.0, reason="half \ud800 and é", model="\udfff")
    cache.put("k", rated, {"answer": "\ud83d"})
    assert cache.get("k") == rated
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert cache.get("deep") is None


@pytest.mark.parametrize("name", ["model", "rubric", "name"])
def test_half_a_character_in_an_argument(name):
    with pytest.raises(errors.BadInput, match="lone surrogate"):
        EndpointJudge(**{"url": "https://host.example", "model": "m", name: "x\ud800"})
    with pytest.raises(errors.BadInput, match="lone surrogate"):
        EndpointJudge("https://host.example", "m", extra={"stop": ["\udfff"]})


@pytest.mark.parametrize(
    "value", [10**400, 2**63, -1, -(10**400), math.nan, math.inf, "30", "", None, True, 3.5, [], {}], ids=lambda v: str(v)[:12]
)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_usage_that_cannot_be_true(servers, tmp_path, name, value):
    usage = {"prompt_tokens": 30, "completion_tokens": 10, name: value}
    server = servers(completion('{"rating": 7}', usage=usage))
    got = judge_of(server, price_in=1.0, price_out=2.0).judge(["q"], ["a"])
    assert got["score"].tolist() == [0.7]
    used = got.attrs["usage"]
    assert (used["prompt_tokens"], used["completion_tokens"]) == (0, 0)
    assert math.isnan(used["cost"])
    assert used["note"].startswith("1 replies do not say how many tokens they took")
    judge = judge_of(server, price_in=1.0, price_out=2.0, budget=1.0, concurrency=1, cache=tmp_path)
    with pytest.raises(BudgetExceeded, match="a budget of 1 cannot be kept: 1 replies do not say"):
        judge.judge(["q"] * 3, ["a", "b", "c"])
    assert judge.estimate(["q"] * 3, ["a", "b", "c"]).cached == 1
    free = judge_of(server, price_in=0.0, price_out=0.0, budget=1.0).judge(["q"], ["a"])
    assert free.attrs["usage"]["cost"] == 0


@pytest.mark.parametrize("usage", ["none", [30, 10], 7])
def test_a_usage_that_is_none(servers, usage):
    server = servers(completion('{"rating": 7}', usage=usage))
    assert math.isnan(judge_of(server, price_in=1.0, price_out=1.0).judge(["q"], ["a"]).attrs["usage"]["cost"])
    server.rule = GOOD
    used = judge_of(server, price_in=1.0, price_out=1.0).judge(["q"], ["a"]).attrs["usage"]
    assert used["cost"] == pytest.approx(40e-6)
    assert used["note"] == ""


def test_long_replies_are_read_once():
    """Each of these took time in the square of its length, or worse."""
    many = "<think>" * (LONG // 7)
    with pytest.raises(MalformedReply, match="the thought has no end"):
        parse_rating(many)
    assert parse_rating(many + '</think>{"rating": 4}')[0] == 4
    assert parse_rating("<think></think>" * (LONG // 15) + "6")[0] == 6
    for filler in (" ", "\n", "1", "1.", "rating", "rating ", "{", '{"rating":', "</think>", '"', "-", "/ 10 "):
        with pytest.raises(MalformedReply):
            parse_rating("rating 3 " + filler * (LONG // len(filler)) + " x")


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ('<think>maybe {"rating": 1}</think>{"rating": 9}', 9),
        ("<think>3</think>7", 7),
        ("<thinking>a<think>b</thinking>7", 7),
        ("one, two: 3</think>\n\n8", 8),  # the chat template has begun the thought
        ('maybe {"rating": 1}</think>{"rating": 9}', 9),
        ('{"rating": 9}<think>or {"rating": 1}?</think>', 9),
        ('{"rating": 8, "reason": "it ends with </think> and no more"}', 8),
        ('{"rating": 8, "reason": "it begins with <think> and no more"}', 8),
        ('<think>{"rating": 3}', None),
        ('  <think>a</think><think>{"rating": 3}', None),
        ('{"rating": 3}</think>', None),
        ('{"rating": 3}</think>  ', None),
    ],
)
def test_thoughts_are_no_answers(text, rating):
    if rating is None:
        with pytest.raises(MalformedReply, match=r"the thought has no end|nothing follows the thought"):
            parse_rating(text)
    else:
        assert parse_rating(text)[0] == rating


def test_an_answer_is_judged_without_its_thought(servers):
    server = servers()
    answers = ["<think>I refuse</think>Here you are.", "<think>I wonder", "Here you are.", "<think>I refuse</think> "]
    judge = judge_of(server)
    got = judge.judge(["q"] * 4, answers)
    assert got["verdict"].isna().tolist() == [False, True, False, True]
    assert got["thought"].tolist() == ["closed", "unfinished", "", "closed"]
    assert got["note"].tolist() == [
        "declines",
        "the thought has no end, so that there is no answer",
        "declines",
        "nothing follows the thought",
    ]
    assert [json.loads(body["messages"][1]["content"])["answer"] for _, _, body in server.seen] == ["Here you are."]
    assert (judge.estimate(["q"] * 4, answers).requests, judge.estimate(["q"] * 4, answers).blank) == (1, 2)


# ---- the package


def test_without_the_package_it_says_what_to_install(monkeypatch):
    for name in ("address", "sending", "transport"):
        monkeypatch.delitem(sys.modules, f"{judges.__name__}.{name}", raising=False)
        monkeypatch.delattr(judges, name, raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(errors.MissingTool, match=r"needs the package openai.*pip install 'workbench-interp\[judge\]'"):
        EndpointJudge("https://host.example", "m")
    assert judges.RefusalPhrases().judge(["q"], ["a"])["verdict"].tolist() == [False]


def test_an_old_package_is_refused(monkeypatch):
    import openai

    monkeypatch.delitem(sys.modules, f"{judges.__name__}.sending", raising=False)
    monkeypatch.delattr(judges, "sending", raising=False)
    monkeypatch.setattr(openai, "__version__", "3.9.0")
    with pytest.raises(errors.MissingTool, match=r"version 3\.57 or later"):
        EndpointJudge("https://host.example", "m")


def test_the_package_is_imported_for_a_judge_only():
    """What stands at the top of a module is imported with the room."""
    need = {"address", "sending", "transport"}
    for path in Path(judges.__file__).parent.glob("*.py"):
        if path.stem not in need:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                    assert not names & (need | {"openai", "httpx", "httpx2", "httpcore2"}), path.name


def test_more_bad_arguments():
    for how, match in (
        ({"longest_pause": 121.0}, "longest_pause=121: 120 seconds at most"),
        ({"deadline": 0.0}, "deadline=0.0: a positive number"),
        ({"temperature": math.nan}, "temperature=nan: a finite number"),
        ({"extra": {"x": math.nan}}, "as JSON"),
    ):
        with pytest.raises(errors.BadInput, match=match):
            EndpointJudge("https://host.example", "m", **how)
