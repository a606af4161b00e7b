"""Every solver of the catalogue as a scheduler of diffusers.

.. code-block:: python

    from scoresde.integrations.diffusers import Scheduler

    pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver="unipc-3")

Saved pipelines name this module; it does not move.
"""

from __future__ import annotations

# Loading a pipeline looks for it beside Scheduler.
from diffusers.schedulers.scheduling_utils import SchedulerMixin as SchedulerMixin

from scoresde.integrations.diffusers.scheduler import Scheduler, StepOutput

Scheduler.__module__ = StepOutput.__module__ = __name__  # what save_pretrained writes into model_index.json

__all__ = ["Scheduler", "StepOutput"]
