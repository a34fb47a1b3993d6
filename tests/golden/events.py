"""Writes events.tfevents with TensorBoard's own writer; with folders as arguments, prints what its reader finds there.

    pip install tensorboard
    python tests/golden/events.py            # the bytes that src/train/journal/events.rs must make
    python tests/golden/events.py RUN        # a run's folder, as TensorBoard sees it
"""

import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def golden():
    values = [("loss/l1", 0.1), ("validation/psnr_ab", -27.5), ("rate", float("nan"))]
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
    with open(pathlib.Path(__file__).with_name("events.tfevents"), "wb") as file:
        writer = RecordWriter(file)
        for event in [
            Event(wall_time=1_700_000_000.5, file_version="brain.Event:2"),
            Event(wall_time=1_700_000_001.25, step=41, session_log=SessionLog(status=SessionLog.START)),
            Event(wall_time=1_700_000_002.0, step=1_000_000, summary=summary),
        ]:
            writer.write(event.SerializeToString(deterministic=True))
        writer.flush()


def show(folder):
    run = EventAccumulator(folder, size_guidance={"scalars": 0})
    run.Reload()
    for tag in sorted(run.Tags()["scalars"]):
        print(tag, " ".join(f"{s.step}:{s.value:.6g}" for s in run.Scalars(tag)))


if __name__ == "__main__":
    golden() if len(sys.argv) == 1 else [show(folder) for folder in sys.argv[1:]]
