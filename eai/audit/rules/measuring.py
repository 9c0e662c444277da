"""Energy measured wrongly: the figure misleads whatever the code saves."""

import ast
import re
from collections.abc import Iterator

from eai.audit.code import Code
from eai.audit.evidence import Evidence
from eai.audit.finding import FIGURE, Hit, Waste, rule
from eai.audit.values import Built

_POWER_CALLS = {"nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues", "power_draw"}
_FIX_COUNTER = "read nvmlDeviceGetTotalEnergyConsumption before and after the work, or sample power in a thread that runs during it"
_KEEPING = ("append", "put", "put_nowait", "write", "writerow", "extend", "add", "send", "record", "observe")
_SAMPLING_WINDOW_S = 10.0


def _reads_power(call: Built) -> bool:
    """Whether a call reads the GPU's power: NVML, or nvidia-smi with power.draw."""
    if call.last in _POWER_CALLS - {"nvmlDeviceGetFieldValues"}:
        return True
    return call.last in ("run", "check_output", "Popen", "getoutput", "popen", "system") and "power.draw" in ast.unparse(call.node)


def _helpers(code: Code) -> set[str]:
    """Functions of the file that read the power."""
    return {getattr(code.function(c.node), "name", "") for c in code.calls if _reads_power(c)} - {""}


def _power_reads(code: Code) -> list[Built]:
    """Calls that read the power, directly or through a function of the file."""
    helpers = _helpers(code)
    return [c for c in code.calls if _reads_power(c) or c.last in helpers]


def slow_sampling(interval_s: float) -> Waste:
    """Error of mean power times time when samples are `interval_s` apart: each edge of the window is off by a uniform fraction of the
    interval.

    The sd of two uniform edge errors is interval/sqrt(6), over the window's length: 10 s here, range 30 s to 1 s of work.
    """
    error_pct = 100 * interval_s / 6**0.5
    note = f"sd of the two window edges at one sample each {interval_s:g} s, for {_SAMPLING_WINDOW_S:g} s of work (range 30 s to 1 s)"
    return Waste(error_pct / _SAMPLING_WINDOW_S, error_pct / 30, min(error_pct, 100.0), "computed", note, unit=FIGURE)


@rule(
    "power-sampled-slowly",
    "python",
    "Power sampled once a second or slower",
    hit="""
import time, pynvml
while running:
    watts.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    time.sleep(1)
""",
    miss="""
import time, pynvml
while running:
    watts.append(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    time.sleep(0.05)
""",
)
def sampled_slowly(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Sensors update each 20 to 100 ms. At one sample a second the start and end of the work are missed by up to a second each, and
    short bursts fall
    between samples."""
    for call in code.named("sleep"):
        interval = call.args[0] if call.args else None
        loop = next((x for x in code.loops_around(call.node) if isinstance(x, ast.While | ast.For)), None)
        if not isinstance(interval, int | float) or isinstance(interval, bool) or interval < 1 or interval > 60 or loop is None:
            continue
        if any(loop in code.loops_around(c.node) for c in _power_reads(code)) and not _also_generates(code, loop) and _keeps(loop):
            yield Hit(
                call.node.lineno,
                f"power is sampled every {interval:g} s",
                "sample at the sensor's rate (10 Hz or more), or read the energy counter",
                slow_sampling(interval),
            )


def _keeps(loop: ast.AST) -> bool:
    """Whether a loop keeps what it reads: appends, adds or writes it; one that only waits or logs measures no energy."""
    for node in ast.walk(loop):
        if isinstance(node, ast.AugAssign):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _KEEPING:
            return True
    return False


def _also_generates(code: Code, loop: ast.AST) -> bool:
    """Whether the work itself runs inside the loop: then the sleep is a pause between windows."""
    return any(loop in code.loops_around(c.node) for c in code.generations)


@rule(
    "power-read-after-work",
    "python",
    "Power read only after the work",
    hit="""
import pynvml, time
from transformers import AutoModelForCausalLM
def measure(model, inputs):
    start = time.time()
    model.generate(**inputs)
    seconds = time.time() - start
    watts = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    return watts * seconds
""",
    miss="""
import pynvml, threading
from transformers import AutoModelForCausalLM
def measure(model, inputs):
    before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    model.generate(**inputs)
    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before
""",
)
def read_after(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """When generate() has returned, the GPU falls back towards idle within milliseconds: the reading is of the pause, not of the work.
    Idle powers with
    a CUDA context (A100 80 W, H100 122 W, L40S 102 W; arXiv 2312.02741 for the sensors) bound what is seen."""
    if re.search(r"Thread|Process\(|TotalEnergyConsumption|Popen", code.unit.text):
        return
    reads = _power_reads(code)
    helpers = _helpers(code)
    for function in {id(code.function(c.node)): code.function(c.node) for c in code.generations}.values():
        if getattr(function, "name", "") in helpers and not any(_reads_power(r) and code.function(r.node) is function for r in reads):
            continue
        work = [c.node.lineno for c in code.generations if code.function(c.node) is function]
        lines = [r.node.lineno for r in reads if code.function(r.node) is function]
        if lines and min(lines) > max(work):
            note = (
                "an A100 idles at 80 W with a CUDA context; 110 to 220 W (150 in the middle) were published while its sibling A800 decodes"
            )
            low, value, high = (100 * (1 - 80 / load_w) for load_w in (110, 150, 220))
            waste = Waste(value, low, high, "estimate", note, unit=FIGURE)
            yield Hit(min(lines), "power is read only after generate() has returned", _FIX_COUNTER, waste)


@rule(
    "idle-before-load",
    "python",
    "Idle power taken before the model is loaded",
    hit="""
import pynvml
from transformers import AutoModelForCausalLM
idle_power = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
model = AutoModelForCausalLM.from_pretrained("org/model").cuda()
""",
    miss="""
import pynvml
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("org/model").cuda()
idle_power = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
""",
)
def idle_before_load(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """A CUDA context raises idle power (H100 72 to 122 W, A100 54 to 80 W, L40S 36 to 102 W): subtracting the bare idle leaves that in
    the net energy."""
    reads = _power_reads(code)
    for load in code.model_loads:
        function = code.function(load.node)
        for read in reads:
            name = code.assigned_name(read.node) or _assigned_arithmetic(code, read.node)
            if (
                re.search(r"idle|baseline", name, re.IGNORECASE)
                and code.function(read.node) is function
                and read.node.lineno < load.node.lineno
            ):
                note = "an A100's 26 W between bare and context idle, in a net power of 110 to 220 W (150 in the middle) less 54 W"
                low, value, high = (100 * 26 / (load_w - 54) for load_w in (220, 150, 110))
                waste = Waste(value, low, high, "estimate", note, unit=FIGURE)
                yield Hit(
                    read.node.lineno,
                    f"{name} is read before the model is loaded",
                    "read idle power after loading, once it has settled",
                    waste,
                )
                return


def _assigned_arithmetic(code: Code, node: ast.AST) -> str:
    """The name that an arithmetic expression around a call is assigned to, empty if none."""
    for a in code.values.ancestors(node):
        if isinstance(a, ast.Assign) and len(a.targets) == 1:
            return ast.unparse(a.targets[0])
        if not isinstance(a, ast.BinOp | ast.Call | ast.Attribute | ast.GeneratorExp | ast.ListComp):
            return ""
    return ""


@rule(
    "all-gpus-billed",
    "python",
    "Every GPU of the host billed to one process",
    hit="""
import pynvml
model.to("cuda:0")
for i in range(pynvml.nvmlDeviceGetCount()):
    total += pynvml.nvmlDeviceGetPowerUsage(pynvml.nvmlDeviceGetHandleByIndex(i))
""",
    miss="""
import pynvml
model.to('cuda:0')
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
total += pynvml.nvmlDeviceGetPowerUsage(handle)
""",
)
def all_gpus(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """The power of GPUs that the model does not use belongs to others, or to idle; how wrong that is depends on the host."""
    text = code.unit.text
    if not re.search(r"[\"']cuda:0[\"']", text):
        return
    for tracker in code.named("EmissionsTracker", "OfflineEmissionsTracker"):
        if "gpu_ids" not in tracker.kwargs and not tracker.is_open:
            fix = "gpu_ids=[0], or CUDA_VISIBLE_DEVICES=0 around the whole process"
            yield Hit(tracker.node.lineno, f"{tracker.last} reads every visible GPU, the model runs on cuda:0", fix)
            return
    for call in code.named("run", "check_output", "getoutput"):
        command = ast.unparse(call.node)
        is_summed = "sum(" in _text_of(code, code.function(call.node))
        if "nvidia-smi" in command and "power.draw" in command and not re.search(r"-i\b|--id", command) and is_summed:
            yield Hit(call.node.lineno, "nvidia-smi lists every GPU and the powers are summed", "nvidia-smi -i with the GPU's UUID")
            return
    if not re.search(r"nvmlDeviceGetCount|device_count\(\)", text):
        return
    for call in (c for c in code.calls if _reads_power(c) or c.last == "nvmlDeviceGetTotalEnergyConsumption"):
        loops = [x for x in code.loops_around(call.node) if _over_all(code, x)]
        around = list(code.values.ancestors(call.node))
        is_summed = any(isinstance(a, ast.AugAssign) or (isinstance(a, ast.Call) and ast.unparse(a.func) == "sum") for a in around)
        if loops and is_summed:
            fix = "read only the GPUs the model is on, by UUID"
            yield Hit(call.node.lineno, "the power of all GPUs is summed, the model runs on cuda:0", fix)
            return


def _over_all(code: Code, loop: ast.AST) -> bool:
    """Whether a loop or comprehension runs over every GPU of the host, by number or by a list of handles made of them."""
    if isinstance(loop, ast.While):
        return False
    iterable = loop.iter if isinstance(loop, ast.For | ast.AsyncFor) else loop.generators[0].iter
    text = ast.unparse(iterable)
    if isinstance(iterable, ast.Name):
        bound = [v for (_, name), all_bound in code.values.bound.items() if name == iterable.id for _, v in all_bound if v is not None]
        text = " ".join(map(ast.unparse, bound))
    return re.search(r"nvmlDeviceGetCount|device_count", text) is not None


def _text_of(code: Code, function: ast.AST) -> str:
    """The source of a function, of the whole file for a module."""
    return code.unit.text if isinstance(function, ast.Module) else ast.unparse(function)
