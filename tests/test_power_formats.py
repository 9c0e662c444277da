"""Logs as the tools write them: each gives the energy that plain arithmetic gives, or is refused with what is in doubt."""

import bz2
import gzip
import io
import json
import plistlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from eai.errors import UserError
from eai.power.logs import meaning, options_of, read_log
from eai.power.trace import summarize_trace

BEGIN = datetime(2024, 4, 3, 10, 46, 12, tzinfo=UTC)
EPOCH = int(BEGIN.timestamp())
SECONDS = range(11)
RAMP_J = (100 + 200) / 2 * 10
"""Every log below has a card 0 at 100 + 10 t W for 10 s and, where there are two, a card 1 at 300 W."""


def at(i, form="%Y/%m/%d %H:%M:%S.000"):
    return (BEGIN + timedelta(seconds=i)).strftime(form)


def p(i):
    return 100.0 + 10 * i


def table(header, line, more=""):
    return "\n".join([*header.split("\n"), *(line(i) for i in SECONDS)]) + "\n" + more


def smi(time=at, value=lambda w: f"{w:.2f} W", header="timestamp, index, power.draw [W]"):
    return table(header, lambda i: f"{time(i)}, 0, {value(p(i))}")


CTIME = "%a %b %d %H:%M:%S %Y"
LABELS = 'gpu="{g}",UUID="GPU-{g}",device="nvidia{g}",modelName="NVIDIA A100-SXM4-80GB",Hostname="node1"'


def smi_q(i):
    return f"""
==============NVSMI LOG==============

Timestamp                                 : {at(i, CTIME)}
Driver Version                            : 550.54.15
Attached GPUs                             : 1
GPU 00000000:01:00.0
    GPU Power Readings
        Power Draw                        : {p(i):.2f} W
        Current Power Limit               : 450.00 W
    Module Power Readings
        Power Draw                        : 999.00 W
"""


def smi_box(i):
    return f"""{at(i, CTIME)}
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 535.129.03             Driver Version: 535.129.03   CUDA Version: 12.2     |
|-----------------------------------------+----------------------+----------------------+
|   0  NVIDIA A100-SXM4-80GB          On  | 00000000:07:00.0 Off |                    0 |
| N/A   31C    P0              {p(i):.0f}W / 400W |      4MiB / 81920MiB |      0%      Default |
"""


def powermetrics(i):
    return f"""
*** Sampled system activity ({at(i, "%a %b %d %H:%M:%S %Y +0000")}) (1000.00ms elapsed) ***

CPU Power: 1500 mW
GPU Power: {p(i) * 1000:.0f} mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): {p(i) * 1000 + 1500:.0f} mW
"""


def rocm(i):
    return f"""{EPOCH + i}.000000000


========================= ROCm System Management Interface =========================
=================================== Power Consumption ==============================
GPU[0]\t\t: Average Graphics Package Power (W): {p(i)}
GPU[1]\t\t: Average Graphics Package Power (W): 300.0
====================================================================================
"""


def dcgm(i):
    lines = ["# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).", "# TYPE DCGM_FI_DEV_POWER_USAGE gauge"]
    for g, watts in ((0, p(i)), (1, 300.0)):
        lines.append(f"DCGM_FI_DEV_POWER_USAGE{{{LABELS.format(g=g)}}} {watts} {(EPOCH + i) * 1000}")
        lines.append(f"DCGM_FI_DEV_GPU_TEMP{{{LABELS.format(g=g)}}} 41 {(EPOCH + i) * 1000}")
        lines.append(f"DCGM_FI_DEV_POWER_MGMT_LIMIT{{{LABELS.format(g=g)}}} 400 {(EPOCH + i) * 1000}")
    return "\n".join(lines) + "\n"


def query_range():
    series = [
        {"metric": {"__name__": "DCGM_FI_DEV_POWER_USAGE", "gpu": str(g), "UUID": f"GPU-{g}", "Hostname": "node1"},
         "values": [[EPOCH + i, str(p(i) if g == 0 else 300.0)] for i in SECONDS]}
        for g in (0, 1)
    ]  # fmt: skip
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


def influx(i):
    tags = "nvidia_smi,host=node1,index={g},name=NVIDIA\\ A100-SXM4-80GB,pstate=P0,uuid=GPU-{g}"
    return "".join(
        f"{tags.format(g=g)} power_draw={w},power_limit=400,utilization_gpu=98i,clocks_current_sm=1410i {(EPOCH + i) * 10**9}\n"
        for g, w in ((0, p(i)), (1, 300.0))
    )


def flux():
    header = "#group,false,false,true,true,false,false,true,true,true\n#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,"
    header += "dateTime:RFC3339,double,string,string,string\n#default,_result,,,,,,,,\n"
    header += ",result,table,_start,_stop,_time,_value,_field,_measurement,index\n"
    iso = "%Y-%m-%dT%H:%M:%SZ"
    rows = [
        f",,{g},{at(0, iso)},{at(60, iso)},{at(i, iso)},{w},power_draw,nvidia_smi,{g}\n"
        for g in (0, 1)
        for i in SECONDS
        for w in [p(i) if g == 0 else 300.0]
    ]
    return header + "".join(rows)


def smi_xml(i):
    card = """<gpu id="00000000:0{g}:00.0"><product_name>NVIDIA A100-SXM4-80GB</product_name>
		<gpu_power_readings>
			<power_draw>{w:.2f} W</power_draw>
			<current_power_limit>400.00 W</current_power_limit>
		</gpu_power_readings>
		<module_power_readings>
			<power_draw>900.00 W</power_draw>
		</module_power_readings>
	</gpu>
"""
    head = f'<?xml version="1.0" ?>\n<nvidia_smi_log>\n\t<timestamp>{at(i, CTIME)}</timestamp>\n'
    return head + card.format(g=1, w=p(i)) + card.format(g=2, w=300) + "</nvidia_smi_log>\n"


def gpustat(i, indent=None):
    cards = [{"index": g, "uuid": f"GPU-{g}a", "power.draw": w, "enforced.power.limit": 400} for g, w in ((0, p(i)), (1, 300.0))]
    return json.dumps({"hostname": "n1", "query_time": at(i, "%Y-%m-%dT%H:%M:%S.5"), "gpus": cards}, indent=indent) + "\n"


def matrix(*series):
    """A query_range whose series are of the given labels and watts."""
    found = [{"metric": labels, "values": [[EPOCH + i, str(watts(i))] for i in SECONDS]} for labels, watts in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": found}})


def concise(i):
    head = f"{at(i, CTIME)}\n\n=================== Concise Info ===================\n"
    head += "Device  IDs              Temp        Power     Partitions   SCLK     PwrCap  VRAM%  GPU%\n"
    return head + "".join(
        f"{g}       0x74a1,   28851  45.0°C      {w:.1f}W    NPS1, SPX, 0  132Mhz   750.0W  0%     0%\n" for g, w in ((0, p(i)), (1, 300))
    )


def influx_api():
    rows = [[[at(i, "%Y-%m-%dT%H:%M:%SZ"), w(i), 400] for i in SECONDS] for w in (p, lambda i: 300)]
    series = [{"tags": {"index": str(g)}, "columns": ["time", "power_draw", "power_limit"], "values": rows[g]} for g in (0, 1)]
    return json.dumps({"results": [{"statement_id": 0, "series": series}]})


def victoria():
    of = {"__name__": "DCGM_FI_DEV_POWER_USAGE"}
    stamps = [1000 * (EPOCH + i) for i in SECONDS]
    watts = ([p(i) for i in SECONDS], [300] * len(SECONDS))
    return "".join(json.dumps({"metric": of | {"gpu": str(g)}, "values": watts[g], "timestamps": stamps}) + "\n" for g in (0, 1))


def spent(i):
    """Joules until second i, of a load of p(i) W that steps."""
    return sum(map(p, range(i)))


ZONES = [({"__name__": "kepler_node_cpu_watts", "zone": z, "instance": "n"}, w) for z, w in (("package", p), ("dram", lambda i: 20.0))]
MIG = [({"__name__": "DCGM_FI_DEV_POWER_USAGE", "gpu": "0", "GPU_I_ID": i}, p) for i in ("1", "2")]


def each(block):
    return "".join(block(i) for i in SECONDS)


ONE_CARD = {
    "nvidia-smi, units": smi(),
    "nvidia-smi, no units": smi(value=lambda w: f"{w:.2f}"),
    "nvidia-smi, decimal comma": smi(value=lambda w: f"{w:.2f} W".replace(".", ",")),
    "nvidia-smi, ctime": smi(lambda i: at(i, CTIME)),
    "nvidia-smi, month first": smi(lambda i: at(i, "%m/%d/%Y %H:%M:%S")),
    "nvidia-smi, semicolons and commas": table(
        "timestamp;index;power.draw [W]", lambda i: f"{at(i)};0;{p(i):.2f} W".replace(".00 W", ",00 W")
    ),
    "nvidia-smi, milliwatts in the header": smi(header="timestamp, index, power.draw [mW]", value=lambda w: f"{1000 * w:.0f}"),
    "nvidia-smi, kilowatts in the header": table("time_s,power_kw", lambda i: f"{i},{p(i) / 1000:.4f}"),
    "instant and average": table("timestamp, power.draw.average [W], power.draw.instant [W]", lambda i: f"{at(i)}, 55.0 W, {p(i):.2f} W"),
    "limits, states and reasons beside it": table(
        "timestamp, index, pstate, power.limit [W], enforced.power.limit [W], clocks_event_reasons.sw_power_cap, power.max_limit [W], power.draw [W]",  # noqa: E501
        lambda i: f"{at(i)}, 0, P0, 400.00 W, 400.00 W, Not Active, 400.00 W, {p(i):.2f} W",
    ),
    "module power of a superchip": table(
        "timestamp, power.draw [W], module.power.draw.instant [W]", lambda i: f"{at(i)}, {p(i):.2f} W, 700.00 W"
    ),
    "nvidia-smi -q": each(smi_q),
    "nvidia-smi as a box": each(smi_box),
    "dmon -o DT": table(
        "#Date       Time        gpu    pwr  gtemp  mtemp     sm    mem   mclk   pclk\n"
        "#YYYYMMDD   HH:MM:SS    Idx      W      C      C      %      %    MHz    MHz",
        lambda i: (
            f" {at(i, '%Y%m%d   %H:%M:%S')}      0    {p(i):.0f}     27      -      7      1   6250   1710"
            + ("\n#Date       Time        gpu    pwr  gtemp  mtemp     sm    mem   mclk   pclk" if i == 5 else "")
        ),
    ),
    "dmon -o T": table(
        "#Time        gpu    pwr  gtemp  mtemp     sm\n#HH:MM:SS    Idx      W      C      C      %",
        lambda i: f" {at(i, '%H:%M:%S')}      0    {p(i):.0f}     27      -      7",
    ),
    "dmon as csv": table(
        "#Date, Time, gpu, pwr, gtemp\n#YYYYMMDD, HH:MM:SS, Idx, W, C", lambda i: f"{at(i, '%Y%m%d, %H:%M:%S')}, 0, {p(i):.0f}, 27"
    ),
    "case 01: cpu, gpu and total": table("timestamp,cpu_power_w,gpu_power_w,total_power_w", lambda i: f"{i},45.0,{p(i)},{45 + p(i)}"),
    "xpu-smi": table(
        "Timestamp, DeviceId, GPU Utilization (%), GPU Power (W), GPU Energy Consumed (J)",
        lambda i: f"{at(i, '%H:%M:%S.000')},    0, 0.00, {p(i):.2f}, 1234.5",
    ),
    "GPU-Z": table(
        "Date                   , GPU Clock [MHz] , Board Power Draw [W] , GPU Chip Power Draw [W] , Power Consumption (%) [% TDP] ,",
        lambda i: f"{at(i, '%Y-%m-%d %H:%M:%S')} , 1500.0 , {p(i)} , 50.0 , 80.0 ,",
    ),
    "elapsed": table("time_elapsed,current_power", lambda i: f"{i},{p(i)}"),
    "a wall meter": table("Time;Power (W)", lambda i: f"{EPOCH + i};{p(i):.1f}"),
    "python logging's comma": table("timestamp;power_w", lambda i: f"{at(i, '%Y-%m-%d %H:%M:%S')},000;{p(i)}"),
    "json lines": "".join(json.dumps({"timestamp": EPOCH + i, "power_w": p(i), "temperature": 50}) + "\n" for i in SECONDS),
    "pandas index, nanoseconds": table(",timestamp_ns,gpu_power_watts", lambda i: f"{i},{(EPOCH + i) * 10**9},{p(i)}"),
    "nvidia-smi stats": each(lambda i: f"0, pwrDraw , {(EPOCH + i) * 10**6}, {p(i):.0f}\n"),
    "MLflow": table(
        "timestamp,system/gpu_0_power_usage_watts,system/gpu_0_power_usage_percentage",
        lambda i: f"{(EPOCH + i) * 1000},{p(i)},{p(i) / 4}",
    ),
    "a chart of Weights & Biases": table(
        "Relative Time (Process),run-1 - system/gpu.0.powerWatts,run-1 - system/gpu.0.powerWatts__MIN", lambda i: f"{i},{p(i)},{p(i) - 5}"
    ),
    "pandas' orient=split": json.dumps({"columns": ["time", "gpu_power_w"], "data": [[EPOCH + i, p(i)] for i in SECONDS]}),
    "HWiNFO in the United States": table(
        "Date,Time,CPU Package Power [W],GPU Power [W]", lambda i: f"4/3/2024,{at(i, '%H:%M:%S.123')},60.5,{p(i)}"
    ),
    "two instances of one card": matrix(*MIG),
    "a query without a name": matrix(({"gpu": "0"}, p)),
    "excel's sep line": "sep=;\n" + table("timestamp;power_w", lambda i: f"{EPOCH + i};{p(i)}"),
}


@pytest.mark.parametrize("name", ONE_CARD)
def test_one_card(name, tmp_path):
    path = tmp_path / "log"
    path.write_text(ONE_CARD[name], encoding="utf-8")
    answer = summarize_trace(read_log(path, power="value" if "without a name" in name else ""))
    means = "powermetrics" in name
    assert answer["energy_j"].value == pytest.approx(RAMP_J if not means else sum(p(i) for i in SECONDS), rel=1e-6)
    assert len(answer["gpus"]) == 1 and answer["duration_s"] == pytest.approx(10.0) and answer["status"] == "ok"
    assert len(answer["gpus"][0]["index"] if isinstance(answer["gpus"][0]["index"], str) else "0") < 20


TWO_CARDS = {
    "nvidia-smi, index": table("timestamp, index, power.draw [W]", lambda i: f"{at(i)}, 0, {p(i)} W\n{at(i)}, 1, 300.00 W"),
    "nvidia-smi, uuid and name": table(
        "timestamp, name, gpu_uuid, power.draw [W]",
        lambda i: f"{at(i)}, NVIDIA L40S, GPU-0aaaaaaa, {p(i)} W\n{at(i)}, NVIDIA L40S, GPU-1aaaaaaa, 300.00 W",
    ),
    "wide, named": table("Time,gpu0_power_w,gpu1_power_w", lambda i: f"{EPOCH + i},{p(i)},300"),
    "wide, clocks between": table(
        "Timestamp,GPU_0_power_w,GPU_0_freq_mhz,GPU_1_power_w,GPU_1_freq_mhz", lambda i: f"{i},{p(i)},210,300,1410"
    ),
    "Zeus": table("time,GPU0,GPU1", lambda i: f"{EPOCH + i}.5,{p(i)},300.0"),
    "Grafana, labels": table(
        '"Time","DCGM_FI_DEV_POWER_USAGE{gpu=""0"", instance=""n:9400""}","DCGM_FI_DEV_POWER_USAGE{gpu=""1"", instance=""n:9400""}"',
        lambda i: f"{(EPOCH + i) * 1000},{p(i)},300",
    ),
    "Grafana, units in the cells": table(
        '"Time","GPU 0 power","GPU 1 power"', lambda i: f"{at(i, '%Y-%m-%d %H:%M:%S')},{p(i):.1f} W,0.300 kW"
    ),
    "nvidia-smi -q -x": each(smi_xml),
    "rocm-smi's table": each(concise),
    "InfluxDB's HTTP interface": influx_api(),
    "influx -format csv": "name,tags,time,power_draw\n"
    + each(lambda i: f"smi,index=0,{(EPOCH + i) * 10**9},{p(i)}\nsmi,index=1,{(EPOCH + i) * 10**9},300\n"),
    "VictoriaMetrics' export": victoria(),
    "gpustat --json": each(gpustat),
    "gpustat --json, over several lines": each(lambda i: gpustat(i, 4)),
    "devices of one record": each(
        lambda i: json.dumps({"time": EPOCH + i, "devices": [{"slot": "a", "power_w": p(i)}, {"slot": "b", "power_w": 300}]}) + "\n"
    ),
    "rocm-smi": each(rocm),
    "amd-smi monitor as csv": table(
        "timestamp,gpu,power_usage,hotspot_temperature", lambda i: f"{EPOCH + i},0,{p(i):.0f} W,42 C\n{EPOCH + i},1,300 W,42 C"
    ),
    "amd-smi metric as csv": table(
        "timestamp,gpu,socket_power,gfx_voltage,power_management",
        lambda i: f"{EPOCH + i},0,{p(i):.0f},800,ENABLED\n{EPOCH + i},1,300,800,ENABLED",
    ),
    "amd-smi monitor": table(
        "TIMESTAMP   GPU  POWER  GPU_T  MEM_T",
        lambda i: f"{EPOCH + i}  0    {p(i):.0f} W  42 °C  38 °C\n{EPOCH + i}  1    300 W  42 °C  38 °C",
    ),
    "amd-smi as json": json.dumps(
        [
            {
                "timestamp": EPOCH + i,
                "gpu": g,
                "power": {"socket_power": {"value": w, "unit": "W"}, "gfx_voltage": {"value": 8, "unit": "mV"}},
            }
            for i in SECONDS
            for g, w in ((0, p(i)), (1, 300.0))
        ]
    ),
    "rocm-smi as json": "".join(
        json.dumps(
            {
                "time": EPOCH + i,
                "card0": {"Average Graphics Package Power (W)": str(p(i))},
                "card1": {"Average Graphics Package Power (W)": "300.0"},
            }
        )
        + "\n"
        for i in SECONDS
    ),
    "DCGM exporter": each(dcgm),
    "query_range": query_range(),
    "line protocol": each(influx),
    "InfluxDB's annotated csv": flux(),
    "two machines": table("timestamp,hostname,gpu,power_w", lambda i: f"{EPOCH + i},n1,0,{p(i)}\n{EPOCH + i},n2,0,300"),
    "xpu-smi, two": table(
        "Timestamp, DeviceId, GPU Power (W)", lambda i: f"{at(i, '%H:%M:%S.000')}, 0, {p(i):.2f}\n{at(i, '%H:%M:%S.000')}, 1, 300.00"
    ),
}


@pytest.mark.parametrize("name", TWO_CARDS)
def test_two_cards(name, tmp_path):
    path = tmp_path / "log"
    path.write_text(TWO_CARDS[name], encoding="utf-8")
    answer = summarize_trace(read_log(path))
    assert [g["energy_j"] for g in answer["gpus"]] == pytest.approx([RAMP_J, 3000.0], rel=1e-6)
    assert answer["energy_j"].value == pytest.approx(RAMP_J + 3000.0) and answer["status"] == "ok", answer["warnings"]


PERF = "#           time             counts unit events\n" + "".join(
    f"     {i + 1}.000000000              {p(i):.2f} Joules power/energy-pkg/\n     {i + 1}.000000000               5.00 Joules power/energy-ram/\n"  # noqa: E501
    for i in SECONDS
)
PERF_CSV = "".join(f"{i + 1}.000000000,{p(i):.2f},Joules,power/energy-pkg/,1000000000,100.00,,\n" for i in SECONDS)
TURBOSTAT = "Time_Of_Day_Seconds\tCore\tCPU\tAvg_MHz\tBusy%\tPkgWatt\tCorWatt\tRAMWatt\n"
TURBOSTAT = "".join(
    f"{TURBOSTAT}{EPOCH + i}.000000\t-\t-\t100\t5.0\t{p(i):.2f}\t50.00\t5.00\n{EPOCH + i}.000000\t0\t0\t100\t5.0\t{p(i):.2f}\t50.00\t5.00\n"
    for i in SECONDS
)
SUM_J = sum(p(i) for i in SECONDS)
"""Means over each of eleven seconds."""


def plist(i):
    power = {"cpu_power": 1500.0, "gpu_power": 1000 * p(i), "ane_power": 0.0, "combined_power": 1000 * p(i) + 1500}
    sample = {"elapsed_ns": 10**9, "timestamp": (BEGIN + timedelta(seconds=i)).replace(tzinfo=None), "processor": power}
    return plistlib.dumps(sample).decode()


ISO = "%Y-%m-%dT%H:%M:%S.000Z"
RAILS = "RAM 2089/3964MB (lfb 9x4MB) CPU [45%@1479] GR3D_FREQ 0%@76 POM_5V_IN 4056/4056 POM_5V_GPU {g}/0 POM_5V_CPU 1363/1363\n"
DCMI = "    Instantaneous power reading:   {w} Watts\n    Minimum during sampling period:   3 Watts\n    IPMI timestamp:   {t}\n\n"
SHORT = "Time_Of_Day_Seconds\tPackage\tCore\tCPU\tAvg_MHz\tPkgWatt\tGFXWatt\n{t}.0\t-\t-\t-\t40\t{w}\t0.10\n{t}.0\t0\t0\t4\t40\n"
POWERSTAT = "Running for 480.0 seconds (48 samples).\nPower measurements will start in 0 seconds time.\n\n  Time    User  Idle  Watts\n"
HOME = "sensor.plug_power,{w},{t}\nsensor.plug_voltage,230.1,{t}\nsensor.plug_energy,12.1,{t}\n"
SOCKET = {"id": 0, "consumption": 80e6, "domains": []}
ELSEWHERE = {
    "powermetrics as plist": ("\0".join(map(plist, SECONDS)), "gpu", SUM_J),
    "tegrastats behind ts": (each(lambda i: f"{at(i, '%Y-%m-%d %H:%M:%S')} " + RAILS.format(g=int(p(i)))), "gpu", 1.5),
    "perf stat, decimal commas": (each(lambda i: f"  {i + 1},000000000   {int(p(i))},00 Joules power/energy-pkg/\n"), "cpu_package", SUM_J),
    "turbostat with short lines and graphics": (each(lambda i: SHORT.format(t=EPOCH + i, w=p(i))), "cpu_package", SUM_J),
    "turbostat behind its version": (
        "turbostat version 2023.11.07\nCPUID(0): x\n"
        + each(lambda i: f"Time_Of_Day_Seconds\tPkgWatt\tRAMWatt\n{EPOCH + i}.0\t{p(i)}\t2.0\n"),
        "cpu_package",
        SUM_J,
    ),
    "powerstat": (POWERSTAT + each(lambda i: f"{at(i, '%H:%M:%S')}   0.5  99.3  {p(i)}\n") + " Average  0.5  99.3  150.0\n", "gpu", RAMP_J),
    "ipmitool dcmi": (each(lambda i: DCMI.format(w=int(p(i)), t=at(i, CTIME))), "machine", RAMP_J),
    "ipmitool sdr": (each(lambda i: f"{at(i, ISO)} Pwr Consumption  | 77h | ok  |  7.1 | {int(p(i))} Watts\n"), "machine", RAMP_J),
    "ipmitool sensor": (
        each(lambda i: f"{at(i, ISO)}\nPwr Consumption  | {p(i)}  | Watts  | ok  | na\nFan1 | 3000 | RPM | ok | na\n"),
        "machine",
        RAMP_J,
    ),
    "PTDaemon": (
        each(lambda i: f"Time,{at(i, '%m-%d-%Y %H:%M:%S')}.000,Watts,{p(i)},Volts,208.1,Amps,1.2,PF,0.99,Mark,run\n"),
        "machine",
        RAMP_J,
    ),
    "Home Assistant": (
        "entity_id,state,last_changed\nsensor.plug_power,unavailable,"
        + at(-1, ISO)
        + "\n"
        + each(lambda i: HOME.format(w=p(i), t=at(i, ISO))),
        "machine",
        RAMP_J,
    ),
    "Shelly": (
        each(lambda i: json.dumps({"apower": p(i), "voltage": 230.1, "aenergy": {"total": 1.5}, "ts": EPOCH + i}) + "\n"),
        "machine",
        RAMP_J,
    ),
    "Tasmota": (
        each(
            lambda i: json.dumps({"Time": at(i, "%Y-%m-%dT%H:%M:%S"), "ENERGY": {"Total": 1, "Power": p(i), "ApparentPower": 999}}) + "\n"
        ),
        "gpu",
        RAMP_J,
    ),
    "Scaphandre": (
        json.dumps(
            [
                {
                    "host": {"consumption": 1e6 * p(i), "timestamp": EPOCH + i},
                    "consumers": [],
                    "sockets": [SOCKET | {"timestamp": EPOCH + i}],
                }
                for i in SECONDS
            ]
        ),
        "cpu_package",
        800.0,
    ),
    "counters of powercap": (
        table("timestamp_ns,intel-rapl:0,intel-rapl:0:0", lambda i: f"{(EPOCH + i) * 10**9},{10**9 + i * 10**8},{10**8}"),
        "cpu_package",
        1000.0,
    ),
    "xpu-smi's counter": (
        table("Timestamp, DeviceId, GPU Energy Consumed (J)", lambda i: f"{at(i, '%H:%M:%S.000')}, 0, {1000 + 100 * i}"),
        "gpu",
        1000.0,
    ),
    "a counter that wraps": (
        "time_s,package-0_energy_uj\n"
        + each(lambda i: f"{EPOCH + 100 * i},{10**9 + i * 10**8}\n")
        + "".join(f"{EPOCH + 1100 + i},{5 * 10**8 + i * 10**6}\n" for i in range(400)),
        "cpu_package",
        None,
    ),
    "Weights & Biases": (
        table("_timestamp,system.gpu.0.powerWatts,system.gpu.0.powerPercent", lambda i: f"{EPOCH + i},{p(i)},50"),
        "gpu",
        RAMP_J,
    ),
    "date before each csv": (
        each(lambda i: f"\n{at(i, '%H:%M:%S')}\npower.draw [W], utilization.gpu [%]\n{p(i):.2f} W, 98 %\n"),
        "gpu",
        RAMP_J,
    ),
    "Grafana's panel in watts": (table('"Time","GPU 0"', lambda i: f"{at(i, '%Y-%m-%d %H:%M:%S')},{p(i):.0f} W"), "gpu", RAMP_J),
    "perf stat -j": (
        each(lambda i: f'{{"interval" : {i + 1}.0, "counter-value" : "{p(i)}", "unit" : "Joules", "event" : "power/energy-pkg/"}}\n'),
        "cpu_package",
        SUM_J,
    ),
    "Kepler's counter": (matrix(({"__name__": "kepler_node_gpu_joules_total", "mode": "dynamic"}, spent)), "gpu", RAMP_J - 50),
    "Kepler's platform": (matrix(({"__name__": "kepler_node_platform_joules_total"}, spent)), "machine", RAMP_J - 50),
    "FreeIPMI": (
        each(lambda i: f"Current Power   : {p(i):.0f} Watts\nMaximum Power : 900 Watts\nTime Stamp   : {at(i, '%m/%d/%Y - %H:%M:%S')}\n"),
        "machine",
        RAMP_J,
    ),
    "Cray's pm_counters": (each(lambda i: f"{p(i):.0f} W {(EPOCH + i) * 10**6} us\n"), "machine", RAMP_J),
    "Redfish": (
        each(lambda i: json.dumps({"time": EPOCH + i, "PowerControl": [{"PowerConsumedWatts": p(i), "PowerCapacityWatts": 900}]}) + "\n"),
        "gpu",
        RAMP_J,
    ),
    "Intel Power Gadget": (
        table(
            "System Time,RDTSC,Processor Power_0(Watt),Cumulative Processor Energy_0(Joule),IA Power_0(Watt),DRAM Power_0(Watt)",
            lambda i: f"{at(i, '%H:%M:%S')}:250,1,{p(i)},7,3,5",
        ),
        "cpu_package",
        RAMP_J,
    ),
    "jtop": (
        table("time,GPU,Power VDD_CPU_GPU_CV,Power VDD_SOC,Power TOT", lambda i: f"{EPOCH + i},90,{7 * p(i)},500,{10 * p(i):.0f}"),
        "machine",
        RAMP_J / 100,
    ),
    "a plug's watt hours beside it": (table("time,watts,volts,watt hrs", lambda i: f"{i},{p(i)},230,1"), "gpu", RAMP_J),
    "domains of RAPL": (
        table("timestamp,package_j,core_j,dram_j,package_w,core_w,uncore_w,dram_w", lambda i: f"{EPOCH + i},{i},1,1,{p(i)},60,5,8"),
        "cpu_package",
        RAMP_J,
    ),
    "a supply's real power": (table("timestamp,ups.realpower,ups.load", lambda i: f"{EPOCH + i},{p(i)},40"), "gpu", RAMP_J),
    "a German plug": (table("Datum/Zeit;Leistung in W", lambda i: f"{at(i, '%d.%m.%Y %H:%M:%S')};{int(p(i))},0"), "machine", RAMP_J),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_meters_of_machines_packages_and_plugs(name, tmp_path):
    text, boundary, joules = ELSEWHERE[name]
    path = tmp_path / "log"
    path.write_text(text)
    answer = summarize_trace(read_log(path))
    assert answer["boundary"] == boundary
    if joules is None:  # the wrap is a time without a reading, and this one is long
        assert answer["status"] == "invalid" and answer["gpus"][0]["gaps"] == 1
    else:
        assert answer["energy_j"].value == pytest.approx(joules) and answer["status"] == "ok", answer["warnings"]


MEANS = {
    "perf stat": (PERF, "cpu_package", SUM_J, {"dram": 55.0}),
    "perf stat -x,": (PERF_CSV, "cpu_package", SUM_J, {}),
    "turbostat": (TURBOSTAT, "cpu_package", SUM_J, {"dram": 55.0, "part": 550.0}),
    "powermetrics": (each(powermetrics), "gpu", SUM_J, {"cpu_package": 16.5, "machine": SUM_J + 16.5, "part": 0.0}),
}


@pytest.mark.parametrize("name", MEANS)
def test_means_and_joules_of_the_time_before_each_stamp(name, tmp_path):
    text, boundary, joules, others = MEANS[name]
    path = tmp_path / "log"
    path.write_text(text)
    answer = summarize_trace(read_log(path))
    assert answer["boundary"] == boundary and answer["energy_j"].value == pytest.approx(joules) and answer["status"] == "ok"
    assert {o["boundary"]: o["energy_j"] for o in answer["others"]} == pytest.approx(others)
    assert answer["duration_s"] == pytest.approx(11.0) and answer["gpus"][0]["samples"] == 11


def test_tegrastats_gives_each_rail(tmp_path):
    line = "{t} RAM 17953/62841MB (lfb 4x4MB) CPU [7%@1728,off] EMC_FREQ 12%@204 GR3D_FREQ 0%@[305,0] gpu@40.1C "
    line += "VDD_GPU_SOC {g}mW/2399mW VDD_CPU_CV {c}mW/399mW VIN_SYS_5V0 {s}mW/2712mW\n"
    values = [(2399, 399, 2712), (2798, 799, 3115), (2798, 799, 3115), (2399, 399, 2712)]
    path = tmp_path / "tegrastats.log"
    path.write_text("".join(line.format(t=at(i, "%m-%d-%Y %H:%M:%S"), g=g, c=c, s=s) for i, (g, c, s) in enumerate(values)))
    answer = summarize_trace(read_log(path))
    found = {r["index"]: r["energy_j"] for r in (*answer["gpus"], *answer["others"])}
    assert found == pytest.approx({"VDD_GPU_SOC": 7.9955, "VDD_CPU_CV": 1.997, "VIN_SYS_5V0": 8.942}, abs=1e-3)
    path.write_text("RAM 1/3964MB (lfb 1x1MB) CPU [7%@1,off] POM_5V_IN 2000/2000 POM_5V_GPU 40/40 POM_5V_CPU 500/500\n" * 3)
    with pytest.raises(UserError, match="has no time"):
        read_log(path)


def test_codecarbon_is_the_energy_of_its_run(tmp_path):
    head = "timestamp,project_name,run_id,duration,emissions,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,energy_consumed,gpu_model"  # noqa: E501
    path = tmp_path / "emissions.csv"
    path.write_text(f"{head}\n2024-04-03T10:00:00,x,a,36.0,0.1,42.5,250.0,3.0,0.0004,0.0025,0.00003,0.00293,1 x NVIDIA A100-SXM4-80GB\n")
    answer = summarize_trace(read_log(path))
    assert answer["energy_j"].value == pytest.approx(0.0025 * 3.6e6) and answer["duration_s"] == pytest.approx(36.0)
    path.write_text(path.read_text() + "2024-04-03T11:00:00,x,b,36.0,0.1,42.5,250.0,3.0,0.0004,0.0025,0.00003,0.00293,1 x A\n")
    with pytest.raises(UserError, match=r"2 runs of CodeCarbon.*eai import"):
        read_log(path)


REFUSED = {
    "cards by name alone": (table("timestamp,GPU0,GPU1", lambda i: f"{i},{p(i)},300"), "--power GPU0,GPU1"),
    "two that could be it": (table("timestamp,power_a,power_b", lambda i: f"{i},{p(i)},300"), "power_a, power_b"),
    "the power of the CPU and of who knows": (table("timestamp,cpu_power,power", lambda i: f"{i},{p(i)},300"), "cpu_power"),
    "decimal commas between commas": (table("timestamp,index,power_w", lambda i: f"{i},0,{p(i):.1f}".replace(".", ",")), "decimal commas"),
    "a comma that may part thousands": (table("time;power_w", lambda i: f"{i};1,{200 + i}"), "1.200 or 1200"),
    "rocm-smi without time": ("GPU[0]\t\t: Average Graphics Package Power (W): 38.0\n" * 3, "has no time"),
    "one scrape": ('DCGM_FI_DEV_POWER_USAGE{gpu="0"} 70.1\n', "has no time"),
    "dmon without time": ("# gpu   pwr gtemp\n# Idx     W     C\n    0    62    27\n    0    63    27\n", "no time column"),
    "turbostat without time": ("Core\tCPU\tPkgWatt\n-\t-\t20.1\n0\t0\t20.1\n", "Time_Of_Day_Seconds"),
    "a unit that may be mega": (table("time,power (MW)", lambda i: f"{i},{1000 * p(i)}"), "mW or MW"),
    "times that nobody can read": (table("gpu power, time", lambda i: f"{p(i)}, {at(i, '%H:%M:%S')}:123456789"), "10:46:12:123456789"),
    "dcgmi dmon": ("#Entity   POWER  GPUTL\nID        W\n" + "".join(f"GPU 0     {p(i)}  98\n" for i in SECONDS), "no time column"),
    "energy that is no counter": (table("time,gpu_energy_j", lambda i: f"{i},{100 + (-1) ** i}"), "a counter of energy that rises"),
    "energies of three runs": (table("time,gpu_energy_j", lambda i: f"{i},{100 + i}").rsplit("\n", 8)[0] + "\n", "rises in 3 of 3 steps"),
    "the same energy each second": (table("time,gpu_energy_j", lambda i: f"{i},100"), "rises in 0 of 10 steps"),
    "an error of Prometheus": ('{"status": "error", "error": "bad query"}', "bad query"),
    "no JSON": ('{"a": 1,,}', "line 1 is not JSON"),
    "thousands of milliwatts": (table("time,gpu0_power_mw", lambda i: f'{i},"{p(i):.0f},000"'), "100.000 or 100000"),
    "stamps with a zone and without": (
        table("timestamp,power_w", lambda i: f"{at(i, '%Y-%m-%d %H:%M:%S')}{'Z' * (i > 5)},{p(i)}"),
        "some times have a zone",
    ),
    "two zones of Kepler": (matrix(*ZONES), r'kepler_node_cpu_watts{zone="package"}, kepler_node_cpu_watts{zone="dram"}'),
    "two machines without cards": (
        matrix(*(({"__name__": "scaph_host_power_microwatts", "instance": f"n{k}"}, lambda i, k=k: 1e6 * k * p(i)) for k in (1, 2))),
        'instance="n2"',
    ),
    "records of devices that nothing names": (
        each(lambda i: "".join(json.dumps({"time": EPOCH + i, "slot": s, "power_w": w}) + "\n" for s, w in (("a", p(i)), ("b", 300)))),
        "several values of power_w at one time",
    ),
    "another order further on": (
        smi() + smi(header="timestamp, power.draw [W], index").replace(", 0, ", ", ").replace(" W", " W, 0"),
        "another header further on, with index for power.draw [W]",
    ),
    "comments alone": ("# none\n# either\n", "holds comments alone"),
    "one line, cut off": ("1,100.0", "one line that was cut off"),
    "numbers that are no cards": (
        table("time,id,power_w", lambda i: f"{EPOCH + i},{7 if i == 5 else 3},{p(i)}"),
        "not equally often",
    ),
    "turbostat of each processor alone": (
        each(lambda i: f"Time_Of_Day_Seconds\tCPU\tPkgWatt\n{EPOCH + i}.0\t0\t20\n{EPOCH + i}.0\t1\t20\n"),
        "has no summary line",
    ),
    "records without power": (each(lambda i: json.dumps({"time": EPOCH + i, "power_w": None}) + "\n"), "N/A"),
    "totals of two": (table("time,total gpu power a,total gpu power b", lambda i: f"{EPOCH + i},{p(i)},300"), "2 columns"),
    "power in every line [N/A]": (smi(value=lambda w: "[N/A]"), "N/A"),
    "milliwatts that nobody names": (table("timestamp,power", lambda i: f"{i},{1000 * p(i)}"), "COLUMN:mW"),
    "kilowatts that nobody names": (table("timestamp,power", lambda i: f"{i},{p(i) / 1000}"), "COLUMN:kW"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_in_doubt_is_refused_in_one_short_line(name, tmp_path):
    text, words = REFUSED[name]
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        summarize_trace(read_log(path))
    assert words in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(path))


def test_options_settle_what_is_in_doubt(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(table("when,GPU0,GPU1", lambda i: f"{i},{p(i)},300"))
    answer = summarize_trace(read_log(path, power="GPU0,GPU1", time="when"))
    assert [(g["index"], g["energy_j"]) for g in answer["gpus"]] == [(0, pytest.approx(RAMP_J)), (1, pytest.approx(3000))]
    path.write_text(table("timestamp,power", lambda i: f"{i},{1000 * p(i)}"))
    assert summarize_trace(read_log(path, power="power:mW"))["energy_j"].value == pytest.approx(RAMP_J)
    mapping = tmp_path / "m.yaml"
    mapping.write_text("power: {power: mW}\ntime: timestamp\n")
    said = options_of(mapping)
    assert summarize_trace(read_log(path, power=said["power"], time=said["time"]))["energy_j"].value == pytest.approx(RAMP_J)
    mapping.write_text("watts: power\n")
    with pytest.raises(UserError, match="keys among"):
        options_of(mapping)
    mapping.write_text("energies: [{column: e, unit: J, boundary: gpu, basis: measured}]\n")
    with pytest.raises(UserError, match="energies and no power"):
        options_of(mapping)
    with pytest.raises(UserError, match="names 0 columns"):
        read_log(path, power="volts")


def test_one_mapping_language(tmp_path):
    """The same columns, units, constants and expressions as in `import`: amperes x volts, milliseconds, JSON with dots."""
    path, mapping = tmp_path / "log.csv", tmp_path / "m.yaml"
    path.write_text(table("t_ms,current_ma,voltage_v,board", lambda i: f"{1000 * i},{p(i) / 12 * 1000},12.0,a"))
    mapping.write_text(
        "source: ina219\ncolumns: {time_s: t_ms / 1000, power_w: current_ma * voltage_v, card: board}\nunits: {power_w: mW}\n"
        "constants: {gpu: a100, step_s: 0.037}\n"
    )
    said = options_of(mapping)
    answer = summarize_trace(read_log(path, None, said["power"], said["time"], said["card"]), None, said["gpu"], said["step"])
    assert answer["energy_j"].value == pytest.approx(RAMP_J) and answer["gpus"][0]["index"] == "a"
    path.write_text("".join(json.dumps({"t": i, "out": {"amps": p(i) / 230, "volts": 230}}) + "\n" for i in SECONDS))
    assert summarize_trace(read_log(path, power="out.amps * out.volts"))["energy_j"].value == pytest.approx(RAMP_J)
    with pytest.raises(UserError, match=r"nearest: out\.amps"):
        read_log(path, power="out.amp * out.volts")
    path.write_text(table('"Time","{gpu=""0""}","{gpu=""1""}"', lambda i: f"{EPOCH + i},{p(i)},300"))
    assert [g.index for g in read_log(path, power="*gpu=*").gpus] == [0, 1]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda b: pa.compress(b, "zstd", asbytes=True)])
def test_packed_logs_and_standard_input(pack, tmp_path, monkeypatch):
    path = tmp_path / "log.csv.packed"
    path.write_bytes(pack(smi().encode()))
    assert summarize_trace(read_log(path))["energy_j"].value == pytest.approx(RAMP_J)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(smi().encode()))))
    assert summarize_trace(read_log(Path("-")))["energy_j"].value == pytest.approx(RAMP_J)
    path.write_bytes(pack(smi().encode())[:-20])
    with pytest.raises(UserError, match="unpacked"):
        read_log(path)


@pytest.mark.parametrize(
    ("name", "boundary", "index", "scale"),
    [
        ("power.draw [W]", "gpu", None, 1.0),
        ("DCGM_FI_DEV_POWER_USAGE", "gpu", None, None),
        ("nvidia_smi_power_draw_watts", "gpu", None, 1.0),
        ("GPU_3_power_mW", "gpu", 3, 1e-3),
        ("Power (kW)", "unknown", None, 1e3),
        ("scaph_host_power_microwatts", "machine", None, 1e-6),
        ("PkgWatt", "cpu_package", None, 1.0),
        ("RAMWatt", "dram", None, 1.0),
        ("Current Socket Graphics Package Power (W)", "gpu", None, 1.0),
        ("total_gpu_power_w", "sum", None, 1.0),
        ("gpu_memory_power_w", "part", None, 1.0),
    ],
)
def test_whose_power_a_name_means(name, boundary, index, scale):
    found = meaning(name)
    assert (found.boundary, found.index, found.scale) == (boundary, index, scale)


@pytest.mark.parametrize(
    "name",
    ["power.limit [W]", "enforced.power.limit [W]", "pstate", "power_cap", "clocks_throttle_reasons.hw_power_brake_slowdown", "gpu_power_pct",  # noqa: E501
     "power.management", "max_power_w", "energy_consumed", "utilization.gpu [%]", "power_efficiency", "GPU_0_freq_mhz", "GPU0", "w", "throttle_power",  # noqa: E501
     "DCGM_FI_DEV_POWER_VIOLATION", "power_state", "gpu energy [J]", "tokens_per_watt"],
)  # fmt: skip
def test_names_that_are_no_power(name):
    assert meaning(name) is None


def test_a_card_without_any_reading_is_said(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(table("index, timestamp, power.draw [W]", lambda i: f"0, {at(i)}, {p(i)} W\n1, {at(i)}, [Not Supported]"))
    assert any("no reading of GPU 1" in w for w in read_log(path).warnings)


def test_a_broken_line_is_left_out_and_said_even_late_in_the_log(tmp_path):
    lines = smi().splitlines()
    path = tmp_path / "log.csv"
    path.write_text("\n".join([*lines[:6], "2024/04/03 10:46:16.500, 0", *lines[6:]]) + "\n")
    log = read_log(path)
    assert log.warnings == ["1 line(s) were broken or cut off at the end and left out"]
    assert summarize_trace(log)["energy_j"].value == pytest.approx(RAMP_J)


def test_time_zones_of_logs_and_a_day_that_ends(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(table("timestamp,power_w", lambda i: f"{at(i, '%Y-%m-%dT%H:%M:%S')}+02:00,{p(i)}"))
    log = read_log(path)
    assert log.zone == "stamps with a time zone" and log.gpus[0].t_s[0] == EPOCH - 7200
    path.write_text(
        table(
            "time,power_w", lambda i: f"{(23 * 3600 + 3595 + i) // 3600 % 24:02d}:{(3595 + i) // 60 % 60:02d}:{(3595 + i) % 60:02d},{p(i)}"
        )
    )
    assert np.ptp(read_log(path).gpus[0].t_s) == pytest.approx(10.0)
