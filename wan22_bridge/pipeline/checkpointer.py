"""Checkpoints of a generation: snapshots of its denoising loop, on the disk and in memory."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wan22_bridge.errors import RankLost, SnapshotRejected
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.snapshots import Snapshot, fingerprint, read_snapshot, write_snapshot
from wan22_bridge.types import Checkpoint, GenerationParams

logger = logging.getLogger(__name__)


class Checkpointer:
    """Takes the snapshots of one generation and finds the snapshot to resume from."""

    def __init__(
        self, model: LoadedModel, params: GenerationParams, loras: LoraRack, checkpoint: Checkpoint | None
    ) -> None:
        """Writes and reads no snapshot on the disk if `checkpoint` is None."""
        self._model = model
        self._params = params
        self._loras = loras
        self._checkpoint = checkpoint
        self._fingerprint = ""
        self._interrupted: Snapshot | None = None
        """State of the loop when memory ran out or a rank was lost."""
        self._done_before = 0
        """Step of the last attempt to write a snapshot, or the step that the run started at."""
        self._saved_at = 0.0
        self.saved_steps = 0
        """Steps in the last snapshot on the disk; 0 if there is none for this generation."""
        self.resumed_from_step = 0
        """Steps that an earlier process had done."""

    def find_snapshot(self) -> Snapshot | None:
        """Returns the snapshot that the next run resumes from; None for a run that starts at the first step."""
        # Computed for each run, because a change of plan changes the fingerprint.
        self._fingerprint = fingerprint(f"{self._model.weights} {self._loras.identity}".rstrip(), self._params)
        return self._interrupted or self._read()

    @contextmanager
    def watching(self, run: Denoising) -> Iterator[None]:
        """Takes a last snapshot when the run ends early within the context.

        A closed generator writes its snapshot to the disk for another process. An out-of-memory error or a lost rank
        keeps the snapshot in memory for the next run of this generation.
        """
        self._done_before, self._saved_at = run.steps_done, time.monotonic()
        if self._interrupted is None:
            self.resumed_from_step = run.steps_done
        try:
            yield
        except GeneratorExit:
            if self._checkpoint is not None and run.steps_done > self._done_before:
                self._write(self._checkpoint, run)
            raise
        except (RuntimeError, RankLost):
            self._interrupted = run.snapshot() if run.between_steps and run.steps_done else None
            raise

    def after_step(self, run: Denoising) -> None:
        """Writes a snapshot if the checkpoint's interval has passed."""
        checkpoint = self._checkpoint
        if checkpoint is not None and time.monotonic() - self._saved_at >= checkpoint.interval_seconds:
            self._write(checkpoint, run)
            self._done_before, self._saved_at = run.steps_done, time.monotonic()

    def _read(self) -> Snapshot | None:
        if self._checkpoint is None:
            return None
        try:
            snapshot = read_snapshot(self._checkpoint.path, self._fingerprint)
        except FileNotFoundError:
            return None
        except SnapshotRejected as exc:
            logger.warning("%s The generation starts over.", exc.message, extra={"action": "snapshot_refused"})
            return None
        self.saved_steps = snapshot.steps_done
        return snapshot

    def _write(self, checkpoint: Checkpoint, run: Denoising) -> None:
        """Writes a snapshot. A failure is logged, because the generation can complete without the snapshot."""
        started = time.perf_counter()
        try:
            snapshot = run.snapshot()
            write_snapshot(checkpoint.path, snapshot, self._fingerprint)
        except OSError as exc:
            logger.warning("Cannot write the snapshot: %s", exc, extra={"action": "snapshot_failed"})
        else:
            self.saved_steps = snapshot.steps_done
            checkpoint.written(time.perf_counter() - started)
