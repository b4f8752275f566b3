"""The server on the wire: framing, order, timing, clients that leave, and the truth of what is counted."""

import json
import socket
import threading
import time

import pytest

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "What is 6*7?"}]}).encode()


def post(body=BODY, extra=b"", version=b"1.1"):
    return b"POST /v1/chat/completions HTTP/%b\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (
        version,
        extra,
        len(body),
        body,
    )


def received(client):
    """Everything until the server closes."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def one(client, buffer=b""):
    """One response of known length: head, body, and what came after it."""
    while b"\r\n\r\n" not in buffer:
        buffer += client.recv(65536)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(rest) < length:
        rest += client.recv(65536)
    return head, rest[:length], rest[length:]


def test_byte_by_byte(quick, raw):
    client = raw(quick)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in post():
        client.sendall(bytes([byte]))
    head, body, rest = one(client)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["choices"][0]["message"]["content"] == "42"
    assert rest == b""


def test_requests_sent_ahead_are_answered_in_order(quick, raw):
    client = raw(quick)
    prompts = [f"What is {number}+1?" for number in range(50)]
    bodies = [
        json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode() for prompt in prompts
    ]
    waits = [b"x-aiorchsim-latency-s: %b\r\n" % (b"0.005" if number % 7 == 0 else b"0") for number in range(50)]
    client.sendall(b"".join(post(body, wait) for body, wait in zip(bodies, waits, strict=True)))
    rest = b""
    for number in range(50):
        _, body, rest = one(client, rest)
        assert json.loads(body)["choices"][0]["message"]["content"] == str(number + 1)
    assert rest == b""


def test_much_sent_ahead_of_a_slow_answer_is_held_back_and_answered(quick, raw):
    client = raw(quick)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x " * 20_000}]}).encode()
    requests = [post(extra=b"x-aiorchsim-latency-s: 0.2\r\n"), *[post(body)] * 30]
    sender = threading.Thread(target=client.sendall, args=(b"".join(requests),))
    sender.start()
    rest = b""
    for _ in requests:
        head, _, rest = one(client, rest)
        assert head.startswith(b"HTTP/1.1 200")
    sender.join()


def test_a_client_that_sends_much_and_never_reads_is_held_back(quick, raw):
    before = quick.stats()["process"]["rss_bytes"]
    client = raw(quick)
    client.settimeout(1.0)
    body = json.dumps({"model": "m", "input": ["cats like milk"] * 50, "dimensions": 4096}).encode()
    request = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            sent += client.send(request * 10)
    assert quick.stats()["process"]["rss_bytes"] - before < 60_000_000


def test_a_client_that_reads_late_gets_everything(quick, raw, ask):
    client = raw(quick)
    body = json.dumps({"model": "m", "input": ["cats like milk"] * 50, "dimensions": 4096}).encode()
    request = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    client.sendall(request * 20)
    assert ask(quick).chat(headers={"x-aiorchsim-latency-s": "0.2"}).status == 200  # some time, and others are served
    rest = b""
    for _ in range(20):
        head, answer, rest = one(client, rest)
        assert head.startswith(b"HTTP/1.1 200")
        assert len(json.loads(answer)["data"]) == 50
    assert rest == b""


def test_a_stream_that_is_read_late_is_whole(start, raw, ask, tmp_path):
    said = "word " * 20_000
    (tmp_path / "rows.jsonl").write_text(json.dumps({"model": "m", "prompt": "go", "answer": said}) + "\n")
    config = tmp_path / "p.toml"
    config.write_text(
        '[sim]\nreplay = "rows.jsonl"\nreplay_missing = "compute"\n'
        "[[models]]\nlatency_s = 0\nstream_chunk_tokens = 1\nlatency_per_output_token_s = 0.00001\n"
    )
    simulator = start(config=config)
    client = raw(simulator)
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "go"}]}).encode()
    client.sendall(post(body, extra=b"Connection: close\r\n"))
    assert ask(simulator).chat(headers={"x-aiorchsim-latency-s": "0.5"}).status == 200
    assert simulator.stats()["calls"]["in_flight"] == 1  # held back, not buffered whole
    answer = received(client)
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert answer.count(b'"content":"') == 25_001
    assert simulator.stats()["tokens"]["completion"] > 25_000


def test_chunked_bodies(quick, raw):
    client = raw(quick)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7]) for i in range(0, len(BODY), 7))
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )
    assert json.loads(one(client)[1])["choices"][0]["message"]["content"] == "42"


def test_expect_continue(quick, raw):
    client = raw(quick)
    head, _, body = post(extra=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    client.sendall(head + b"\r\n\r\n")
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(body)
    assert one(client)[0].startswith(b"HTTP/1.1 200")


def test_old_clients(quick, raw):
    client = raw(quick)
    client.sendall(post(version=b"1.0"))
    answer = received(client)
    assert b"connection: close\r\n" in answer
    client = raw(quick)
    client.sendall(post(version=b"1.0", extra=b"Connection: keep-alive\r\n"))
    head, _, _ = one(client)
    assert b"connection: keep-alive" in head
    streamed = BODY.replace(b'"model"', b'"stream": true, "model"')
    client.sendall(post(streamed, version=b"1.0", extra=b"Connection: keep-alive\r\n"))
    answer = received(client)
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


def test_connection_close_is_obeyed(quick, raw):
    client = raw(quick)
    client.sendall(post(extra=b"Connection: close\r\n") + post())
    answer = received(client)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close\r\n" in answer


def test_head_has_no_body(quick, raw):
    client = raw(quick)
    client.sendall(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = received(client)
    assert answer.startswith(b"HTTP/1.1 405")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01" + b"\x00" * 200, 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
    ],
)
def test_nonsense_is_answered_with_its_status_and_closed(quick, raw, data, status):
    before = quick.stats()["malformed_requests"]
    client = raw(quick)
    client.sendall(data)
    answer = received(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert quick.stats()["malformed_requests"] == before + 1


def test_a_body_beyond_the_limit_is_told_before_it_was_sent(start, raw):
    client = raw(start("[sim]\nmax_body_bytes = 2000\n"))
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
    client.sendall(b"x" * 300_000)
    assert received(client).startswith(b"HTTP/1.1 413 ")


def test_idle_connections_are_closed_when_the_profile_says_so(start, raw):
    simulator = start("[sim]\nkeep_alive_s = 0.1\n[[models]]\nlatency_s = 0.3\n")
    client = raw(simulator)
    client.sendall(post())
    assert one(client)[0].startswith(b"HTTP/1.1 200")  # longer than the idle time, but not idle
    began = time.monotonic()
    assert client.recv(1) == b""
    assert 0.05 < time.monotonic() - began < 5


def test_a_stream_comes_piece_by_piece(start, raw):
    simulator = start(
        "[[models]]\nfirst_token_s = 0.05\nlatency_s = 9\nlatency_per_output_token_s = 0.02\nstream_chunk_tokens = 1\n"
    )
    client = raw(simulator)
    body = json.dumps(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Who was it on the moon?"}]}
    ).encode()
    began = time.monotonic()
    client.sendall(post(body, extra=b"Connection: close\r\n"))
    times = []
    while part := client.recv(65536):
        times.append((time.monotonic() - began, part))
    assert times[0][0] >= 0.05
    assert len(times) >= 5
    tokens = sum(part.count(b'"content":"') for _, part in times) - 1
    assert times[-1][0] >= 0.05 + 0.02 * tokens
    assert times[-1][0] < 3
    assert times[-1][1].endswith(b"0\r\n\r\n")


def test_latency_of_whole_answers(start, ask):
    asker = ask(
        start(
            "[[models]]\nlatency_s = 0.05\nlatency_jitter_s = 0.02\nlatency_per_output_token_s = 0.01\nfirst_token_s = 9\n"
        )
    )
    for _ in range(5):
        began = time.monotonic()
        answered = asker.chat()
        assert 0.04 <= time.monotonic() - began < 2
        assert 40 <= int(answered.headers["openai-processing-ms"]) <= 80


def test_many_wait_at_once_and_cost_little(start, raw):
    simulator = start("[[models]]\nlatency_s = 0.5\n")
    clients = [raw(simulator) for _ in range(300)]
    before = simulator.stats()["process"]["cpu_s"]
    began = time.monotonic()
    for client in clients:
        client.sendall(post())
    for client in clients:
        assert one(client)[0].startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began < 5
    stats = simulator.stats()
    assert stats["calls"]["most_in_flight"] > 200
    assert stats["process"]["cpu_s"] - before < 0.6


def test_clients_that_leave_are_counted_and_billed_what_they_cost(start, raw):
    simulator = start(
        "[[models]]\nlatency_s = 5\nfirst_token_s = 0.01\nlatency_per_output_token_s = 0.05\nstream_chunk_tokens = 1\n"
        "input_usd_per_1m = 1.0\noutput_usd_per_1m = 2.0\n"
    )
    client = raw(simulator)
    client.sendall(post())
    simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 1)
    client.close()
    stats = simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 0)
    assert stats["calls"]["abandoned"] == 1
    assert stats["by_status"] == {"abandoned": 1}
    assert stats["tokens"] == {"prompt": 10, "completion": 0, "cache_read": 0, "cache_write": 0}
    assert stats["cost_usd"] == pytest.approx(10e-6)

    simulator.reset()
    long = json.dumps(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Who was it? " * 20}]}
    ).encode()
    client = raw(simulator)
    client.sendall(post(long))
    seen = b""
    while seen.count(b'"content":"') < 4:
        seen += client.recv(65536)
    client.close()
    stats = simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 0)
    assert stats["calls"]["abandoned"] == 1
    assert 3 <= stats["tokens"]["completion"] <= 6
    assert stats["tokens"]["prompt"] > 10


def test_statistics_tell_the_truth(start, ask):
    simulator = start(
        '[sim]\nseed = 5\n[[models]]\nname = "a"\nlatency_s = 0\nrequests_per_minute = 6\nburst_s = 50\n'
        'input_usd_per_1m = 2.0\noutput_usd_per_1m = 10.0\n[[models]]\nname = "b"\nlatency_s = 0\n'
    )
    asker = ask(simulator)
    answers = [asker.chat(model="a") for _ in range(8)]
    assert [answered.status for answered in answers] == [200] * 5 + [429] * 3
    usage = [answered.json["usage"] for answered in answers[:5]]
    assert asker.chat(model="b", stream=True).status == 200
    assert asker.embed("cats like milk", model="b").status == 200
    assert asker.chat(model="c").status == 404
    assert asker.request("GET", "/v1/models").status == 200
    assert asker.request("GET", "/nowhere").status == 404
    stats = simulator.stats()
    calls = stats["calls"]
    assert calls == {
        "received": 13, "answered": 8, "rate_limited": 3, "errors": 2, "abandoned": 0, "in_flight": 0, "most_in_flight": 1,
    }  # fmt: skip
    assert stats["by_status"] == {"200": 8, "404": 2, "429": 3}
    assert stats["by_endpoint"]["/v1/chat/completions"]["received"] == 10
    assert stats["by_endpoint"]["/v1/embeddings"]["answered"] == 1
    assert stats["by_endpoint"]["(unknown)"]["by_status"] == {"404": 1}
    a = stats["by_model"]["a"]
    assert (a["answered"], a["rate_limited"]) == (5, 3)
    assert a["prompt_tokens"] == sum(one["prompt_tokens"] for one in usage)
    assert a["completion_tokens"] == sum(one["completion_tokens"] for one in usage)
    cost = (a["prompt_tokens"] * 2.0 + a["completion_tokens"] * 10.0) / 1e6
    assert a["cost_usd"] == pytest.approx(cost)
    assert stats["cost_usd"] == pytest.approx(cost)
    assert stats["tokens"]["prompt"] == sum(model["prompt_tokens"] for model in stats["by_model"].values())
    assert stats["connections"]["opened"] >= 2
    assert stats["process"]["seed"] == 5
    assert stats["process"]["pid"] == simulator.pid
    assert stats["process"]["cpu_s"] > 0
    assert 5_000_000 < stats["process"]["rss_bytes"] < 200_000_000
    assert stats["process"]["uptime_s"] > 0
    simulator.reset()
    asker.connection.close()
    stats = simulator.wait_until(lambda stats: stats["connections"]["open"] == 1)
    assert stats["calls"]["received"] == 0
    assert stats["by_model"] == {}
    assert stats["cost_usd"] == 0


def test_calls_in_flight_survive_a_reset(start, raw):
    simulator = start("[[models]]\nlatency_s = 0.3\n")
    client = raw(simulator)
    client.sendall(post())
    simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 1)
    simulator.reset()
    assert simulator.stats()["calls"]["received"] == 1
    assert one(client)[0].startswith(b"HTTP/1.1 200")
    calls = simulator.stats()["calls"]
    assert (calls["received"], calls["answered"], calls["in_flight"]) == (1, 1, 0)


def test_names_made_up_by_clients_do_not_fill_the_statistics(quick, ask):
    quick.reset()
    asker = ask(quick)
    for number in range(1100):
        asker.chat(model=f"made-up-{number}")
    stats = quick.stats()
    assert len(stats["by_model"]) <= 1001
    assert stats["by_model"]["(other)"]["answered"] == 100
    assert stats["calls"]["answered"] == 1100


def test_the_simulators_own_paths(quick, ask):
    asker = ask(quick)
    assert asker.request("POST", "/sim/stats").status == 405
    answered = asker.request("GET", "/sim/reset")
    assert answered.status == 405
    assert answered.headers["allow"] == "POST"
    assert asker.request("GET", "/sim/else").status == 404


def test_garbage_from_many_leaves_the_others_alone(quick, raw, ask):
    import random

    chance = random.Random(1)
    asker = ask(quick)
    for _ in range(40):
        client = raw(quick)
        client.sendall(chance.randbytes(chance.randrange(1, 2000)))
        assert asker.chat().text == "42"
    assert quick.stats()["calls"]["in_flight"] == 0
