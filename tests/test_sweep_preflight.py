"""What stops a sweep before a second is spent: the server that is asked once, and the settings that want one."""

import pytest
from fake_server import Behaviour, FakeServer

from eai import jobs, measure, runs, settings
from eai.errors import UserError

SERVED = {"server_name": "fake-1", "quantizations": ["bf16"], "gpus": ["cpu"]}


@pytest.mark.parametrize("ask", [runs.describe, runs.run])
def test_a_server_is_asked_for_its_model_once(scratch, monkeypatch, ask):
    monkeypatch.delenv("EAI_API_KEY", raising=False)
    with FakeServer(Behaviour(model="the-one")) as server:
        sweep = settings.sweep(server=server.url, models=["Qwen/Qwen2-7B"], **SERVED)
        with pytest.raises(UserError, match=r"no model 'Qwen/Qwen2-7B'; expected one of the-one; set server_model to its name there"):
            ask(sweep)
        assert server.bodies == [], "nothing was generated"
        named = sweep.model_copy(update={"server_model": "the-one"})
        assert runs.describe(named)["jobs"][0]["gpu"] == "cpu" and server.bodies == []


def test_nobody_at_the_address(scratch):
    with FakeServer() as server:
        url = server.url
    with pytest.raises(UserError, match=r"no answer from .*; expected a running server") as caught:
        runs.describe(settings.sweep(server=url, models=["m"], **SERVED))
    assert "\n" not in str(caught.value) and "Error" not in str(caught.value)


@pytest.mark.parametrize(
    "stated", [{"server_name": "x"}, {"server_model": "x"}, {"server_pid": 1}, {"server_timeout_s": 5}, {"loads": ["closed:2"]}]
)
def test_settings_of_a_server_without_one(stated):
    (name,) = stated
    with pytest.raises(UserError, match=f"{name} is of a server; set server to its address"):
        settings.sweep(**stated)
    known = {field for field in settings.Sweep.model_fields if field.startswith("server_")}
    assert known == {"server_name", "server_model", "server_pid", "server_timeout_s"}, "a new one wants a case here"


SIMULATED = {"gpus": ["simulated_h100_sxm"], "models": ["Qwen/Qwen2.5-7B-Instruct"], "quantizations": ["fp16"], "batch_sizes": [1]}


@pytest.mark.parametrize("name", jobs.SAME_THROUGHOUT)
def test_an_experiment_is_not_continued_by_another_protocol(tmp_path, name):
    """A setting that decides how a window is measured: its rows would be averaged with those of another."""
    changed = {"window_s": 3.0, "warmup_cap_s": 2.0, "idle_s": 3.0, "threads": 7, "seed": 5, "meter": "nvml"}[name]
    measure.run(settings.sweep(**SIMULATED, blocks=1, experiment=str(tmp_path)), lambda line: None)
    more = settings.sweep(**SIMULATED, blocks=2, experiment=str(tmp_path), **{name: changed})
    with pytest.raises(UserError, match=f"was measured with another {name}"):
        runs.describe(more, tmp_path)
    with pytest.raises(UserError, match=f"was measured with another {name}"):
        measure.run(more, lambda line: None)
