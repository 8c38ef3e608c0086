"""Which devices and machines compute: the option `distribute`, TF_CONFIG, --cpu and --gpus."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Literal

import tensorflow as tf

from l2o.errors import UserError, nearest
from l2o.train.distributed.devices import Replicas
from l2o.train.distributed.processes import LOST, lost_worker

Distribute = Literal["none", "mirrored", "multi_worker"]


def join(distribute: Distribute, say: Callable[[str], None] = print) -> Replicas:
    """Makes the replicas that the option `distribute` asks for.

    Call it before TensorFlow has computed anything: connections to other workers cannot be
    set up later.

    Args:
        distribute: "none": one, on the first GPU, or the CPU if there is none; "mirrored":
            one for each GPU of this machine; "multi_worker": one for each GPU, or one, of
            each machine that TF_CONFIG names.
        say: Told what it waits for [print].

    Raises:
        UserError: If TF_CONFIG is needed and not there, or wrong.
        LostWorkerError: If another worker goes before all have come.
    """
    if distribute == "none":
        return Replicas()
    if distribute == "mirrored":
        return Replicas(tf.distribute.MirroredStrategy())
    workers, index = cluster(os.environ.get("TF_CONFIG"))
    if len(workers) > 1:
        others = [address for i, address in enumerate(workers) if i != index]
        more = f", ... ({len(others)} of them)" if len(others) > 5 else ""
        say(f"waiting for the other workers: {', '.join(others[:5])}{more}")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except LOST as error:
        raise lost_worker(error) from None
    except tf.errors.UnknownError as error:
        raise UserError(
            f"cannot listen on {workers[index]}: {error.message}", "TF_CONFIG"
        ) from None
    return Replicas(strategy, len(workers), index)


def cluster(text: str | None) -> tuple[list[str], int]:
    """Returns the addresses of all workers, the chief first, and which of them this is.

    Args:
        text: The environment variable TF_CONFIG, as TensorFlow defines it.

    Raises:
        UserError: If it is not that.
    """
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )

    def wrong(reason: str) -> UserError:
        return UserError(f"{reason}; expected something like {example}", "TF_CONFIG")

    if not text:
        raise wrong("distribute=multi_worker needs this environment variable")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f"not JSON ({error})") from None
    jobs = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(jobs, dict) or not jobs:
        raise wrong("no cluster in it")
    for job, addresses in jobs.items():
        if job not in ("chief", "worker"):
            raise wrong(f"no job of {job!r} here{nearest(job, ['chief', 'worker'])}")
        if not isinstance(addresses, list) or not addresses:
            raise wrong(f"the addresses of {job} are no list")
        for address in addresses:
            # A host name, an IPv4 or [IPv6] address.
            found = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", str(address))
            if not found or not 0 < int(found[1]) < 2**16:
                raise wrong(f"{address!r} is no host:port")
    if len(jobs.get("chief", [])) > 1:
        raise wrong("more than one chief")
    if config.get("rpc_layer", "grpc") != "grpc":
        raise wrong(f"rpc_layer {config['rpc_layer']!r} is not grpc")
    task = config.get("task")
    job, index = (task.get("type"), task.get("index")) if isinstance(task, dict) else (None, None)
    # JSON has other things than strings, and true is an int of Python's.
    if (
        not isinstance(job, str)
        or job not in jobs
        or type(index) is not int
        or not 0 <= index < len(jobs[job])
    ):
        raise wrong("its task is none of the cluster's")
    workers = [*jobs.get("chief", []), *jobs.get("worker", [])]
    return workers, index + (len(jobs.get("chief", [])) if job == "worker" else 0)


def use_devices(cpu: bool, gpus: Sequence[int] | None) -> None:
    """Chooses what TensorFlow may compute on; call it before it has computed anything.

    Args:
        cpu: No GPU.
        gpus: Only these, by their numbers; None: all there are.

    Raises:
        UserError: If there is no such GPU.
    """
    if not cpu and gpus is None:
        return
    there = tf.config.list_physical_devices("GPU")
    for number in gpus or []:
        if number >= len(there):
            known = ", ".join(map(str, range(len(there)))) or "none"
            raise UserError(f"--gpus: no GPU {number}; there are: {known}")
    tf.config.set_visible_devices([] if cpu else [there[number] for number in gpus or []], "GPU")
