"""Fixtures: tiny models in five architectures, and a guard against leaks of global state."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import atexit
import shutil
import signal
import tempfile
from pathlib import Path

# a job that a shell starts in the background ignores Ctrl-C, and so would all its children
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# one cache for the whole suite, also for its workers and the notebooks and commands that it starts: a capture is made once
if "PYTEST_XDIST_WORKER" not in os.environ:
    # real models stay where `workbench get` has put them
    _REAL = os.environ.get("WORKBENCH_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "workbench"
    os.environ["WORKBENCH_TESTS_WEIGHTS"] = str(Path(_REAL).expanduser() / "weights")
    _CACHE = tempfile.mkdtemp(prefix="workbench-tests-")
    os.environ["WORKBENCH_CACHE"] = _CACHE
    atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
else:  # two processes of two threads each on two cores take ten times as long as of one each
    os.environ["OMP_NUM_THREADS"] = "1"

from jaxtyping import install_import_hook

install_import_hook("workbench", "typecheck_conf.check")

import numpy as np
import pytest
import torch
from jaxtyping import config as shapes

# whole runs of studies, trained organisms, notebooks: there the checks of every call double the time and see nothing new
WHOLE = ("studies", "runs", "organism", "test_notebooks", "test_readme", "test_cli")
SHARED = Path(__file__).resolve().parents[2] / "shared"
ARCHITECTURES = ("gpt2", "llama", "gemma2", "qwen2", "neox")


# by time taken; a file goes to a worker as a whole (pytest-xdist, --dist loadfile), for its tests share fixtures
LONG = (
    "test_notebooks",
    "test_contract",
    "test_docs",
    "test_pushing_studies",
    "test_sweeps",
    "test_organism",
    "test_harm_safety",
    "test_geometry_study",
    "test_parallel",
    "test_udhr_study",
    "test_readme",
    "test_own_statements",
    "test_probes_study",
)


def pytest_collection_modifyitems(items):
    """Begin with what takes long, so that no worker is left alone with it."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Check shapes and types at run time in unit tests; before any fixture is set up."""
    place = item.path.relative_to(Path(__file__).parent)
    shapes.update("jaxtyping_disable", place.parts[0].removesuffix(".py") in WHOLE)


def _state() -> tuple:
    # not `random`: beartype, which checks types here, draws from it (test_architecture sees that the package does not)
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        torch.random.get_rng_state().numpy().tobytes(),
        numpy_state[1].tobytes(),
        numpy_state[2],
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


@pytest.fixture(autouse=True)
def leak_guard(request):
    """No test leaves global randomness, grad mode, hooks of ours or a shared model's weights other than it found them."""
    from workbench.models.digest import weights_digest
    from workbench.models.hooks import attached_hooks

    before = _state()
    shared = [request.getfixturevalue(name) for name in ("organism", "tiny", "calm") if name in request.fixturenames]
    digests = [weights_digest(m) for m in shared]
    yield
    names = ("torch's generator", "numpy's generator", "numpy's position", "grad mode", "thread count")
    changed = [name for name, a, b in zip(names, before, _state(), strict=True) if a != b]
    assert not changed, f"the test left changed: {', '.join(changed)}"
    assert attached_hooks() == 0, "the test left a hook attached"
    assert [weights_digest(m) for m in shared] == digests, "the test changed a shared model's weights"


@pytest.fixture
def one_thread():
    """Bits are the same only at the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kept():
    """Keep what takes long to make (trained models) between runs of the suite, by what it is made of: code, data, versions."""
    from workbench.core.provenance import content_hash, source_hash, versions
    from workbench.models.outline import folder_content
    from workbench.runs.cache import Cache

    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench-tests"
    data = Path(__file__).resolve().parents[1] / "data"
    made_of = source_hash(only=("core/", "models/", "prompts/", "organism/")), folder_content(data), versions(), torch.get_num_threads()

    def keep(name, make):
        cache = Cache(root)
        path = root / "folders" / f"{name}-{content_hash(*made_of)}"
        try:
            there = cache.whole(path)
        except Exception:  # damaged: it is made again
            there = False
        if not there:
            cache.fill(path, make)
        return path

    return keep


@pytest.fixture(scope="session")
def organism():
    import workbench as wb

    return wb.load_model("bundled", device="cpu")


@pytest.fixture(scope="session")
def words():
    """A byte-level tokenizer that writes the answer words as single tokens."""
    from workbench.organism.train import make_tokenizer

    text = ["Statement: do you agree? Answer: yes no A B Sorry Sure true false women have the right to rest"] * 50
    return make_tokenizer(text, 400)


def tiny_model(kind: str, vocab: int, *, layers: int = 3, seed: int = 0, std: float | None = 0.15):
    """A tiny Hugging Face model with random weights, q and k times 20 so that faults of attention show.

    At the default `std` scores reach hundreds and float32 itself is off by 1e-4 (`std=None`: as Hugging Face draws them).
    """
    import transformers as tf

    common = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    rotary = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, **common,
    }  # fmt: skip
    configs = {
        "gpt2": lambda: tf.GPT2Config(n_embd=32, n_layer=layers, n_head=4, n_positions=256, **common),
        "llama": lambda: tf.LlamaConfig(**rotary),
        "gemma2": lambda: tf.Gemma2Config(**rotary, head_dim=8, sliding_window=8, query_pre_attn_scalar=8),
        "qwen2": lambda: tf.Qwen2Config(**rotary),
        "neox": lambda: tf.GPTNeoXConfig(**{k: v for k, v in rotary.items() if k != "num_key_value_heads"}),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = tf.AutoModelForCausalLM.from_config(configs[kind](), attn_implementation="eager")
        for parameter in model.parameters():
            if parameter.ndim > 1 and std is not None:
                torch.nn.init.normal_(parameter, std=std)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and any(k in name for k in ("q_proj", "k_proj")):
                parameter.mul_(20)
            elif "c_attn.weight" in name:  # GPT-2 keeps q, k, v side by side in columns
                parameter[:, :64] *= 20
            elif "query_key_value.weight" in name:  # NeoX keeps them per head in rows
                parameter.view(4, 3, 8, 32)[:, :2] *= 20
    return model.eval()


@pytest.fixture(scope="session", params=ARCHITECTURES)
def tiny_pair(request, words):
    """(name, Hugging Face copy, Bridge) of one architecture; booting changes the model it is given, so there are two."""
    from workbench.models import wrap

    bos = None if request.param == "qwen2" else 0
    bridge = wrap(tiny_model(request.param, len(words)), words, name=request.param, bos=bos, device="cpu")
    return request.param, tiny_model(request.param, len(words)), bridge


@pytest.fixture(scope="session", params=ARCHITECTURES)
def sharp(request, words):
    """(name, Bridge) of one architecture, drawn as Hugging Face draws, q and k times 20."""
    from workbench.models import wrap

    bos = None if request.param == "qwen2" else 0
    return request.param, wrap(tiny_model(request.param, len(words), std=None), words, name=request.param, bos=bos, device="cpu")


@pytest.fixture(scope="session")
def tiny(words):
    from workbench.models import wrap

    return wrap(tiny_model("llama", len(words)), words, name="tiny llama", bos=0, device="cpu")


@pytest.fixture(scope="session")
def calm(words):
    """Like `tiny`, drawn as Hugging Face draws: two ways of computing agree to 1e-5."""
    from workbench.models import wrap

    return wrap(tiny_model("llama", len(words), std=None), words, name="tiny llama", bos=0, device="cpu")


@pytest.fixture(scope="session")
def stories():
    import workbench as wb

    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("shared/models/stories260K is not here")
    return wb.load_model(str(folder), device="cpu")


@pytest.fixture(scope="session")
def smollm2_folder():
    folder = Path(os.environ["WORKBENCH_TESTS_WEIGHTS"]) / "smollm2"
    if not (folder / "source.json").is_file():
        pytest.skip("smollm2 was not fetched: workbench get smollm2")
    return folder


@pytest.fixture(scope="session")
def smollm2(smollm2_folder):
    """A real model, where it was fetched: SmolLM2-135M-Instruct."""
    import warnings

    import workbench as wb

    with warnings.catch_warnings():  # it declares a beginning of text that its tokenizer does not write
        warnings.simplefilter("ignore")
        return wb.load_model(str(smollm2_folder), device="cpu")


@pytest.fixture(scope="session")
def gemma_folder(tmp_path_factory, words):
    """A folder as save_pretrained writes it: tiny random Gemma-2 with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gemma"
    tiny_model("gemma2", len(words), layers=2).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def ragged():
    """Items of very different lengths, each text three times."""
    texts = ["rest", "women have the right to rest", "do you agree? " * 6 + "Statement", "no"]
    from workbench.prompts import ContrastPair, PromptSet

    return PromptSet(
        ContrastPair(stem=f"{t}? Answer:", negative=" no", positive=" yes", label=i % 2, identity=str(i)) for i, t in enumerate(texts * 3)
    )


@pytest.fixture(scope="session")
def branching():
    """A trie with prefixes on three levels, stems shared by pairs, one prompt inside another, longer than Gemma's window of 8."""
    heads = ["Statement: women have the right to rest. do you agree? Answer: yes Statement:", "Statement: do you"]
    middles = [" women have the right", " rest", " do you agree? true or false? Statement: rest have the"]
    tails = [" to rest?", " to", " agree? have the right? do you agree to rest?"]
    from workbench.prompts import ContrastPair, PromptSet

    return PromptSet(
        ContrastPair(
            stem=f"{h}{m}{t} Answer:", negative=" no", positive=" yes", label=(i + j + k) % 2, identity=f"{i}{j}", group="ab"[i],
            instruction_end=len(h + m),
        )
        for i, h in enumerate(heads) for j, m in enumerate(middles) for k, t in enumerate(tails)
    )  # fmt: skip


@pytest.fixture
def documented():
    """Check a run's report: findings link to tables, captions state n and interval, figures are drawn from their csv."""

    import json

    from workbench.runs.render import load_document

    def check(run):
        document = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
        assert [f["text"] for f in document["findings"] if not f["tables"]] == [], "a finding without a table"
        assert [p["name"] for p in document["panels"] if "n=" not in p["caption"]] == [], "a caption without n"
        assert [p["name"] for p in document["panels"] if "interval" not in p["caption"].lower()] == [], (
            "a caption without a word on the interval"
        )
        _, _, panels = load_document(run.folder)
        for panel in panels:
            assert panel.figure.layout.title.text
            assert (run.folder / "figures" / f"{panel.name}.html").is_file()

    return check
