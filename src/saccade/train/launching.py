"""The processes that train together, by accelerate: what a run's configuration says, whatever the environment says.

accelerate reads variables that a launcher, or an earlier run of one, left there. Those that would change the training
are overruled or refused: `Fit` alone decides.
"""

import logging
import os
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    TorchDynamoPlugin,
)

if TYPE_CHECKING:
    from saccade.train.loop import Fit

log = logging.getLogger(__name__)

OVERRULED = {  # variable: (the values that change nothing, what is asked instead)
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (("1",), "accumulate"),
    "ACCELERATE_DYNAMO_BACKEND": (("no",), "compile"),
    "ACCELERATE_MIXED_PRECISION": (("no", "bf16"), "precision"),
}
REFUSED = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


def process(*, cpu: bool = False) -> PartialState:
    """Which of the launched processes this is, on which device; without an accelerator they too find each other."""
    return PartialState(cpu=cpu or not torch.accelerator.is_available())


def accelerator(config: "Fit", *, cpu: bool = False) -> Accelerator:
    """accelerate's part of a run.

    Raises ValueError where the launcher chose to share out the weights its own way.
    """
    for name, (usual, own) in OVERRULED.items():
        if (value := os.environ.get(name, "")) and value.lower() not in usual:
            log.warning("%s=%s is not heeded; %s=%s of the run is", name, value, own, getattr(config, own))
    if AcceleratorState._shared_state.get("_mixed_precision") not in (None, config.precision):
        AcceleratorState._reset_state()  # an earlier run of this process chose another
    process(cpu=cpu)  # the first to be asked decides, for the accelerator too
    found = Accelerator(
        cpu=cpu,
        mixed_precision=config.precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # the loop divides by its own parts
        dynamo_plugin=TorchDynamoPlugin(backend="no"),  # type: ignore[arg-type]
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=config.find_unused)],
    )
    if found.distributed_type in REFUSED:
        raise ValueError(
            f"accelerate was launched with {found.distributed_type.value}, which this loop does not use; "
            "launch it without, and set shard=True to share out the weights"
        )
    return found
