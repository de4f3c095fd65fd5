import json

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
    assert source_hash() == source_hash()
