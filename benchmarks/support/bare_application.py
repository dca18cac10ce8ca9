"""The baseline of start.py: a Ray Serve application that answers one word and imports nothing else."""

from ray import serve


@serve.deployment
class Bare:
    """Answers every request."""

    async def __call__(self, _request: object) -> str:
        """Returns the answer."""
        return "ready"


app = Bare.bind()  # type: ignore[attr-defined]
