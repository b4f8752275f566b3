"""Questions of the same kind are asked together in one provider call, and each gets its own answer out of it.

A question whose operation allows it waits for a moment for others with the same scope (same user and unit, operation, model,
parameters, partition, priority; `pipeline.batch_scope`), when others are to be expected (`core.batch_departure`). What has
gathered is put into one prompt (`core.batch_form`), equal ones once (`core.same_question`), and the answer is taken apart
strictly: what has no answer of the right form is asked alone, once, by whoever asked it.

- `stage`: the stage itself: who boards what, when it leaves, asking, and taking the answer apart.
- `flight`: one batch and those on board: boarding, leaving, riding, landing.
- `comparison`: some are asked alone, too, and the answers compared.
- `sharing`: what the one call took, divided between those on board.
- `singles`: calls that are asked alone.
"""

from aiorchd.stages.batch.stage import Batch, BatchStageStatistics

__all__ = ["Batch", "BatchStageStatistics"]
