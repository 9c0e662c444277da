"""Traffic against a server whose every token has a known time: counts, latencies and arrivals against theory, faults as one line each."""

import asyncio
import dataclasses
import itertools
import json
import math
import time

import numpy as np
import pytest
from fake_server import Behaviour, FakeServer
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eai.errors import UserError
from eai.serving.client import Client, Reply, StreamError, completion, endpoint, event_of, longest_s
from eai.serving.session import Prompts, Session, fitted, models
from eai.serving.traffic import Beat, Tally, Traffic, arrivals_s
from eai.settings import Load, load

OUT = 16


def drive(behaviour: Behaviour, text: str, ramp_s: float, window_s: float, input_tokens: int = 40) -> tuple[Tally, Traffic]:
    """The tally of a window under a load on a fake server, after a ramp and with everything drained."""
    with FakeServer(behaviour) as server:
        session = Session(endpoint(server.url), "fake", 5.0).open()
        traffic = session.traffic(load(text), input_tokens, OUT, time.monotonic, seed=7)
        traffic.start()
        time.sleep(ramp_s)
        start_s = time.monotonic()
        time.sleep(window_s)
        stop_s = time.monotonic()
        traffic.stop()
    return Tally(traffic.replies, start_s, stop_s, load(text)), traffic


def ask(behaviour: Behaviour, timeout_s: float = 5.0, **changes) -> Reply:
    """The reply to one request."""
    body = {"model": "fake", "max_tokens": OUT, "stream": True, "ignore_eos": True, "messages": [{"role": "user", "content": "a b c"}]}
    body |= {"stream_options": {"include_usage": True}} | changes

    with FakeServer(behaviour) as server:
        return asyncio.run(ask_once(server, body, timeout_s))


async def ask_once(server: FakeServer, body: dict, timeout_s: float = 5.0) -> Reply:
    async with Client(endpoint(server.url), time.monotonic, timeout_s) as client:
        return await client.ask(body, time.monotonic())


# Loads


def test_loads_are_read_as_written():
    assert load("closed:4") == Load(concurrency=4) and load(" open:2.5 ") == Load(rate_per_s=2.5)
    assert [str(load(text)) for text in ("closed:4", "open:2.5", "open:3.0")] == ["closed:4", "open:2.5", "open:3"]


@pytest.mark.parametrize(
    "text", ["", "4", "closed", "closed:0", "closed:-1", "closed:2.5", "open:0", "open:0.0", "open:x", "half:3", "open:1e3"]
)
def test_what_is_no_load_is_one_line(text):
    with pytest.raises(UserError, match="closed:N"):
        load(text)


def test_arrivals_are_a_poisson_process():
    """Gaps are exponential (Kolmogorov-Smirnov), counts a second have variance = mean, and one second tells nothing of the next."""
    times_s = np.array(list(itertools.islice(arrivals_s(20.0, np.random.default_rng(1)), 20_000)))
    assert stats.kstest(np.diff(times_s), stats.expon(scale=1 / 20).cdf).pvalue > 0.01
    counts = np.histogram(times_s, bins=np.arange(0, math.floor(times_s[-1])))[0]
    assert counts.mean() == pytest.approx(20, rel=0.02)
    assert counts.var() == pytest.approx(20, rel=0.15)
    assert abs(np.corrcoef(counts[:-1], counts[1:])[0, 1]) < 0.1


def test_arrivals_are_the_seeds():
    def first(seed):
        return list(itertools.islice(arrivals_s(2.0, np.random.default_rng(seed)), 5))

    assert first(3) == first(3) != first(4)


# What a window holds


def reply(due_s, first_s, gap_s, n, tokens_out=None, **changes) -> Reply:
    moments_s = tuple(first_s + k * gap_s for k in range(n))
    return Reply(due_s, due_s, moments_s[-1], moments_s, 10, tokens_out or n, True, **changes)


def test_tokens_count_where_they_arrive():
    """Four requests about the window (10, 20]: before, into, out of and across it, their tokens counted here by hand."""
    before, into, out_of, across = reply(0, 1, 1, 10), reply(5, 6, 1, 10), reply(15, 16, 1, 10), reply(2, 3, 1, 25)
    tally = Tally([before, into, out_of, across], 10.0, 20.0, Load(concurrency=4))
    assert tally.tokens_out == 0 + 5 + 5 + 10
    found = tally.columns()
    assert (found["requests"], found["tokens_in"], found["arrivals"]) == (1, 10, 1)
    assert found["in_flight_mean"] == pytest.approx((0 + 5 + 5 + 10) / 10)
    assert found["latency_s"] == 10.0 and found["ttft_s"] == 1.0 and found["itl_s"] == 1.0


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 3), st.floats(0.001, 0.5), st.integers(1, 40)), min_size=1, max_size=8),
    st.lists(st.floats(0, 60), min_size=1, max_size=5, unique=True),
)
def test_windows_side_by_side_hold_every_token_once(requests, edges):
    replies = [reply(due, due + wait, gap, n) for due, wait, gap, n in requests]
    bounds = [-1.0, *sorted(edges), 200.0]
    tallies = [Tally(replies, a, b, Load(concurrency=1)) for a, b in itertools.pairwise(bounds)]
    assert sum(t.tokens_out for t in tallies) == pytest.approx(sum(r.tokens_out for r in replies))
    for name in ("requests", "tokens_in", "arrivals"):
        assert sum(t.columns()[name] for t in tallies) == len(replies) * (10 if name == "tokens_in" else 1)


def test_pieces_of_several_tokens_share_the_usage():
    """30 tokens in 10 pieces: half the pieces are 15 tokens, and a step is a third of a gap but for the first piece's own tokens."""
    tally = Tally([reply(0, 1, 1, 10, tokens_out=30)], 0.0, 5.0, Load(concurrency=1))
    assert tally.tokens_out == 15
    assert reply(0, 1, 1, 10, tokens_out=30).step_time_s == pytest.approx(9 / 29)


def test_failed_replies_count_as_failures_and_not_as_tokens():
    good, bad = [reply(0, 1, 1, 3)] * 99, [reply(0, 1, 1, 3, failure="http", reason="HTTP 500: boom")]
    tally = Tally(good + bad, 0.0, 10.0, Load(concurrency=1))
    assert tally.tokens_out == 99 * 3 and tally.columns()["requests_failed"] == 1
    assert tally.verdict() == {} and "requests_failed" in tally.flags(10, 3)


@pytest.mark.parametrize(("kind", "status"), [("http", "failed"), ("timeout", "timeout")])
def test_more_than_one_failure_in_twenty_spoils_the_window(kind, status):
    bad = [reply(0, 1, 1, 3, failure=kind, reason="why")] * 2
    verdict = Tally([reply(0, 1, 1, 3)] * 20 + bad, 0.0, 10.0, Load(concurrency=1)).verdict()
    assert verdict == {"status": status, "reason": "2 of 22 requests failed (2 x why)"}
    assert Tally([], 0.0, 10.0, Load(concurrency=1)).verdict()["status"] == "timeout"
    early = dataclasses.replace(reply(0, 1, 1, 3), ended_s=4.0)
    assert Tally([early], 3.5, 10.0, Load(concurrency=1)).verdict()["status"] == "short_window", "its text had come before"


def test_what_came_out_otherwise_is_flagged():
    tally = Tally([reply(0, 1, 1, 3, tokens_cached=9)], 0.0, 10.0, Load(concurrency=1))
    assert tally.flags(10, 3) == ["prefix_cached"]
    assert set(tally.flags(20, 4)) == {"prefix_cached", "input_length_varies", "length_varies"}


# Against the clock of the fake server


def test_a_closed_load_finds_the_servers_times():
    """No time is shorter than the server's, whatever the machine does: 0.08 s to the first token, 0.02 s a further one, fifteen of those.

    And they agree: latency is ttft + 15 steps, and by Little's law the tokens in flight over the latency are the throughput.
    """
    tally, traffic = drive(Behaviour(ttft_s=0.08, itl_s=0.02), "closed:4", 0.4, 1.2)
    found = tally.columns()
    assert found["ttft_s"] >= 0.08 and found["latency_s"] >= 0.08 + 15 * 0.02 and found["step_time_s"] >= 0.02 * 0.95
    assert found["latency_s"] == pytest.approx(found["ttft_s"] + 15 * found["step_time_s"], rel=0.15)
    assert found["itl_s"] == pytest.approx(found["step_time_s"], rel=0.3)
    mean_s = np.mean([r.latency_s for r in tally.completed])
    assert found["tokens_out"] / 1.2 == pytest.approx(4 * OUT / mean_s, rel=0.25)
    assert found["in_flight_mean"] == pytest.approx(4, rel=0.1)
    assert found["tokens_in"] / len(tally.begun) == pytest.approx(40, rel=0.05)
    assert set(tally.flags(40, OUT)) <= {"client_late"} and tally.verdict() == {} and traffic.fault == ""


def test_an_open_load_meets_the_queue_that_theory_says():
    """One slot and fixed service S: Lindley's recursion W' = max(0, W + S - gap) over the same arrivals gives every request's wait."""
    behaviour = Behaviour(ttft_s=0.05, itl_s=0.005, slots=1)
    with FakeServer(behaviour) as server:
        traffic = Session(endpoint(server.url), "fake", 5.0).open().traffic(load("open:5"), 40, OUT, time.monotonic, seed=7)
        begin_s = time.monotonic()
        traffic.start()
        time.sleep(2.5)
        traffic.stop()
    due_s = np.array(sorted(traffic.due_s))
    expected_s = np.array(list(itertools.islice(arrivals_s(5.0, np.random.default_rng(7)), len(due_s))))
    assert np.abs(due_s - begin_s - expected_s).max() < 0.1
    service_s, waits_s = 0.05 + 15 * 0.005, [0.0]
    for gap_s in np.diff(due_s):
        waits_s.append(max(0.0, waits_s[-1] + service_s - gap_s))
    latencies_s = np.array([r.latency_s for r in sorted(traffic.replies, key=lambda r: r.due_s)])
    assert max(waits_s) > 0.1, "the load is too low to queue: the test would show nothing"
    assert np.median(np.abs(latencies_s - service_s - waits_s)) < 0.05


def test_an_open_load_beyond_the_servers_limit_is_flagged():
    """One slot of 0.05 s serves at most 20 a second; 100 a second pile up."""
    tally, _ = drive(Behaviour(ttft_s=0.02, itl_s=0.002, slots=1), "open:100", 0.1, 0.6)
    assert "overloaded" in tally.flags(40, OUT)
    assert 6 <= tally.columns()["requests"] <= 13


def test_nothing_is_in_flight_after_a_drain():
    _, traffic = drive(Behaviour(ttft_s=0.02, itl_s=0.01), "closed:3", 0.2, 0.3)
    assert traffic.in_flight == 0 and not traffic.is_running
    assert len(traffic.replies) == len(traffic.due_s) and all(r.tokens_out == OUT for r in traffic.replies)
    assert len({r.tokens_in for r in traffic.replies}) == 1


# Dialects, prompts, models


@pytest.mark.parametrize(
    ("behaviour", "name"),
    [
        (Behaviour(), "ignore_eos"),
        (Behaviour(strict=True), "ignore_eos"),
        (Behaviour(strict=True, obeys=("generation_config",)), "generation_config"),
        (Behaviour(obeys=()), "plain"),
        (Behaviour(strict=True, obeys=(), usage="never"), "plain"),
    ],
)
def test_the_dialect_a_server_obeys_is_found(behaviour, name):
    quick = Behaviour(**{**vars(behaviour), "ttft_s": 0.0, "itl_s": 0.0})
    with FakeServer(quick) as server:
        session = Session(endpoint(server.url), "fake", 5.0).open()
    assert session.dialect.name == name


def test_a_server_that_keeps_prompts_is_asked_to_compute_them_whole():
    """llama.cpp has the template from the request before and obeys cache_prompt; where nobody keeps anything the word is not said."""
    with FakeServer(
        Behaviour(ttft_s=0.0, itl_s=0.0, caches=True, strict=True, obeys=("ignore_eos", "min_tokens", "cache_prompt"))
    ) as server:
        session = Session(endpoint(server.url), "fake", 5.0).open()
    assert session.dialect.name == "ignore_eos, cache_prompt"
    tally, _ = drive(Behaviour(ttft_s=0.0, itl_s=0.001, caches=True), "closed:1", 0.1, 0.2)
    assert "prefix_cached" not in tally.flags(40, OUT)
    with FakeServer(Behaviour(ttft_s=0.0, itl_s=0.0)) as server:
        Session(endpoint(server.url), "fake", 5.0).open()
    assert not any("cache_prompt" in body for body in server.bodies)


def test_a_server_that_will_not_let_go_of_prompts_is_flagged():
    behaviour = Behaviour(ttft_s=0.0, itl_s=0.001, caches=True, strict=True)
    tally, traffic = drive(behaviour, "closed:1", 0.1, 0.2)
    assert "prefix_cached" in tally.flags(40, OUT) and all(r.ok for r in traffic.replies)


def test_a_server_that_knows_no_stream_options_is_asked_without():
    class Old(FakeServer):
        def _refusal(self, path, body):
            return super()._refusal(path, {**body, "model": "gone"} if "stream_options" in body else body)

    with Old(Behaviour(ttft_s=0.0, itl_s=0.0)) as server:
        assert Session(endpoint(server.url), "fake", 5.0).open().dialect.name == "plain, no usage"


@given(st.integers(20, 3000), st.floats(0.8, 4.0), st.integers(0, 18))
def test_prompts_come_to_the_wanted_length(input_tokens, tokens_a_word, template):
    """Against a tokenizer of any density: within 5 %, or as near as whole words allow."""

    def count(text):
        return template + math.ceil(tokens_a_word * len(text.split()))

    if count(Prompts(1).text(0)) <= input_tokens:
        found = count(fitted(input_tokens, count).text(9))
        assert abs(found - input_tokens) <= max(0.05 * input_tokens, tokens_a_word + 1)


def test_prompts_begin_differently_and_are_the_seeds():
    texts = [Prompts(30, 1).text(i) for i in range(200)]
    assert len({text.split()[0] for text in texts}) > 195
    first, second = ({Prompts(30, [1, block]).text(i) for i in range(50)} for block in (1, 2))
    assert not first & second
    assert texts == [Prompts(30, 1).text(i) for i in range(200)]
    assert texts[0] != Prompts(30, 2).text(0)
    assert {len(text.split()) for text in texts} == {31}


def test_a_prompt_shorter_than_the_template_is_one_line():
    with pytest.raises(UserError, match="template"):
        fitted(8, lambda text: 30 + len(text.split()))


def test_models_are_listed_or_nothing_is_said():
    with FakeServer() as server:
        assert models(endpoint(server.url))["fake"]["owned_by"] == "nobody"
    with FakeServer(Behaviour(lists_models=False)) as server:
        assert models(endpoint(server.url)) == {}


def test_the_key_comes_from_the_environment_and_is_not_shown():
    here = endpoint("http://localhost:1", {"EAI_API_KEY": "secret"})
    assert here.key == "secret" and "secret" not in repr(here)
    assert endpoint("http://localhost:1", {}).key == ""


@pytest.mark.parametrize(
    ("text", "completions"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://host/v1/completions", "https://host:443/v1/completions"),
        ("http://[::1]:8080/api/v3", "http://[::1]:8080/api/v3/chat/completions"),
    ],
)
def test_addresses_are_completed(text, completions):
    assert endpoint(text, {}).completions == completions


@pytest.mark.parametrize(
    "text", ["", "localhost:8000", "ftp://host", "http://", "http://host:99999", "http://host:x", "http://me:pw@host", "http://h/?a=1"]
)
def test_what_is_no_address_is_one_line(text):
    with pytest.raises(UserError) as caught:
        endpoint(text, {})
    assert "\n" not in str(caught.value) and "pw" not in str(caught.value)


# What goes wrong


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data: {oops", "not JSON"),
        ("data: []", "no completion"),
        ("<html>", "no event"),
        ('data: {"error": {"message": "out\\nof memory"}}', "out of memory"),
        ('data: {"detail": "x"}', "no completion"),
        ('data: {"choices": ["x"]}', "no completion"),
        ('data: {"choices": 3}', "no completion"),
    ],
)
def test_a_line_that_is_no_event_is_said_on_one_line(line, words):
    with pytest.raises(StreamError, match=words):
        event_of(line)


@pytest.mark.parametrize("line", ["", ": ping", "event: message", "id: 3", "retry: 100"])
def test_lines_without_data_say_nothing(line):
    assert event_of(line) is None


@given(st.text(max_size=80))
def test_no_line_breaks_the_parser(text):
    for line in (text, "data:" + text):
        try:
            event_of(line)
        except StreamError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("delta", "holds"),
    [
        ({"content": "a"}, True),
        ({"reasoning_content": "a"}, True),
        ({"role": "assistant", "content": ""}, False),
        ({}, False),
        ({"content": None}, False),
    ],
)
def test_a_role_alone_is_no_token(delta, holds):
    assert (completion(json.dumps({"choices": [{"delta": delta}]})).text is not None) is holds


@pytest.mark.parametrize(
    ("fault", "failure", "words"),
    [
        ("garbage", "broken", "not JSON"),
        ("error", "broken", "the server reports: out of memory"),
        ("cut", "broken", "cut off"),
        ("page", "broken", "not JSON"),
        ("silent", "timeout", "no text for 0.3 s"),
    ],
)
def test_a_fault_inside_a_reply_is_in_the_reply(fault, failure, words):
    found = ask(Behaviour(ttft_s=0.0, itl_s=0.0, fault=fault), timeout_s=0.3)
    assert found.failure == failure and words in found.reason and "\n" not in found.reason


def test_a_slow_server_that_goes_on_is_no_timeout():
    """Sixteen tokens in 0.8 s, each well within the limit of 0.5 s for the next one."""
    found = ask(Behaviour(ttft_s=0.05, itl_s=0.05), timeout_s=0.5)
    assert found.ok and found.tokens_out == OUT and found.latency_s > 0.7


def test_5xx_and_a_wrong_model_are_in_the_servers_words():
    assert ask(Behaviour(status=500)).reason == "HTTP 500: broken inside"
    assert ask(Behaviour(), model="other").reason == "HTTP 404: The model `other` does not exist."


def test_a_connection_that_was_kept_and_is_closed_loses_no_request():
    """As llama.cpp's server: promised to be kept, closed after each streamed reply. The request that met it was not read, nor retried."""
    tally, traffic = drive(Behaviour(ttft_s=0.0, itl_s=0.001, forgets=True), "closed:4", 0.2, 0.3)
    assert len(traffic.replies) > 8 and all(r.ok and r.tokens_out == OUT and not r.retries for r in traffic.replies)
    assert tally.verdict() == {} and not {"requests_failed", "requests_retried"} & set(tally.flags(40, OUT))


def test_a_connection_is_kept_for_the_next_request():
    connections = []

    async def serve(reader, writer):
        connections.append(writer)
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(json.dumps({"model": "m", "max_tokens": OUT})))
            except asyncio.IncompleteReadError:
                return writer.close()
            writer.write(page(b'{"choices": [{"message": {"content": "w"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}'))

    async def three():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        here = endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
        async with Client(here, time.monotonic, 2.0) as client:
            found = [await client.ask({"model": "m", "max_tokens": OUT + n}, 0.0) for n in range(3)]
        server.close()
        await asyncio.sleep(0.05)
        return found

    assert all(r.ok and not r.retries for r in asyncio.run(three())) and len(connections) == 1


def test_a_server_that_closes_a_new_connection_without_a_word_is_a_fault():
    class Mute(FakeServer):
        async def _serve(self, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            self.bodies.append({})
            writer.close()

    with Mute() as server:
        found = asyncio.run(ask_once(server, {"model": "fake"}))
    assert (found.failure, found.reason) == ("broken", "the server closed the connection without a word")
    assert len(server.bodies) == 1


def test_a_busy_server_is_asked_again_when_it_says():
    found = ask(Behaviour(ttft_s=0.0, itl_s=0.0, busy=2, retry_after="0.2"))
    assert found.ok and found.retries == 2 and 0.4 <= found.latency_s < 1.0


def test_a_server_that_stays_busy_is_given_up():
    found = ask(Behaviour(busy=99, retry_after="0"))
    assert (found.failure, found.reason, found.retries) == ("http", "HTTP 429: busy", 5)


def test_no_usage_means_pieces_are_counted_and_said():
    found = ask(Behaviour(ttft_s=0.0, itl_s=0.0, usage="never", per_piece=4))
    assert found.ok and not found.by_usage and found.tokens_out == OUT / 4 and found.tokens_in is None
    assert "tokens_from_pieces" in Tally([found], 0.0, time.monotonic(), Load(concurrency=1)).flags(16, OUT)
    assert Tally([found], 0.0, time.monotonic(), Load(concurrency=1)).columns()["tokens_in"] is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (136, "usage of 136 output tokens where max_tokens is 16"),
        (1, "usage of 1 output tokens in 16 pieces of text"),
        (0, "usage of 0 output tokens in 16 pieces of text"),
        (-5, "usage of -5 output tokens in 16 pieces of text"),
        (10**15, "usage of 1000000000000000 output tokens where max_tokens is 16"),
    ],
)
def test_counts_that_cannot_be_spoil_the_window(told, words):
    """A piece of text holds a token at least, and nobody may send more than was asked for: a server looked 8 times too cheap."""
    found = ask(Behaviour(ttft_s=0.0, itl_s=0.0, told=told))
    assert found.ok and found.miscount() == words
    tally = Tally([found], found.due_s - 1.0, found.ended_s, Load(concurrency=1))
    assert tally.verdict() == {"status": "invalid", "reason": f"counts that cannot be: 1 x {words}"}


def test_counts_that_can_be_are_believed():
    for told in (None, 16):
        assert ask(Behaviour(ttft_s=0.0, itl_s=0.0, told=told)).miscount() == ""
    assert ask(Behaviour(ttft_s=0.0, itl_s=0.0, per_piece=4)).miscount() == "", "several tokens in a piece"
    assert reply(0, 1, 1, 3, asked_tokens=3, asked_bytes=5).miscount() == ""
    assert "input tokens" in reply(0, 1, 1, 3, asked_bytes=5).__class__(0, 0, 1, (0.5,), 10**9, 1, True, asked_bytes=100).miscount()


def test_a_text_of_more_tokens_than_usage_tells_is_a_wrong_count():
    """Of the model's own tokenizer where it is at hand, here one of words: 40 words cannot be 5 tokens, 5 can be, and fewer than told."""

    def count(text):
        return len(text.split())

    def written(words, told=5):
        return dataclasses.replace(reply(0, 1, 1, 2, tokens_out=told), text="w " * words)

    assert written(40).miscount() == written(5).miscount(count) == written(2, 16).miscount(count) == ""
    assert written(40).miscount(count) == "usage of 5 output tokens for a text of 40 by the model's tokenizer"
    tally = Tally([written(40)] * 3, -1.0, 10.0, Load(concurrency=1), count=count)
    assert tally.verdict()["status"] == "invalid" and "3 x usage of 5" in tally.verdict()["reason"]
    found = ask(Behaviour(ttft_s=0.0, itl_s=0.0))
    assert found.text == "w " * OUT and found.miscount(count) == ""


def test_a_prompt_of_more_tokens_than_usage_tells_is_one_line():
    """The fake server tells two tokens a word and 10 of a template: two a word agree, ten a word do not."""
    with FakeServer(Behaviour(ttft_s=0.0, itl_s=0.0)) as server:
        given = endpoint(server.url), "fake", 5.0, 0
        assert Session(*given, lambda text: 2 * len(text.split())).open().prompts(40).n_words > 1
        with pytest.raises(UserError, match="input tokens for a prompt of 20 by the model's tokenizer"):
            Session(*given, lambda text: 10 * len(text.split())).open().prompts(40)


def test_a_reply_that_was_cut_by_the_windows_edge_is_judged_too():
    wrong = Reply(0.0, 0.0, 30.0, (1.0, 29.0), 10, 1, True)
    assert Tally([wrong, *[reply(0, 1, 1, 3)] * 9], 0.5, 10.0, Load(concurrency=1)).verdict()["status"] == "invalid"


class Raw:
    """A server that answers every request with the same bytes: `first`, then `again` for ever with a pause, or the end."""

    def __init__(self, first: bytes, again: bytes = b"", pause_s: float = 0.01, ends: bool = True):
        self.first, self.again, self.pause_s, self.ends = first, again, pause_s, ends

    async def serve(self, reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        echoed = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization")), b"")
        try:
            writer.write(self.first.replace(b"HEADER", echoed))
            while self.again or not self.ends:
                writer.write(self.again)
                await writer.drain()
                await asyncio.sleep(self.pause_s)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def reply(self, timeout_s: float = 0.2, key: str = "") -> Reply:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        here = endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"EAI_API_KEY": key})
        async with Client(here, time.monotonic, timeout_s) as client:
            found = await client.ask({"model": "m", "max_tokens": OUT}, time.monotonic())
        server.close()
        return found


SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
PIECE = b'data: {"choices": [{"delta": {"content": "w"}}]}\n\n'
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def page(text: bytes) -> bytes:
    return JSON % (len(text), text)


@pytest.mark.parametrize(
    ("raw", "failure", "words"),
    [
        (Raw(b"", ends=False), "timeout", "no text for 0.2 s"),
        (Raw(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"), "timeout", "no text for 0.2 s"),
        (Raw(SSE, b": ping\n\n"), "timeout", "no text for 0.2 s"),
        (Raw(SSE, PIECE, 0.09), "timeout", "no end of the reply in time"),
        (Raw(SSE, PIECE, 0.0), "broken", "does not heed max_tokens"),
        (Raw(SSE, b"x" * 1_000_000, 0.0), "broken", "without an end"),
        (Raw(SSE + PIECE), "broken", "cut off"),
        (Raw(SSE + b"data: " + b"[" * 100_000 + b"\n\n"), "broken", "not JSON"),
        (Raw(SSE + b'data: {"choices": [], "usage": {"completion_tokens": "16"}}\n\n'), "broken", "no count"),
        (Raw(SSE + b'data: {"choices": [], "usage": {"completion_tokens": 2.5}}\n\n'), "broken", "no count"),
        (Raw(SSE + b'data: {"choices": [], "usage": {"completion_tokens": true}}\n\n'), "broken", "no count"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), "broken", "cut off"),
        (Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "broken", "no HTTP"),
        (Raw(b"\x16\x03\x01 no HTTP at all\r\n\r\n"), "broken", "no HTTP"),
        (Raw(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"), "http", "HTTP 302"),
        (Raw(page(b"\xff\xfe")), "broken", "not JSON"),
        (Raw(page(b"null")), "broken", "no completion"),
        (Raw(b"HTTP/1.1 503 x\r\nRetry-After: inf\r\nContent-Length: 0\r\n\r\n"), "http", "HTTP 503"),
        (Raw(b"HTTP/1.1 429 x\r\nRetry-After: 999999\r\nContent-Length: 0\r\n\r\n"), "http", "HTTP 429"),
    ],
)
def test_a_hostile_server_ends_as_one_line_within_the_stated_time(raw, failure, words):
    began_s = time.monotonic()
    found = asyncio.run(raw.reply())
    assert found.failure == failure and words in found.reason and "\n" not in found.reason and len(found.reason) <= 160
    assert time.monotonic() - began_s < longest_s(0.2, OUT) + 3.0, "3 s for a busy machine"


def test_an_interim_answer_is_not_the_answer():
    whole = page(b'{"choices": [{"message": {"content": "w"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}')
    found = asyncio.run(Raw(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + whole).reply())
    assert found.ok and (found.tokens_in, found.tokens_out) == (3, 1)


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b'HTTP/1.1 400 x\r\nConnection: close\r\n\r\n{"error": {"message": "you sent HEADER"}}'),
        Raw(SSE + b'data: {"error": {"message": "you sent HEADER"}}\n\n'),
        Raw(SSE + b"HEADER\n\n"),
        Raw(b"HTTP/1.1 400 x\r\nConnection: close\r\n\r\n" + b"x" * 130 + b"HEADER"),
    ],
)
def test_a_key_that_a_server_sends_back_is_not_written(raw):
    found = asyncio.run(raw.reply(key="sk-very-secret-key"))
    assert not found.ok and "secret" not in found.reason and "sk-" not in found.reason


def test_a_key_that_cannot_be_a_header_is_one_line():
    for key in ("a\r\nX-Evil: 1", "schlüssel"):
        with pytest.raises(UserError, match="EAI_API_KEY"):
            endpoint("http://localhost:1", {"EAI_API_KEY": key})
    assert endpoint("http://localhost:1", {"EAI_API_KEY": "sk-1\n"}).key == "sk-1"


def test_a_server_that_fails_after_good_replies_ends_the_traffic():
    """The first replies, those of the negotiation and the prompts' fitting among them, are good; then all hang."""
    with FakeServer(Behaviour(ttft_s=0.0, itl_s=0.0, fails_after=12)) as server:
        traffic = Session(endpoint(server.url), "fake", 0.3).open().traffic(load("closed:4"), 40, OUT, time.monotonic)
        traffic.start()
        until_s = time.monotonic() + 20
        while traffic.is_running and time.monotonic() < until_s:
            time.sleep(0.05)
        traffic.stop(1.0)
    assert "the last" in traffic.fault and "no text for 0.3 s" in traffic.fault and traffic.fault_status == "timeout"
    assert any(r.ok for r in traffic.replies)


def test_a_client_that_is_late_says_so():
    """Requests that left late; a thread that woke late; a thread that had no rest; and none of it."""
    good = [reply(0.1 * k, 0.1 * k + 0.1, 0.02, 3) for k in range(20)]
    late = [dataclasses.replace(r, sent_s=r.due_s + 0.02) for r in good]
    calm, slow = ([Beat(0.01 * k, late_s, 0.001 * k) for k in range(200)] for late_s in (0.0005, 0.02))
    busy = [Beat(0.01 * k, 0.0005, 0.0095 * k) for k in range(200)]
    rare = [Beat(0.01 * k, 0.2 if k == 100 else 0.0005, 0.001 * k) for k in range(200)]  # one look of 200, a tenth of the time
    three = [dataclasses.replace(r, sent_s=r.due_s + 0.003) for r in good]
    woke_three = [b._replace(late_s=0.003) for b in calm]
    held = [Beat(3.2, 3.1, 0.1)]  # no look at all in the window
    cases = [(good, calm, False), (late, calm, True), (good, slow, True), (good, busy, True), (good, rare, True), (good, held, True)]
    for replies, beats, expected in [*cases, (three, calm, False), (good, woke_three, False), (three, woke_three, True)]:
        assert Tally(replies, 0.0, 3.0, Load(concurrency=1), beats).is_client_late() is expected
    six = [dataclasses.replace(r, sent_s=r.due_s + 0.006, moments_s=tuple(m + 1.0 for m in r.moments_s)) for r in good]
    assert not Tally(six, 0.0, 3.0, Load(concurrency=1)).is_client_late(), "6 ms are less than 5 % of a first token after 1.1 s"


def test_what_left_is_stamped_when_it_left():
    """A server that reads nothing for 0.3 s while 40 MB wait to be sent."""

    async def slow(reader, writer):
        await asyncio.sleep(0.3)
        try:
            await reader.readuntil(b"\r\n\r\n")
            while len(await reader.read(1 << 20)):
                pass
        finally:
            writer.transport.abort()

    async def once():
        server = await asyncio.start_server(slow, "127.0.0.1", 0, limit=1 << 16)
        here = endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
        async with Client(here, time.monotonic, 2.0) as client:
            found = await client.ask({"model": "m" * 40_000_000, "max_tokens": 1}, time.monotonic())
        server.close()
        await asyncio.sleep(0.2)  # the server's side closes too: an open transport warns when it is collected
        return found

    found = asyncio.run(once())
    assert found.sent_s - found.due_s > 0.3


@pytest.mark.parametrize(
    ("behaviour", "model", "words"),
    [
        (Behaviour(), "other", "no model 'other'; expected one of fake"),
        (Behaviour(lists_models=False), "other", "does not exist"),
        (Behaviour(status=500), "fake", "HTTP 500: broken inside"),
        (Behaviour(fault="garbage"), "fake", "not JSON"),
    ],
)
def test_what_keeps_a_session_from_opening_is_one_line(behaviour, model, words):
    with FakeServer(behaviour) as server, pytest.raises(UserError) as caught:
        Session(endpoint(server.url), model, 5.0).open()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_dead_server_is_one_line():
    with FakeServer() as server:
        pass
    with pytest.raises(UserError, match="no answer from http"):
        Session(endpoint(server.url), "fake", 5.0).open()


@pytest.mark.parametrize("text", ["closed:2", "open:50"])
def test_a_server_that_dies_ends_the_traffic(text):
    with FakeServer(Behaviour(ttft_s=0.01, itl_s=0.0)) as server:
        traffic = Session(endpoint(server.url), "fake", 5.0).open().traffic(load(text), 40, OUT, time.monotonic)
        traffic.start()
        time.sleep(0.3)
    deadline_s = time.monotonic() + 5.0
    while traffic.is_running and time.monotonic() < deadline_s:
        time.sleep(0.02)
    traffic.stop()
    assert "the server is gone" in traffic.fault and "\n" not in traffic.fault


def test_what_hangs_is_given_up_when_the_time_to_drain_is_over():
    with FakeServer(Behaviour(ttft_s=30.0)) as server:
        here = endpoint(server.url)

        async def hang(number, due_s):
            async with Client(here, time.monotonic, 60.0) as client:
                return await client.ask({"model": "fake", "max_tokens": 1, "prompt": "a", "stream": True}, due_s)

        traffic = Traffic(load("closed:2"), hang, time.monotonic)
        traffic.start()
        time.sleep(0.2)
        begin_s = time.monotonic()
        traffic.stop(drain_s=0.3)
    assert time.monotonic() - begin_s < 3.0 and "still under way" in traffic.fault
