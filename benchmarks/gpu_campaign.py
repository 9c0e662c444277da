"""The campaign on one GPU in two commands of six minutes, the most valuable first; prints one JSON line.

    python benchmarks/gpu_campaign.py --plan              what would be measured, with the seconds counted beforehand
    python benchmarks/gpu_campaign.py --pack r.tar.gz     measure for six minutes; the same command again goes on where it stopped
    python benchmarks/gpu_campaign.py --report            tables and README from what is there; needs no GPU

    python benchmarks/gpu_campaign.py --predict           writes beforehand what each cell will cost; the report holds it against the rows

Options: --gpu auto (or simulated_h200_sxm for a rehearsal), --out FOLDER (default data/measured/<gpu>-<date>; a rehearsal must name one),
--minutes 6, --total-minutes 12, --stage NAME ... Windows on disk are never measured again, each stage writes its result as it ends, and
with --pack the whole folder is packed into one file after each (unpack it into --out where the second command runs on another machine).
A command stops between two windows, RESERVE_S before its time is over. A stage that a missing library, a strategy or a driver ends says
so in campaign.json, and the next one begins. What to carry to a machine without a network: benchmarks/campaign/wheels.txt.
"""

import argparse
import datetime
import json
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from campaign import report, sensor

from eai import catalog, machine, measure, paths, settings
from eai.errors import UserError
from eai.power.simulated import PREFIX, is_simulated
from eai.settings import Sweep

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
STRATEGIES = ["fp16", "int8_default", "int8_pure", "nf4"]
OUTPUT = report.OUTPUT
PROTOCOL = {"window_s": 5.0, "warmup_cap_s": 1.5, "idle_s": 1.0, "weights": "random_outliers"}
PROTOCOL |= {"input_tokens": [128], "output_tokens": [OUTPUT]}
RESERVE_S = 30.0
"""Time kept back at the end of a command: the longest load with its first window (LLM.int8() at batch 1)."""

STEP_S_PER_LAYER = {"fp16": 0.0008, "int8_default": 0.0030, "int8_pure": 0.0016, "nf4": 0.0013, "fp8": 0.0008}
LOAD_S, CALLS_BESIDE_THE_WINDOW, PADS_S = 6.0, 2.1, 0.6
"""Assumed for the count of seconds: a decode step a layer (as predicted), a load of random weights, calls beside the window, edges."""


@dataclass(frozen=True)
class Stage:
    """A part of the campaign: sweeps to measure, or a function of the campaign, with what it is for and its assumed seconds."""

    name: str
    purpose: str
    sweeps: tuple[dict, ...] = ()
    function: Callable[["Campaign"], dict] | None = None
    seconds: float = 0.0


def cells(models: str | list[str], quantizations: list[str], batch_sizes: list[int], blocks: int, **changes) -> dict:
    """Parameters of one sweep under the campaign's protocol."""
    grid = {"models": [models] if isinstance(models, str) else models, "quantizations": quantizations, "batch_sizes": batch_sizes}
    return PROTOCOL | grid | {"blocks": blocks} | changes


BATCHES = cells(MISTRAL, ["fp16"], [4, 16, 256], 1)
LENGTHS = cells(MISTRAL, ["fp16"], [1], 1, output_tokens=[1, 16, OUTPUT, 64])
STAGES = (
    Stage("facts", "doctor, NVML, cost of a reading, counter beside integral at idle and at full load", (), sensor.facts, 22.0),
    Stage("sensor", "update period, window, lag, tick and rate of the counter, cost of polling it", (), sensor.probe, 100.0),
    Stage("correct", "every strategy verified and held against fp32 layer by layer", (), sensor.correct, 30.0),
    Stage("main", "strategies at batch 1, 8 and 64 on a 7B model, 1 block", (cells(MISTRAL, STRATEGIES, [1, 8, 64], 1),)),
    Stage("beside", "the same seconds by 10 Hz mean, 1 Hz mean and zeus", (), sensor.beside, 35.0),
    Stage("ratio", "measured generation over bare generate", (), sensor.ratio, 25.0),
    Stage("main-3", "the main cells to 3 blocks", (cells(MISTRAL, STRATEGIES, [1, 8, 64], 3),)),
    Stage("batches", "batch 4, 16 and 256 in fp16, 1 block", (BATCHES,)),
    Stage("fp8", "FP8 at batch 1 and 64, 1 block", (cells(MISTRAL, ["fp8"], [1, 64], 1),)),
    Stage("cost", "what the sampler costs with the real driver", (), sensor.cost, 20.0),
    Stage("lengths", "prefill and decode from four output lengths, 1 block", (LENGTHS,)),
    Stage("predicted", "cells whose energy was predicted in 2026-11-22's file",
          (cells(MISTRAL, ["fp16", "nf4"], [1, 16], 1, input_tokens=[256], output_tokens=[256]),)),
    Stage("main-5", "the main cells to 5 blocks", (cells(MISTRAL, STRATEGIES, [1, 8, 64], 5),)),
)  # fmt: skip


class TimeIsUp(BaseException):
    """Raised between two windows when a command's time is over; no handler of failures takes it for one."""


@dataclass
class Campaign:
    """The campaign in its folder: how much time is left, which stages are done, and what they found."""

    gpu: str
    out: Path
    deadline_s: float
    pack: Path | None = None
    began_s: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "campaign.json"
        self.state = json.loads(path.read_text()) if path.exists() else {"gpu": self.gpu, "commands": [], "stages": {}}
        if self.state["gpu"] != self.gpu:
            raise UserError(f"{self.out} holds a campaign on {self.state['gpu']}", f"one on {self.gpu}", "choose another --out")

    @property
    def left_s(self) -> float:
        """Seconds until this command has to stop."""
        return self.deadline_s - time.monotonic()

    def write(self, name: str, document: dict) -> None:
        """Write a document of the campaign, whole or not at all."""
        temporary = self.out / f"{name}.tmp"
        temporary.write_text(json.dumps(document, indent=1) + "\n")
        temporary.replace(self.out / f"{name}.json")

    def sweep(self, parameters: dict) -> Sweep:
        """One of the campaign's sweeps on its card."""
        return settings.sweep(**({"experiment": str(self.out), "gpus": [self.gpu]} | parameters))

    def say(self, line: str) -> None:
        """Progress on stderr, and the end of the command where its time is up."""
        print(line, file=sys.stderr, flush=True)
        if self.left_s < RESERVE_S:
            raise TimeIsUp

    def run(self, stages: list[Stage]) -> dict:
        """Run what is not done of the stages until the time is up; returns `{done, stopped_in, seconds}`."""
        stopped, command = None, {"at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "seconds": 0.0}
        self.state["commands"].append(command)
        try:
            for stage in stages:
                if not self.state["stages"].get(stage.name, {}).get("done"):
                    stopped = stage.name
                    self._run(stage)
                    stopped = None
                    self._keep(command, stopped)
        except TimeIsUp:
            self.state["stages"].setdefault(stopped, {})["done"] = False
        finally:
            self._keep(command, stopped)
        failed = {name: stage["failed"] for name, stage in self.state["stages"].items() if "failed" in stage}
        done = [s for s, v in self.state["stages"].items() if v["done"]]
        return {"done": done, "failed": failed, "stopped_in": stopped, "seconds": command["seconds"]}

    def _keep(self, command: dict, stopped: str | None) -> None:
        """Write how far the campaign is, and pack its folder where that is asked for: a killed command has lost the stage in hand."""
        command |= {"seconds": round(time.monotonic() - self.began_s, 1), "stopped_in": stopped}
        self.write("campaign", self.state)
        if self.pack:
            packed = self.pack.with_suffix(".part")
            with tarfile.open(packed, "w:gz") as archive:
                archive.add(self.out, ".")
            packed.replace(self.pack)

    def _run(self, stage: Stage) -> None:
        """Run one stage. Raises TimeIsUp where it may not end in time: a function cannot be cut in half."""
        print(f"stage {stage.name}: {stage.purpose}", file=sys.stderr, flush=True)
        if self.left_s < max(RESERVE_S, stage.seconds if not is_simulated(self.gpu) else 0.0):
            raise TimeIsUp
        began_s, ended = time.monotonic(), {"done": True}
        try:
            for parameters in stage.sweeps:
                measure.run(self.sweep(parameters), self.say)
            if stage.function:
                self.write(stage.name, stage.function(self))
        except Exception as error:  # a library or driver that nobody here has met: said, and the next stage may still do
            ended["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            print(f"stage {stage.name} failed: {ended['failed']}", file=sys.stderr, flush=True)
        self.state["stages"][stage.name] = ended | {"seconds": round(time.monotonic() - began_s, 1)}


def count_seconds(stage: Stage, counted: set) -> tuple[int, int, float]:
    """(windows, loads, seconds) of a stage beyond the windows already `counted`, by the assumptions above; adds its own to them.

    A pass over a task's items is taken as long as a window.
    """
    windows, loads, seconds = 0, set(), stage.seconds
    for parameters in stage.sweeps:
        asked = settings.sweep(gpus=["gpu"], **parameters)
        for model in asked.models:
            layers = catalog.model(model).layers
            for block in range(1, asked.blocks + 1):
                for c in asked.configurations("gpu", model):
                    if (key := (model, block, c.configuration_id)) in counted:
                        continue
                    counted.add(key)
                    loads.add((model, c.quantization, block))
                    call_s = STEP_S_PER_LAYER[c.quantization] * layers * max(c.output_tokens, 1)
                    windows += 1
                    seconds += asked.window_s + call_s / 2 + max(CALLS_BESIDE_THE_WINDOW * call_s, asked.warmup_cap_s) + PADS_S
    return windows, len(loads), seconds + len(loads) * (LOAD_S + 2 * (PROTOCOL["idle_s"] + PADS_S))


def plan(stages: list[Stage]) -> list[dict]:
    """One row a stage: what it is for, windows, loads, seconds counted beforehand, and the sum so far."""
    found, total, counted = [], 0.0, set()
    for stage in stages:
        windows, loads, seconds = count_seconds(stage, counted)
        total += seconds
        found.append(
            {
                "stage": stage.name,
                "windows": windows,
                "loads": loads,
                "seconds": round(seconds),
                "sum_s": round(total),
                "for": stage.purpose,
            }
        )
    return found


def predict(stages: list[Stage], gpu: str) -> Path:
    """Write what the cells of the stages will cost by the predictor as it stands; returns the file."""
    from eai.predict import predict as predicted

    rows = {}
    for parameters in (p for stage in stages for p in stage.sweeps):
        asked = settings.sweep(gpus=["gpu"], **parameters)
        for c in (c for model in asked.models for c in asked.configurations("gpu", model)):
            key = (catalog.model(c.model).slug, c.quantization, c.batch_size, c.input_tokens, c.output_tokens)
            rows[key] = dict(zip(("model", "quantization", "batch_size", "input_tokens", "output_tokens"), key, strict=True))
    table = predicted(pd.DataFrame(rows.values()).assign(gpu=gpu, engine="transformers"))
    found = []
    for asked, row in zip(rows.values(), table.to_dict("records"), strict=True):
        quantities = {"energy_j_per_token": "J", "throughput_tok_s": "tok/s"}
        told = {q: {"value": row[q], "low": row[f"{q}_low"], "high": row[f"{q}_high"], "unit": unit} for q, unit in quantities.items()}
        found.append(asked | (told if not row["reason"] else {"reason": row["reason"]}))
    head = {
        "gpu": gpu,
        "written": datetime.date.today().isoformat(),
        "learned_from": json.loads((paths.ROOT / "data" / "predictor.json").read_text())["rows"],
        "accounting": "gross",
    }
    path = report.PREDICTIONS / f"{gpu}-campaign.json"
    path.write_text(json.dumps(head | {"predictions": found}, indent=1) + "\n")
    return path


def card(asked: str) -> str:
    """The slug of the GPU to measure on. Raises UserError where there is none."""
    found = machine.resolve(asked, [] if is_simulated(asked) else machine.present())
    if found == "cpu":
        raise UserError("no NVIDIA GPU is here", "a machine with one", f"rehearse with --gpu {PREFIX}h200_sxm --out FOLDER")
    return found


def folder(gpu: str, out: Path | None) -> Path:
    """Where the campaign's data go. Raises UserError for simulated data among the measured."""
    if out is None and not is_simulated(gpu):
        begun = sorted(paths.MEASURED.glob(f"{gpu}-*/campaign.json"))
        return begun[-1].parent if begun else paths.MEASURED / f"{gpu}-{datetime.date.today().isoformat()}"
    if out is None or (is_simulated(gpu) and paths.MEASURED in [out.resolve(), *out.resolve().parents]):
        raise UserError(f"a rehearsal on {gpu}", "an --out outside data/measured", "nothing simulated is kept there")
    return out.resolve()


def chosen(names: list[str] | None) -> list[Stage]:
    """The stages asked for, all if none is named. Raises UserError for an unknown one."""
    known = {stage.name: stage for stage in STAGES}
    if wrong := [name for name in names or () if name not in known]:
        raise UserError(f"no stage '{wrong[0]}'", f"one of {', '.join(known)}")
    return [known[name] for name in names] if names else list(STAGES)


def table(rows: list[dict]) -> str:
    """The plan for a person."""
    lines = [
        f"{r['stage']:<10}{r['windows']:>4} windows{r['loads']:>4} loads{r['seconds']:>6} s{r['sum_s']:>6} s  {r['for']}" for r in rows
    ]
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> dict:
    """Do what was asked for; returns the document to print."""
    stages = chosen(arguments.stage)
    if arguments.plan:
        rows = plan(stages)
        print(table(rows), file=sys.stderr)
        return {"plan": rows, "seconds": rows[-1]["sum_s"]}
    if arguments.predict:
        return {"predictions": str(predict(stages, "h200_sxm" if arguments.gpu == "auto" else arguments.gpu))}
    gpu = card(arguments.gpu) if not arguments.report or arguments.out is None else arguments.gpu
    out = folder(gpu, arguments.out)
    if arguments.report:
        return report.write(out)
    campaign = Campaign(gpu, out, time.monotonic() + 60 * arguments.minutes, arguments.pack)
    spent_s = sum(command["seconds"] for command in campaign.state["commands"])
    campaign.deadline_s = min(campaign.deadline_s, time.monotonic() + 60 * arguments.total_minutes - spent_s)
    return {"experiment": str(out), **campaign.run(stages)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--total-minutes", type=float, default=12.0)
    parser.add_argument("--stage", nargs="+")
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--predict", action="store_true")
    try:
        found = run(parser.parse_args())
    except UserError as error:
        print(f"gpu_campaign: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps({"benchmark": "gpu_campaign", **found}))


if __name__ == "__main__":
    main()
