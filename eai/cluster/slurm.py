"""What a job asks a Slurm cluster for, and how jobs that a dead coordinator left there are taken back.

Snakemake does not reattach to jobs it has submitted before a crash, and a running job overwrites its id in Snakemake's notes
(snakemake#762). Slurm knows: every job carries its working directory and, as a comment, the rule's name.
"""

import contextlib
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from eai import catalog
from eai.errors import UserError
from eai.power.simulated import PREFIX, is_simulated

MARGIN_MIN = 10
REAP_WAIT_S = 120.0
UP, POWER_MARKS = ("idle", "mixed", "allocated", "completing"), "~#!%@^+"
"""States of a node that takes jobs (sinfo(1)), and the marks of power saving behind them; a `*` there means that it does not answer."""


def _ask(*command: str) -> str:
    """What a Slurm command prints. Raises UserError, one line, where it is missing or the cluster does not answer."""
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} is not installed", "Slurm's commands", "run on a login node of the cluster, or use --profile local")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        found = (done.stderr.strip().splitlines() or ["no answer"])[0]
        raise UserError(f"{' '.join(command[:1])}: {found}", "a cluster that answers", "check `sinfo`")
    return done.stdout


class Node(NamedTuple):
    """A node of the cluster: its GPUs by type, as the administrators named them (an untyped one is an empty name), and whether it is up."""

    name: str
    gpus: Mapping[str, int]
    is_up: bool


def nodes(partition: str = "") -> list[Node]:
    """The nodes of a partition, or of all of them; a node that does not answer, is drained or reserved counts as not up."""
    found = []
    for line in _ask("sinfo", "-h", "-N", *(["-p", partition] if partition else []), "-o", "%N|%T|%G").splitlines():
        name, state, gres = line.split("|", 2)  # gres: `gpu:h100:8(S:0-1),gpu:2,shard:h100:16`
        gpus = Counter()
        for kind, *rest in (entry.split(":") for entry in re.sub(r"\([^)]*\)", "", gres).split(",")):
            if kind == "gpu":
                number = int(rest.pop()) if rest and rest[-1].isdigit() else 1
                gpus[rest[0] if rest else ""] += number
        found.append(Node(name, dict(gpus), state.rstrip(POWER_MARKS) in UP))
    return found


def gres_types(among: Sequence[Node] | None = None) -> list[str]:
    """The types of GPU that the nodes offer, those of the whole cluster unless some are given."""
    return sorted({name for node in (nodes() if among is None else among) for name in node.gpus})


def gives_back(among: Sequence[Node], name: str, gres: str, exclusive: bool) -> bool:
    """Whether a job that asks for `gres` on the node `name` is certain to get the card that it had there. Slurm counts cards and hands out
    the first one that is free: certain is a node of one such card, a whole node, and one without cards. Elsewhere waiting for one node
    would give up the others for a chance."""
    node = next((n for n in among if n.name == name), None)
    if node is None or not node.is_up:
        return False
    return exclusive or not gres or node.gpus.get(gres.split(":")[1] if gres.count(":") > 1 else "", 0) == 1


def gres(gpu: str, types: Sequence[str]) -> str:
    """The generic resource to ask for: one card of the type that is `gpu`, an untyped one where the cluster names none, empty for cpu. A
    simulated card takes the place of a real one where the cluster has it. Raises UserError where no type can be told to be that card."""
    if gpu == "cpu":
        return ""
    card = gpu.removeprefix(PREFIX)
    for name in filter(None, types):  # the same slug, an alias of it, or the beginning of it (`a100` for a100_sxm_80gb)
        same = name.lower() in (card, card.split("_")[0])
        with contextlib.suppress(UserError):
            same = same or catalog.gpu(name).slug == card
        if same:
            return f"gpu:{name}:1"
    if is_simulated(gpu):
        return ""
    if "" in types:
        return "gpu:1"
    named = ", ".join(filter(None, types)) or "no GPU"
    raise UserError(f"gpu '{gpu}' is not among the cluster's types ({named})", "a card that the cluster has", "see `sinfo -o %G`")


def runtime_min(timeout_s: float | None) -> int:
    """Minutes to ask for: a job's time limit with a margin for its start; 0, the partition's own, without one. A job that asks for more
    than its partition allows would wait for ever."""
    return 0 if timeout_s is None else -(-int(timeout_s) // 60) + MARGIN_MIN


def left_behind(state: Path) -> dict[str, str]:
    """The jobs in Slurm that were submitted from `state`, whoever their coordinator was: id -> what Slurm says it does."""
    found = {}
    for line in _ask("squeue", "-h", "--me", "-o", "%A|%T|%Z|%k").splitlines():
        job, doing, where, comment = line.split("|", 3)
        if where == str(state) and comment.startswith("rule_"):
            found[job] = doing
    return found


def reap(state: Path, wait_s: float = REAP_WAIT_S) -> list[str]:
    """Cancel the jobs an earlier coordinator left in Slurm for this sweep and wait until they are gone; returns their ids. Nothing that
    they measured is lost: every window is on disk as it ends. A job that stays `COMPLETING` is on a node that does not answer; Slurm will
    not start it again, and what may still run there ends itself, as its claim is revoked. Raises UserError if others do not go away."""
    if reaped := list(left_behind(state)):
        _ask("scancel", *reaped)
    end_s = time.monotonic() + wait_s
    while reaped and (left := left_behind(state)):
        if time.monotonic() > end_s:
            if set(left.values()) == {"COMPLETING"}:
                break
            raise UserError(f"jobs {', '.join(left)} of an earlier run do not end", "a cluster that cancels them", "see `squeue --me`")
        time.sleep(0.5)
    return reaped
