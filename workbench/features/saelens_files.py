"""Dictionaries on disk: SAELens's `cfg.json` with `sae_weights.safetensors`, read and written without SAELens, and Gemma Scope 2's files.

SAELens needs TransformerLens below 4; this reader does not need it. A file whose numbers would be read otherwise than they were meant (an
unknown architecture, a normalisation by a factor that is not in the file) is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..core.errors import BadInput, DamagedStore, GatedModel, NetworkNeeded, UnknownName
from ..core.paths import data_path
from ..core.provenance import redact
from ..core.types import Tensor
from ..core.whole import file_for, write_whole
from ..models.hooks import SITES

CFG, WEIGHTS, GEMMA = "cfg.json", "sae_weights.safetensors", "params.safetensors"
READ_AS = {
    "standard": "standard",
    "gated": "gated",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
}
NEEDS = {"standard": ("b_enc",), "topk": ("b_enc",), "jumprelu": ("b_enc", "threshold"), "gated": ("b_gate", "b_mag", "r_mag")}
MATRICES = ("W_enc", "W_dec", "b_dec")


def read(source: str, id: str = "") -> dict[str, Any]:
    """Read a dictionary; arguments and errors as for `Dictionary.load`.

    Args:
        source: A folder, "bundled", or a repository of the hub.
        id: The folder inside a repository.

    Returns:
        The arguments of `Dictionary`.

    Raises:
        UnknownName: There is no such folder or release.
    """
    if source == "bundled":
        return _read_folder(data_path("dictionaries", id or "udhr-organism"))
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _read_folder(folder / id if id else folder)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise UnknownName(
            f"no dictionary {source!r}: neither a folder that is here, nor 'bundled', nor a repository of the hub (OWNER/NAME). The names "
            "of SAELens's releases stand for repositories: give the repository, and the folder in it as id="
        )
    return _read_folder(_fetched(source, id))


def _fetched(repository: str, id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    inside = f"{id.strip('/')}/" if id else ""
    try:
        place = snapshot_download(repository, allow_patterns=[f"{inside}{name}" for name in (CFG, "config.json", WEIGHTS, GEMMA)])
    except GatedRepoError:
        raise GatedModel(f"{repository} asks for a licence: accept it on its page and log in (`hf auth login`)") from None
    except RepositoryNotFoundError:
        raise UnknownName(
            f"the hub has no repository {repository!r}. Give OWNER/NAME as it stands on the hub; the names of SAELens's releases stand for "
            "repositories, and its table of pretrained dictionaries says for which"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise NetworkNeeded(f"{repository} is not here and the hub cannot be reached ({type(error).__name__}); give a folder") from None
    folder = Path(place) / id
    if not folder.is_dir():
        raise UnknownName(
            f"{repository} has no folder {id!r} with a dictionary. id= is the path of one inside the repository, as its page on the hub "
            "lists them (resid_post/layer_9_width_16k_l0_medium)"
        )
    return folder


def _read_folder(folder: Path) -> dict[str, Any]:
    weights = next((folder / name for name in (WEIGHTS, GEMMA) if (folder / name).is_file()), None)
    settings = next((folder / name for name in (CFG, "config.json") if (folder / name).is_file()), None)
    if weights is None or settings is None:
        raise UnknownName(
            f"{folder} holds no dictionary: {CFG} and {WEIGHTS} (SAELens), or config.json and {GEMMA} (Gemma Scope 2){_beside(folder)}"
        )
    try:
        cfg = json.loads(settings.read_text(encoding="utf-8"))
        state = {name: v.float() for name, v in load_file(weights).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise DamagedStore(f"{folder.name} cannot be read as a dictionary ({type(error).__name__})") from None
    if weights.name == GEMMA:
        return _gemma(cfg, state, folder.name)
    return arguments(cfg, state, name=folder.name)


def _beside(folder: Path) -> str:
    """Which folders near by do hold one, for an error."""
    near = folder if folder.is_dir() else folder.parent
    names = sorted({p.parent.relative_to(near).as_posix() for name in (WEIGHTS, GEMMA) for p in near.glob(f"**/{name}")} - {"."})
    return f". There are: {', '.join(names[:5])}{', …' if len(names) > 5 else ''} (id=)" if names else ""


def _gemma(cfg: Mapping[str, Any], state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """Gemma Scope 2: JumpReLU with lower-case names."""
    renamed = {k.replace("w_", "W_"): v for k, v in state.items()}
    place = re.search(r"layer_(\d+)", name) or re.search(r"\.(\d+)\.", str(cfg.get("hf_hook_point_in", "")))
    hook = f"blocks.{place[1]}.hook_resid_post" if place else ""
    settings = {
        "architecture": "jumprelu",
        "apply_b_dec_to_input": False,
        "metadata": {"hook_name": hook, "model_name": cfg.get("model_name", "")},
    }
    return arguments(settings, renamed, name=name)


def arguments(cfg: Mapping[str, Any], state: Mapping[str, Tensor], *, name: str = "the dictionary") -> dict[str, Any]:
    """Return the arguments of `Dictionary` from what SAELens writes.

    Args:
        cfg: The content of `cfg.json`, of SAELens 6 or of earlier versions.
        state: The tensors by name.
        name: For errors.

    Returns:
        The arguments; where the metadata hold a record of this workbench, that is the provenance.

    Raises:
        BadInput: An architecture or a normalisation that cannot be read here.
        DamagedStore: A parameter is missing.
    """
    meta = cfg.get("metadata") or {}
    architecture = cfg.get("architecture", "standard")
    k = int(cfg.get("k") or 0)
    if (cfg.get("activation_fn_str") or cfg.get("activation_fn")) == "topk":  # before SAELens 6
        architecture, k = "topk", int((cfg.get("activation_fn_kwargs") or {}).get("k", k))
    if architecture not in READ_AS:
        raise BadInput(f"{name}: a dictionary of the architecture {architecture!r}; read are: {', '.join(READ_AS)}")
    normalisation = cfg.get("normalize_activations") or "none"
    if normalisation in ("expected_average_only_in", "covariance_whitening", True):
        raise BadInput(
            f"{name}: activations were normalised by {normalisation!r}, and the file does not hold by what. Fold it into the weights "
            "where it was trained (SAELens does at the end of training), and save it again"
        )
    if cfg.get("reshape_activations", "none") != "none":
        raise BadInput(f"{name}: its heads are to be joined ({cfg['reshape_activations']}), which is not read here")
    kind = READ_AS[architecture]
    state = dict(state)
    if "scaling_factor" in state and not bool((state.pop("scaling_factor") == 1).all()):
        raise BadInput(f"{name}: its latents have scaling factors of a fine-tuning, which are not read here")
    if "threshold" not in state and "topk_threshold" in state:  # a training checkpoint
        state["threshold"] = torch.ones_like(state["b_enc"]) * state["topk_threshold"]
    if lost := [n for n in (*MATRICES, *NEEDS[kind]) if n not in state]:
        raise DamagedStore(f"{name}: the weights of a {architecture} dictionary lack {', '.join(lost)}")
    trained = meta.get("training_architecture") or architecture
    return {
        "kind": kind,
        "encoder": state["W_enc"],
        "decoder": state["W_dec"],
        "bias": state["b_dec"],
        "vectors": {n: state[n] for n in NEEDS[kind]},
        "k": k if kind == "topk" else 0,
        "normalisation": normalisation,
        "subtract": bool(cfg.get("apply_b_dec_to_input", True)),
        "rescale": bool(cfg.get("rescale_acts_by_decoder_norm", False)) and kind == "topk",
        "trained_as": "" if trained == kind else str(trained),
        "provenance": meta.get("workbench") or _place({**cfg, **meta}),
    }


def _place(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Where a dictionary of somebody else belongs, as far as its metadata say."""
    hook = str(meta.get("hook_name") or meta.get("hook_point") or "")
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    sites = {name: site for site, name in SITES.items()}
    out: dict[str, Any] = {}
    if found and found[2] in sites:
        out |= {"site": sites[found[2]], "layer": int(found[1])}
    if meta.get("model_name"):
        out["model"] = {"name": str(meta["model_name"])}
    return out


def write(folder: Path, state: Mapping[str, Tensor], **facts: Any) -> None:
    """Write a dictionary as SAELens does.

    Args:
        folder: Where; made if it is not there.
        state: The parameters by SAELens's names.
        facts: Of `Dictionary`: `kind`, `k`, `normalisation`, `subtract`, `rescale`, `trained_as`, `provenance`.
    """
    known, kind = facts["provenance"], facts["kind"]
    hook = f"blocks.{known['layer']}.{SITES[known['site']]}" if known.get("site") in SITES and "layer" in known else None
    cfg: dict[str, Any] = {
        "architecture": kind,
        "d_in": state["W_enc"].shape[0],
        "d_sae": state["W_enc"].shape[1],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": facts["subtract"],
        "normalize_activations": facts["normalisation"],
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.0.0",  # the version of the format
            "hook_name": hook,
            "model_name": (known.get("model") or {}).get("name"),
            "training_architecture": facts["trained_as"] or kind,
            "workbench": redact(dict(known)),
        },
    }
    if kind == "topk":
        cfg |= {"k": facts["k"], "rescale_acts_by_decoder_norm": facts["rescale"]}
    with file_for(folder / WEIGHTS) as path:
        save_file({name: v.detach().cpu().contiguous() for name, v in state.items()}, str(path))
        write_whole(folder / CFG, json.dumps(cfg, indent=1, default=str) + "\n")
