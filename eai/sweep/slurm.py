"""What a job asks a Slurm cluster for, and how jobs that a dead coordinator left there are taken back.

Snakemake does not reattach to jobs it has submitted before a crash: a second run would measure the same windows beside them. Its own
notes are no guide either, since a running job overwrites its id there (snakemake#762). Slurm knows: every job carries its working
directory and, as a comment, the rule's name.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from eai import catalog
from eai.errors import UserError
from eai.power.simulated import PREFIX, is_simulated

MARGIN_MIN = 10
REAP_WAIT_S = 120.0


def _ask(*command: str) -> str:
    """What a Slurm command prints. Raises UserError, one line, where it is missing or the cluster does not answer."""
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} is not installed", "Slurm's commands", "run on a login node of the cluster, or use --profile local")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        found = (done.stderr.strip().splitlines() or ["no answer"])[0]
        raise UserError(f"{' '.join(command[:1])}: {found}", "a cluster that answers", "check `sinfo`")
    return done.stdout


def gres_types() -> list[str]:
    """The types of GPU that the cluster's nodes offer, as its administrators named them; an untyped GPU is an empty name."""
    found = set()
    for line in _ask("sinfo", "-h", "-o", "%G").splitlines():
        for entry in line.split(","):
            parts = entry.partition("(")[0].split(":")
            if parts[0] == "gpu":
                found.add(parts[1] if len(parts) > 2 or (len(parts) == 2 and not parts[1].isdigit()) else "")
    return sorted(found)


def gres(gpu: str, types: Sequence[str]) -> str:
    """The generic resource to ask for: one card of the type that is `gpu`, an untyped one where the cluster names none, empty for cpu.

    A simulated card takes the place of a real one where the cluster has it. Raises UserError where no type can be told to be that card.
    """
    if gpu == "cpu":
        return ""
    for name in types:
        if name and _is(name, gpu.removeprefix(PREFIX)):
            return f"gpu:{name}:1"
    if is_simulated(gpu):
        return ""
    if "" in types:
        return "gpu:1"
    named = ", ".join(filter(None, types)) or "no GPU"
    raise UserError(f"gpu '{gpu}' is not among the cluster's types ({named})", "a card that the cluster has", "see `sinfo -o %G`")


def _is(name: str, gpu: str) -> bool:
    """Whether the cluster's `name` means the card: the same slug, an alias of it, or the beginning of it (`a100` for a100_sxm_80gb)."""
    if name.lower() == gpu or gpu.split("_")[0] == name.lower():
        return True
    try:
        return catalog.gpu(name).slug == gpu
    except UserError:
        return False


def runtime_min(timeout_s: float | None) -> int:
    """Minutes to ask for: a job's time limit with a margin for its start; 0, the partition's own, without one.

    A job that asks for more than its partition allows would wait for ever.
    """
    return 0 if timeout_s is None else -(-int(timeout_s) // 60) + MARGIN_MIN


def left_behind(state: Path) -> list[str]:
    """The ids of the jobs in Slurm that were submitted from `state`, whoever their coordinator was."""
    found = []
    for line in _ask("squeue", "-h", "--me", "-o", "%A|%Z|%k").splitlines():
        job, where, comment = line.split("|", 2)
        if where == str(state) and comment.startswith("rule_"):
            found.append(job)
    return found


def reap(state: Path, wait_s: float = REAP_WAIT_S) -> list[str]:
    """Cancel the jobs an earlier coordinator left in Slurm for this sweep and wait until they are gone; returns their ids.

    Nothing that they measured is lost: every window is on disk as it ends. Raises UserError if they do not go away.
    """
    reaped = left_behind(state)
    if not reaped:
        return []
    _ask("scancel", *reaped)
    end_s = time.monotonic() + wait_s
    while left := left_behind(state):
        if time.monotonic() > end_s:
            raise UserError(f"jobs {', '.join(left)} of an earlier run do not end", "a cluster that cancels them", "see `squeue --me`")
        time.sleep(0.5)
    return reaped
