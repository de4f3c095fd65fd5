"""SAELens's trainers: the one place that imports SAELens. It is an extra (`pip install 'workbench-interp[features]'`).

SAELens's `SAETrainer` takes its batches from outside and makes one step at a time, so it is fed from the capture engine here. Its own
checkpoints are pickles; what it needs to go on (parameters, Adam's moments, counters) is kept in safetensors and json instead.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..core.errors import BadInput, DamagedStore, MissingTool
from ..core.seeds import derive
from ..core.types import Float, Tensor
from ..core.whole import replacing

KINDS = ("standard", "gated", "topk", "batchtopk", "jumprelu", "matryoshka")
SPARSE = {"standard": "l1_coefficient", "gated": "l1_coefficient", "jumprelu": "l0_coefficient"}  # what `penalty` is called there
TRAINER = ("act_freq_scores", "n_forward_passes_since_fired")


def _sae_lens() -> Any:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import sae_lens
            import sae_lens.saes
            from sae_lens.config import SAETrainerConfig
            from sae_lens.training.sae_trainer import SAETrainer
    except ImportError as error:
        raise MissingTool(
            f"SAELens trains dictionaries, and it cannot be imported ({error}). Install it with: pip install 'workbench-interp[features]' "
            "(it needs TransformerLens below 4). Without it dictionaries that are there can be loaded, reported on, decomposed with and "
            "steered with"
        ) from None
    return sae_lens, SAETrainerConfig, SAETrainer


class Trainer:
    """One dictionary in training, step by step.

    Args:
        kind: One of `KINDS`.
        d_in, width: Of the activations, and latents.
        k: Latents per row, for "topk", "batchtopk" and "matryoshka".
        penalty: Coefficient of the sparsity loss, for "standard", "gated" and "jumprelu".
        steps, batch: How long it will be trained, in steps and rows per step.
        rate: Learning rate; it warms up over a tenth of the steps and falls to 0 over the last fifth.
        seed: Draws the first weights.
        centre: Where b_dec begins.

    Raises:
        MissingTool: SAELens is not installed.
        BadInput: No such kind.
    """

    def __init__(
        self,
        kind: str,
        d_in: int,
        width: int,
        *,
        k: int,
        penalty: float,
        steps: int,
        batch: int,
        rate: float,
        seed: int,
        centre: Float[Tensor, " d_in"],
    ) -> None:
        sae_lens, config, trainer = _sae_lens()
        if kind not in KINDS:
            raise BadInput(f"kind {kind!r}: there are {', '.join(KINDS)}")
        name = {"standard": "Standard", "gated": "Gated", "topk": "TopK", "batchtopk": "BatchTopK", "jumprelu": "JumpReLU"}.get(kind)
        name = name or "MatryoshkaBatchTopK"
        own: dict[str, Any] = {SPARSE[kind]: penalty} if kind in SPARSE else {"k": k}
        if kind in ("standard", "gated"):
            own["l1_warm_up_steps"] = steps // 10
        if kind == "jumprelu":
            own |= {"l0_warm_up_steps": steps // 4, "jumprelu_bandwidth": 0.1, "jumprelu_init_threshold": 0.1}
        if kind == "matryoshka":
            own["matryoshka_widths"] = sorted({max(1, width // 4), max(1, width // 2), width})
        if kind == "topk":
            own["use_sparse_activations"] = False
        classes = sae_lens.saes
        cfg = getattr(classes, f"{name}TrainingSAEConfig")(d_in=d_in, d_sae=width, apply_b_dec_to_input=True, **own)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(derive(seed, "dictionary", kind))
            self.sae = getattr(classes, f"{name}TrainingSAE")(cfg)
            self.sae.b_dec.data.copy_(centre)
            self.trainer = trainer(
                config(
                    total_training_samples=steps * batch,
                    train_batch_size_samples=batch,
                    lr=rate,
                    lr_end=rate,
                    lr_warm_up_steps=steps // 10,
                    lr_decay_steps=steps // 5,
                    dead_feature_window=max(50, steps // 20),
                ),
                self.sae,
                iter(()),
            )

    def step(self, rows: Float[Tensor, "row d_in"]) -> dict[str, float]:
        """Take one step on some rows.

        Args:
            rows: Activations as the dictionary sees them.

        Returns:
            The losses by name.
        """
        with torch.enable_grad():
            out = self.trainer.step(rows)
        self.trainer.n_training_steps += 1
        return {name: float(v.detach() if isinstance(v, Tensor) else v) for name, v in out.losses.items()}

    def finished(self, scale: float) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return configuration and tensors as SAELens writes them for use, for activations in raw units.

        Args:
            scale: What activations were multiplied with for training.
        """
        with torch.no_grad():
            self.sae.fold_activation_norm_scaling_factor(scale)
            state = {name: v.detach().clone() for name, v in self.sae.state_dict().items()}
            self.sae.process_state_dict_for_saving_inference(state)
        return self.sae.cfg.get_inference_sae_cfg_dict(), {name: v.detach().float() for name, v in state.items()}

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write what it needs to go on.

        Args:
            path: The file.
            about: What was trained on what; a file of something else is not resumed.
        """
        t = self.trainer
        tensors = {f"sae.{n}": v for n, v in self.sae.state_dict().items()} | {f"trainer.{n}": getattr(t, n) for n in TRAINER}
        for k, moments in t.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{k}.{n}": torch.as_tensor(v) for n, v in moments.items()}
        facts = {
            "about": dict(about),
            "steps": t.n_training_steps,
            "samples": t.n_training_samples,
            "schedule": t.lr_scheduler.state_dict(),
            "rates": [g["lr"] for g in t.optimizer.param_groups],
            "coefficients": {n: s.state_dict() for n, s in t.coefficient_schedulers.items()},
        }
        with replacing(path) as temporary:
            save_file(
                {n: v.detach().contiguous() for n, v in tensors.items()}, str(temporary), metadata={"state": json.dumps(facts, default=str)}
            )

    def resume(self, path: Path, about: Mapping[str, Any]) -> int:
        """Go on from a file, if it is of the same training.

        Args:
            path: What `save` wrote.
            about: What is trained on what now.

        Returns:
            Steps that are done; 0 where there is no such file, or it is of something else.

        Raises:
            DamagedStore: The file cannot be read.
        """
        if not path.is_file():
            return 0
        try:
            with safe_open(str(path), framework="pt") as file:
                facts = json.loads((file.metadata() or {})["state"])
                if facts["about"] != json.loads(json.dumps(dict(about), default=str)):
                    return 0
                tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise DamagedStore(f"{path.name} cannot be read ({type(error).__name__}): delete it to begin anew") from None
        t = self.trainer
        self.sae.load_state_dict({n.removeprefix("sae."): v for n, v in tensors.items() if n.startswith("sae.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for n, v in tensors.items():
            if n.startswith("adam."):
                _, k, name = n.split(".")
                moments.setdefault(int(k), {})[name] = v
        state = t.optimizer.state_dict()
        t.optimizer.load_state_dict({**state, "state": moments})
        t.lr_scheduler.load_state_dict(facts["schedule"])
        for group, rate in zip(t.optimizer.param_groups, facts["rates"], strict=True):
            group["lr"] = rate
        for name, own in facts["coefficients"].items():
            t.coefficient_schedulers[name].load_state_dict(own)
        for name in TRAINER:
            setattr(t, name, tensors[f"trainer.{name}"])
        t.n_training_steps, t.n_training_samples = facts["steps"], facts["samples"]
        return int(facts["steps"])
