"""Capture by several processes, on one machine or a cluster, through Ray (`pip install 'workbench-interp[ray]'`).

Every worker runs the same capture on the same store. The store's claims divide the shards among them, so that no schedule
is needed. A worker that dies frees the shard that it had claimed; Ray starts another, which computes what is missing.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from ..core.errors import BadInput, MissingTool, WorkerLost
from ..models.load import load_model
from ..prompts import PromptSet
from .activations import Activations
from .capture import capture


def capture_parallel(
    model: Any,
    prompts: PromptSet,
    *,
    store: str | Path,
    workers: int = 2,
    address: str | None = None,
    gpus_per_worker: float = 0,
    load: dict[str, Any] | None = None,
    **options: Any,
) -> Activations:
    """Capture with several processes, each with its own copy of the model, into one store.

    Args:
        model: A name or folder that every worker can load.
        prompts: Contrast pairs.
        store: A folder that every worker can write to.
        workers: Number of processes, at least 1; on this machine they share the threads.
        address: A Ray cluster's address; `None` for this machine.
        gpus_per_worker: GPUs that each worker needs.
        load: Further arguments of `load_model`.
        options: Further arguments of `capture`. The workers divide shards of `shard_items` items: choose it so that each
            worker gets several.

    Returns:
        Activations that are read from the store as needed, without workers.

    Raises:
        MissingTool: Ray is not installed.
        BadInput: As for `capture`, or the model is not a name or folder.
        WorkerLost: Workers died more often than Ray restarts them; the shards that they wrote are kept.
    """
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise MissingTool("capture_parallel needs Ray: pip install 'workbench-interp[ray]'") from None
    if workers < 1:
        raise BadInput(f"workers {workers}: 1 at least")
    if not isinstance(model, str | Path):
        raise BadInput("every worker loads the model for itself: give its name or folder, not a loaded model")
    layers = [options["layers"]] if isinstance(options.get("layers"), int) else options.get("layers")
    if layers is not None and min(layers, default=0) < 0:
        raise BadInput("count layers from 0 here")
    started = not ray.is_initialized()
    if started:
        local: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    threads = max(1, torch.get_num_threads() // workers) if address is None else 0
    try:
        task = ray.remote(num_cpus=1, num_gpus=gpus_per_worker, max_retries=3)(_work)
        ray.get([task.remote(str(model), prompts, str(Path(store).resolve()), threads, load or {}, options) for _ in range(workers)])
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        reason = str(error).splitlines()[0][:160]
        raise WorkerLost(
            f"the workers died more often than they are restarted ({reason}); what they wrote is kept, run it again"
        ) from error
    finally:
        if started:
            ray.shutdown()
    return Activations.load(store, prompts=prompts, layers=layers)


def _work(model: str, prompts: PromptSet, store: str, threads: int, load: dict[str, Any], options: dict[str, Any]) -> None:
    if threads:
        torch.set_num_threads(threads)
    capture(load_model(model, **load), prompts, store=store, **{"progress": False, **options})
