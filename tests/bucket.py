"""A bucket for tests, served over HTTP with the interface of S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def serving_bucket() -> Iterator[str]:
    """Serves an empty bucket, sets the environment for it, and yields its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            endpoint = "http://{}:{}".format(*server.get_host_and_port())
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
            for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(variable, "test")
            patch.setenv("AWS_REGION", "us-east-1")
            name = f"videos-{uuid4().hex}"  # all such servers in a process share their buckets
            assert httpx.put(f"{endpoint}/{name}").is_success
            yield f"s3://{name}/wan22"
    finally:
        server.stop()
