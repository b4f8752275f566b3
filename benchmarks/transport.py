"""What one request to a provider costs, by HTTP client: the ground for the choice told in docs/transport.md.

    python benchmarks/transport.py [--seconds 1.5] [--repeats 3] [--callers 64,256] [--only NAME,NAME]

Closed loop: every caller sends its next request when it has its answer. The server, a process of its own, answers a
chat request of about 300 bytes with about 1 kB after 25 to 75 ms (uniform), so N callers can reach N / 0.05 a second
at best. All clients run in one process, one after the other, in turn over the repetitions; the table gives medians:
calls a second (and its ratio to httpx2 as it comes), p50 and p99, CPU of the client per request, CPU of the server.
"""

import argparse
import asyncio
import json
import os
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager

import h11
import httpcore2
import httpx2
import trio

from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.caller import Caller
from aiorchd.calls.journal import Journal
from aiorchd.calls.target import Price, Target
from aiorchd.providers.openai import OpenAiDialect, OpenAiOptions
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport import Endpoint, PoolLimits, Timeouts, open_transport

# ---------------------------------------------------------------------------------------------------- the server

ANSWER_BODY = json.dumps(
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The capital is Tokyo. " * 16, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 41,
            "completion_tokens": 96,
            "total_tokens": 137,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
    }
).encode()
ANSWER_HEADERS = [
    (b"date", b"Tue, 11 Nov 2025 10:00:00 GMT"),
    (b"server", b"bench"),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ANSWER_BODY)),
    (b"x-request-id", b"req_0123456789abcdef"),
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-limit-tokens", b"2000000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"1999950"),
    (b"x-ratelimit-reset-requests", b"6ms"),
    (b"x-ratelimit-reset-tokens", b"1ms"),
]
ANSWER_HTTP1 = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % h for h in ANSWER_HEADERS) + b"\r\n" + ANSWER_BODY


def think() -> float:
    return random.uniform(0.025, 0.075)


class Http1Answerer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            asyncio.get_running_loop().call_later(think(), self.transport.write, ANSWER_HTTP1)


class Http2Answerer(asyncio.Protocol):
    def connection_made(self, transport):
        import h2.config
        import h2.connection

        self.transport = transport
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        transport.write(self.h2.data_to_send())

    def data_received(self, data):
        import h2.events

        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                asyncio.get_running_loop().call_later(think(), self.answer, event.stream_id)
        self.transport.write(self.h2.data_to_send())

    def answer(self, stream_id):
        self.h2.send_headers(stream_id, [(b":status", b"200"), *ANSWER_HEADERS])
        self.h2.send_data(stream_id, ANSWER_BODY, end_stream=True)
        self.transport.write(self.h2.data_to_send())


async def serve(directory: str) -> None:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(os.path.join(directory, "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    context_h2 = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context_h2)
    context_h2.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    servers = {
        "HTTP/1.1": await loop.create_server(Http1Answerer, "127.0.0.1", 0, backlog=1024),
        "HTTP/1.1 over TLS": await loop.create_server(Http1Answerer, "127.0.0.1", 0, backlog=1024, ssl=context),
        "HTTP/2 over TLS": await loop.create_server(Http2Answerer, "127.0.0.1", 0, backlog=1024, ssl=context_h2),
    }
    print(json.dumps({name: server.sockets[0].getsockname()[1] for name, server in servers.items()}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# --------------------------------------------------------------------------------------------------- the clients

HEADERS = [
    (b"authorization", b"Bearer sk-test-0123456789"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"aiorch-benchmark"),
]
HEADERS_TEXT = {name.decode(): value.decode() for name, value in HEADERS}


def question(number: int) -> bytes:
    system = "You are a helpful assistant. Answer in one short sentence."
    user = f"Question {number:08d}: what is the capital of the country whose flag is a red disc on a white field?"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages, "temperature": 0}).encode()


@asynccontextmanager
async def aiorch_transport(url, context, http2):
    del context
    async with open_transport(PoolLimits(max_connections=1000), os.environ) as transport:
        endpoint = Endpoint.parse(url, http2=http2)
        timeouts = Timeouts()

        async def call(number):
            return (await transport.request("POST", endpoint, HEADERS, question(number), timeouts)).body

        yield call


@asynccontextmanager
async def aiorch_provider(url, context, http2):
    """The whole way of an attempt below Dispatch: request written, sent, answered, read into a Reply with its cost."""
    del context
    messages = json.loads(question(0))["messages"]
    target = Target("small", "main", "openai", "gpt-4o-mini", "bench", Price(0.15, 0.6))
    async with open_transport(PoolLimits(max_connections=1000), os.environ) as transport:
        options = OpenAiOptions(url.removesuffix("/chat/completions"), http2=http2)
        provider = RemoteProvider(
            "main", OpenAiDialect(options), Secret("sk-test-0123456789"), transport, Timeouts(), time.time
        )

        async def call(number):
            asked = [messages[0], {**messages[1], "content": f"{number} {messages[1]['content']}"}]
            request = {"messages": asked, "temperature": 0}
            now = trio.current_time()
            record = Call(
                id="x", caller=Caller(0, 0, 0), kind="chat", request=request, deadline=now + 60, journal=Journal(now, 0)
            )
            reply = await provider.chat(Attempt(call=record, target=target))
            assert reply.usage.total == 137
            return ANSWER_BODY if reply.text else b""

        yield call


def httpx2_client(**options):
    @asynccontextmanager
    async def client(url, context, http2):
        made = {name: value() if callable(value) else value for name, value in options.items()}
        verify = context if context is not None else True
        async with httpx2.AsyncClient(
            headers=HEADERS_TEXT, timeout=60, trust_env=False, verify=verify, http2=http2, **made
        ) as one:

            async def call(number):
                return (await one.post(url, content=question(number))).content

            yield call

    return client


class FreeListTransport(httpx2.AsyncBaseTransport):
    """httpcore2's connections below httpx2's client, without httpcore2's pool."""

    def __init__(self):
        self.free = []

    async def handle_async_request(self, request):
        url = request.url
        where = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        connection = self.free.pop() if self.free else httpcore2.AsyncHTTPConnection(where.origin)
        answer = await connection.handle_async_request(
            httpcore2.Request(
                request.method,
                where,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        free = self.free

        class Body(httpx2.AsyncByteStream):
            async def __aiter__(self):
                async for part in answer.stream:
                    yield part

            async def aclose(self):
                await answer.stream.aclose()
                free.append(connection)

        return httpx2.Response(answer.status, headers=answer.headers, extensions=answer.extensions, stream=Body())

    async def aclose(self):
        for connection in self.free:
            await connection.aclose()


@asynccontextmanager
async def httpcore2_free_list(url, context, http2):
    del context, http2
    free, where = [], httpcore2.URL(url)
    host = (b"host", b"%b:%d" % (where.host, where.port))
    extensions = {"timeout": {"connect": 5, "read": 60, "write": 60}}

    async def call(number):
        connection = free.pop() if free else httpcore2.AsyncHTTPConnection(where.origin)
        body = question(number)
        headers = [host, *HEADERS, (b"content-length", b"%d" % len(body))]
        answer = await connection.handle_async_request(
            httpcore2.Request("POST", where, headers=headers, content=body, extensions=extensions)
        )
        content = await answer.aread()
        await answer.aclose()
        free.append(connection)
        return content

    yield call
    for connection in free:
        await connection.aclose()


@asynccontextmanager
async def h11_bare(url, context, http2):
    """The floor of h11 on Trio: no pool limits, no size limits, no redirect check, no retry, one deadline."""
    del context, http2
    free, where = [], httpcore2.URL(url)
    host = (b"host", b"%b:%d" % (where.host, where.port))

    async def call(number):
        if free:
            stream, connection = free.pop()
        else:
            stream = await trio.open_tcp_stream(where.host.decode(), where.port)
            connection = h11.Connection(h11.CLIENT)
        body, parts = question(number), []
        headers = [host, *HEADERS, (b"content-length", b"%d" % len(body))]
        head = connection.send(h11.Request(method=b"POST", target=where.target, headers=headers))
        with trio.fail_after(60):
            await stream.send_all(head + connection.send(h11.Data(data=body)) + connection.send(h11.EndOfMessage()))
            while type(event := connection.next_event()) is not h11.EndOfMessage:
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65536))
                elif type(event) is h11.Data:
                    parts.append(bytes(event.data))
        connection.start_next_cycle()
        free.append((stream, connection))
        return b"".join(parts)

    yield call
    for stream, _ in free:
        await stream.aclose()


WIDE = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
AS_IT_COMES = "httpx2.AsyncClient as it comes"
CLIENTS = {
    AS_IT_COMES: (httpx2_client(), {"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2 over TLS"}),
    "httpx2.AsyncClient, 1000 connections kept": (httpx2_client(limits=WIDE), {"HTTP/1.1"}),
    "httpx2.AsyncClient over a free list": (httpx2_client(transport=FreeListTransport), {"HTTP/1.1"}),
    "httpcore2 connections in a free list": (httpcore2_free_list, {"HTTP/1.1"}),
    "h11 on Trio, bare": (h11_bare, {"HTTP/1.1"}),
    "aiorchd.providers.transport": (aiorch_transport, {"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2 over TLS"}),
    "aiorchd.providers.openai over it, JSON read": (aiorch_provider, {"HTTP/1.1"}),
}

# ----------------------------------------------------------------------------------------------- the measurement


def cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(make, url, context, http2, callers, seconds, server_pid):
    latencies, failures = [], 0

    async def loop(call, number, until):
        nonlocal failures
        while (began := time.perf_counter()) < until:
            number += 1
            if await call(number) != ANSWER_BODY:
                failures += 1
            latencies.append(time.perf_counter() - began)

    async with make(url, context, http2) as call:
        async with trio.open_nursery() as nursery:
            for number in range(callers):
                nursery.start_soon(call, number)
        server_0, cpu_0, began = cpu_s(server_pid), time.process_time(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(callers):
                nursery.start_soon(loop, call, number * 1_000_000, began + seconds)
        elapsed, cpu, server = time.perf_counter() - began, time.process_time() - cpu_0, cpu_s(server_pid) - server_0
    assert not failures
    latencies.sort()
    count = len(latencies)
    return (
        count / elapsed,
        latencies[count // 2] * 1e3,
        latencies[min(count - 1, count * 99 // 100)] * 1e3,
        cpu / count * 1e6,
        server / count * 1e6,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--callers", default="64,256")
    parser.add_argument("--only", default="", help="parts of client names, comma-separated")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    wanted = [part for part in options.only.split(",") if part]
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            ports = json.loads(server.stdout.readline())
            authority = os.path.join(directory, "authority.pem")
            os.environ["SSL_CERT_FILE"] = authority
            for protocol, port in ports.items():
                secure = "TLS" in protocol
                context = ssl.create_default_context(cafile=authority) if secure else None
                url = f"{'https' if secure else 'http'}://localhost:{port}/v1/chat/completions"
                for callers in map(int, options.callers.split(",")):
                    table(options, wanted, server.pid, protocol, url, context, callers)
        finally:
            server.stdin.close()
            server.wait()
            server.stdout.close()


def table(options, wanted, server_pid, protocol, url, context, callers):
    rows = {
        name: []
        for name, (_, protocols) in CLIENTS.items()
        if protocol in protocols and (not wanted or any(part in name for part in wanted))
    }
    for _ in range(options.repeats):
        for name, runs in rows.items():
            http2 = protocol.startswith("HTTP/2")
            make = CLIENTS[name][0]
            runs.append(trio.run(measure, make, url, context, http2, callers, options.seconds, server_pid))
    print(f"\n{protocol}, {callers} callers (at best {callers / 0.05:.0f} a second)\n")
    print("| client | calls/s | ratio | p50 ms | p99 ms | client CPU us | server CPU us |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    medians = {name: [statistics.median(run[i] for run in runs) for i in range(5)] for name, runs in rows.items()}
    rival = medians.get(AS_IT_COMES, next(iter(medians.values())))[0]
    for name, (rate, p50, p99, cpu, server) in medians.items():
        print(f"| {name} | {rate:.0f} | {rate / rival:.2f} | {p50:.1f} | {p99:.1f} | {cpu:.0f} | {server:.0f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
