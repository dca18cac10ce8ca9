"""A generation option is declared in one place: HTTP, presets, storage and responses take it from there."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from serve_app.api.schemas.submissions import SubmitRequest
from serve_app.api.schemas.tasks import TaskInfo
from tests.service import ROOT, environment
from wan22_bridge.options import GenerationOptions
from wan22_bridge.requests import GenerationRequest
from wan22_bridge.types import GenerationParams

_DECLARATIONS = "wan22_bridge/options.py"
_PACKAGES = ("serve_app", "deployments", "wan22_bridge", "configs")

_SUBMIT_AND_READ = """
import json
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1])).with_absolute_paths()
settings.data_dir.mkdir()
services = Services.open(settings, dispatcher=None, downloader=None)
client = TestClient(make_api(services))


def submit(**fields):
    response = client.post("/api/v1/generation/submit", json={"prompt": "a cat", "model_type": "t2v"} | fields)
    if response.status_code != 200:
        return response.json()["error"]
    task_id = response.json()["task_id"]
    params = services.store.reader.get(task_id).params.to_dict()
    return client.get(f"/api/v1/generation/{task_id}").json() | {"params": params}


described = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
answers = {
    "given": submit(sharpness=0.7),
    "left out": submit(),
    "invalid": submit(sharpness=-1),
    "described": described["application/json"]["schema"]["properties"]["sharpness"],
}
print(json.dumps(answers))
"""


def test_an_added_line_in_the_declaration_is_an_option_everywhere(tmp_path: Path) -> None:
    """Adds one line to a copy of the packages, and submits jobs to that copy by HTTP."""
    for name in _PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    declarations = tmp_path / _DECLARATIONS
    source = declarations.read_text()
    line = "    sharpness: Annotated[float, Field(ge=0, description='Sharpness of edges.')] = 0.25\n"
    declarations.write_text(re.sub(r"(?m)^(    scheduler: )", line + r"\1", source, count=1))

    done = subprocess.run(
        [sys.executable, "-c", _SUBMIT_AND_READ, str(tmp_path / "data")],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers["given"]["sharpness"] == answers["given"]["params"]["sharpness"] == 0.7
    assert answers["left out"]["sharpness"] == answers["left out"]["params"]["sharpness"] == 0.25
    assert (answers["invalid"]["code"], answers["invalid"]["param"]) == ("invalid_value", "sharpness")
    assert answers["described"]["description"] == "Sharpness of edges."
    assert (answers["described"]["minimum"], answers["described"]["default"]) == (0, 0.25)


def test_requests_parameters_and_bodies_have_every_option() -> None:
    options = {item.name for item in fields(GenerationOptions)}
    for kind in (GenerationRequest, GenerationParams):
        assert options <= {item.name for item in fields(kind)}
    for body in (SubmitRequest, TaskInfo):
        assert options <= set(body.model_fields)


@pytest.mark.parametrize("name", ["flow_shift", "step_cache", "scheduler", "negative_prompt"])
def test_no_list_outside_the_declaration_names_an_option(name: str) -> None:
    """Options without rules of their own are named by the pipeline that uses them, and by the catalogue's defaults."""
    converting = [
        *(ROOT / "serve_app" / "api").rglob("*.py"),
        *(ROOT / "deployments" / "jobs").rglob("*.py"),
        *(ROOT / "wan22_bridge" / "requests").rglob("*.py"),
        ROOT / "wan22_bridge" / "types.py",
    ]
    assert re.search(rf"(?m)^    {name}: ", (ROOT / _DECLARATIONS).read_text())
    found = {path for path in converting if re.search(rf"[\"'.]{name}\b|\b{name} *[=:]", path.read_text())}
    assert found <= {ROOT / "serve_app" / "api" / "schemas" / "served_models.py"}
