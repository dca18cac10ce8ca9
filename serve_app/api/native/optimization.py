"""The native API's routes for the stored defaults of optimizations, and for the plans that are in use."""

from fastapi import APIRouter

from deployments.jobs.optimization_defaults import OptimizationDefaults
from serve_app.api.access.callers import NEEDS_READ, Administering
from serve_app.api.schemas.optimization import OptimizationBody, OptimizationChange, OptimizationStatus
from serve_app.api.services import Serving
from wan22_bridge.errors import InvalidRequest

router = APIRouter(prefix="/api/v1/system/optimization", tags=["system"])


@router.get("", dependencies=[NEEDS_READ])
def read_optimization(serving: Serving) -> OptimizationBody:
    """Returns the stored defaults of optimizations. They apply to requests that leave the values open."""
    return OptimizationBody.of(OptimizationDefaults.read(serving.store.settings))


@router.post("")
def change_optimization(change: OptimizationChange, serving: Serving, caller: Administering) -> OptimizationBody:
    """Changes the stored defaults of requests that are submitted from now on, and returns all of them.

    The defaults outlive a restart of the service. A request that sets a value itself keeps it. A quantization in which
    no model is served is rejected, as in a submission.
    """

    caller.notes.update(change.model_dump(mode="json", exclude_unset=True))

    def apply(stored: OptimizationDefaults) -> OptimizationDefaults:
        defaults = change.apply(stored)
        try:
            serving.fitting.check_level(defaults.quantization)
        except InvalidRequest as exc:
            exc.param = "quantization"
            raise
        return defaults

    return OptimizationBody.of(OptimizationDefaults.change(serving.store.settings, apply))


@router.get("/status", dependencies=[NEEDS_READ])
def read_optimization_status(serving: Serving) -> OptimizationStatus:
    """Returns the stored defaults, and the optimizations with which each replica has its models loaded."""
    return OptimizationStatus.of(OptimizationDefaults.read(serving.store.settings), serving.replicas.all())
