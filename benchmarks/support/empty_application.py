"""The baseline of api.py: a FastAPI handler that does nothing."""

from fastapi import FastAPI
from ray import serve

api = FastAPI()


@api.get("/")
async def answer() -> dict[str, str]:
    """Returns an empty object."""
    return {}


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
@serve.ingress(api)
class Empty:
    """Serves the handler."""


app = Empty.bind()  # type: ignore[attr-defined]
