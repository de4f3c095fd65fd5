import json
import sys
from types import ModuleType

from workbench.core.provenance import content_hash, provenance, redact, source_hash, versions


def test_credentials_are_left_out():
    dirty = {
        "hf_token": "abc",
        "nested": [{"api_key": "x"}],
        "url": "https://me:secret@host/x",
        "text": "use hf_abcdefghijkl now",
        "tokens": 12,
        "path": "plain",
    }
    clean = json.dumps(redact(dirty))
    for secret in ("abc", '"x"', "secret", "hf_abcdefghijkl"):
        assert secret not in clean
    assert redact(dirty)["tokens"] == 12
    assert redact(dirty)["path"] == "plain"


def test_record_names_versions_and_no_path():
    record = provenance(model="m")
    assert record["versions"]["torch"] == versions()["torch"]
    assert set(record["code"]) == {"commit", "dirty"}
    assert "/" not in json.dumps({k: v for k, v in record.items() if k != "versions"})


def test_content_hash():
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_the_source_hash_sees_a_line_and_only_where_it_is_asked_to_look(tmp_path, monkeypatch):
    """A package of three files; the hash is kept within a process, so each look is at a copy under another name."""

    def look(name, change=None, **how):
        folder = tmp_path / name
        for file, text in {"a/x.py": "x = 1\n", "b/y.py": "y = 2\n", "b/note.txt": "1"}.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(change[1] if change and change[0] == file else text)
        module = ModuleType(name)
        module.__file__ = str(folder / "__init__.py")
        monkeypatch.setitem(sys.modules, name, module)
        return source_hash(name, **how)

    whole = look("one")
    assert look("two") == whole, "where it lies does not count"
    assert look("three", ("a/x.py", "x = 3\n")) != whole
    assert look("four", ("b/note.txt", "2")) == whole, "only code counts"
    assert look("five", ("b/y.py", "y = 3\n"), only=("a/",)) == look("six", only=("a/",))
    assert look("seven", ("b/y.py", "y = 3\n"), without=("b/",)) == look("eight", without=("b/",))
    assert look("nine", ("a/x.py", "x = 3\n"), without=("b/",)) != look("ten", without=("b/",))
