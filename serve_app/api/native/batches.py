"""The native API's routes for batches: the jobs that one request made."""

from fastapi import APIRouter

from serve_app.api.access.callers import Reading, Submitting
from serve_app.api.schemas.batches import BatchInfo
from serve_app.api.schemas.seeds import MAX_OUTPUTS
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1/batches", tags=["batches"])


@router.get("/{batch_id}")
async def read_batch(batch_id: str, serving: Serving, caller: Reading) -> BatchInfo:
    """Returns a batch with all of its jobs.

    A request with `num_outputs` or `seeds` for several videos makes a batch.
    """
    find = serving.store.batches.find
    return await serving.read(lambda: BatchInfo.of(find(batch_id, owner=caller.only)), rows=MAX_OUTPUTS)


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, serving: Serving, caller: Submitting) -> BatchInfo:
    """Cancels the pending jobs of a batch at once, and its running jobs within one denoising step.

    Jobs that have ended stay as they are. Responds 409 if all jobs have ended.
    """
    return BatchInfo.of(serving.store.batches.request_cancel(batch_id, owner=caller.only))
