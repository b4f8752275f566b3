"""Real TLS servers, real CONNECT proxies."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from cryptography import x509
from wire import Authority, Wire, answering, connect_proxy, http, raw_server

from aiorch.errors import ProviderError
from aiorchd.providers.transport import Endpoint, PoolLimits, Timeouts, open_transport

ANSWER = http(b'{"a": 1}')


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    yield Authority(str(tmp_path_factory.mktemp("authority")))


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(str(tmp_path_factory.mktemp("other")))


async def failing(url: str, environ: dict[str, str], **timeouts: float) -> ProviderError:
    async with open_transport(PoolLimits(), environ) as transport:
        with pytest.raises(ProviderError) as caught:
            await transport.request("POST", Endpoint.parse(url), (), b"{}", Timeouts(**timeouts))
        assert transport.statistics().in_use == 0
        assert transport.statistics().idle == 0
    return caught.value


async def test_a_trusted_server(authority: Authority) -> None:
    context = authority.server_context("localhost")
    async with (
        raw_server(answering(ANSWER), tls=context) as server,
        open_transport(PoolLimits(), {"SSL_CERT_FILE": authority.file}) as transport,
    ):
        for size in (2, 3_000_000):
            endpoint = Endpoint.parse(server.url(host="localhost"))
            assert (await transport.request("POST", endpoint, (), b"x" * size)).body == b'{"a": 1}'
        assert server.connections == 1
        assert len(server.requests[1].body) == 3_000_000


def hashed_name(pem: bytes) -> str:
    """Name a certificate's file as OpenSSL looks for it in a directory (``openssl x509 -hash``): by its subject, each
    name in lower case, in DER, without the outer sequence."""

    def der(tag: int, body: bytes) -> bytes:
        assert len(body) < 128
        return bytes([tag, len(body)]) + body

    oids = {"2.5.4.10": b"\x55\x04\x0a", "2.5.4.11": b"\x55\x04\x0b"}
    parts = b""
    for name in x509.load_pem_x509_certificate(pem).subject:
        value = " ".join(str(name.value).lower().split()).encode()
        parts += der(0x31, der(0x30, der(0x06, oids[name.oid.dotted_string]) + der(0x0C, value)))
    return f"{int.from_bytes(hashlib.sha1(parts).digest()[:4], 'little'):08x}.0"


async def test_a_directory_of_authorities(authority: Authority, tmp_path: Path) -> None:
    pem = Path(authority.file).read_bytes()
    (tmp_path / hashed_name(pem)).write_bytes(pem)
    async with (
        raw_server(answering(ANSWER), tls=authority.server_context("localhost")) as server,
        open_transport(PoolLimits(), {"SSL_CERT_DIR": str(tmp_path)}) as transport,
    ):
        endpoint = Endpoint.parse(server.url(host="localhost"))
        assert (await transport.request("POST", endpoint, (), b"{}")).status == 200


async def test_an_unknown_authority(authority: Authority, other_authority: Authority) -> None:
    async with raw_server(answering(ANSWER), tls=authority.server_context("localhost")) as server:
        for environ in ({}, {"SSL_CERT_FILE": other_authority.file}):
            error = await failing(server.url(host="localhost"), environ)
            assert f"the certificate of localhost:{server.port} was not accepted" in error.message
            assert "SSL_CERT_FILE" in error.message
            assert not error.retryable
            assert error.details["phase"] == "connecting"
            assert error.details["sent"] is False
        assert not server.requests


async def test_another_host_s_certificate(authority: Authority) -> None:
    async with raw_server(answering(ANSWER), tls=authority.server_context("elsewhere.example")) as server:
        error = await failing(server.url(host="localhost"), {"SSL_CERT_FILE": authority.file})
        assert "was not accepted" in error.message
        assert "localhost" in error.message
        assert not error.retryable
        assert not server.requests


async def test_a_server_without_tls(authority: Authority) -> None:
    async def plain(wire: Wire) -> None:
        await wire.stream.receive_some(1000)
        await wire.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with raw_server(plain) as server:
        error = await failing(f"https://localhost:{server.port}/", {"SSL_CERT_FILE": authority.file})
        assert "does not speak TLS" in error.message
        assert error.details["phase"] == "connecting"


@pytest.mark.parametrize("hard", [False, True])
async def test_a_server_that_goes_away_in_the_handshake(authority: Authority, hard: bool) -> None:
    async def gone(wire: Wire) -> None:
        await wire.stream.receive_some(10)
        if hard:
            wire.reset()

    async with raw_server(gone) as server:
        error = await failing(f"https://localhost:{server.port}/", {"SSL_CERT_FILE": authority.file})
        assert error.retryable
        assert error.details["phase"] == "connecting"


async def test_a_server_that_is_silent_in_the_handshake(authority: Authority) -> None:
    async def silent(wire: Wire) -> None:
        await wire.closed_by_client()

    async with raw_server(silent) as server:
        error = await failing(f"https://localhost:{server.port}/", {"SSL_CERT_FILE": authority.file}, connect_s=0.3)
        assert "could not connect" in error.message
        with trio.fail_after(2):
            while server.alive:
                await trio.sleep(0.001)


async def test_an_old_protocol_is_refused(authority: Authority) -> None:
    context = authority.server_context("localhost")
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.minimum_version = ssl.TLSVersion.TLSv1
    async with raw_server(answering(ANSWER), tls=context) as server:
        error = await failing(server.url(host="localhost"), {"SSL_CERT_FILE": authority.file})
        assert "TLS with localhost" in error.message


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_authorities_that_cannot_be_read(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    async with raw_server(answering(ANSWER)) as server:
        error = await failing(f"https://localhost:{server.port}/", {"SSL_CERT_FILE": str(file)})
        assert "SSL_CERT_FILE names cannot be read" in error.message
        assert not error.retryable
        assert error.details["phase"] == "connecting"


async def test_a_stale_connection_under_tls_is_noticed(authority: Authority) -> None:
    async def once(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(ANSWER)

    async with (
        raw_server(once, tls=authority.server_context("localhost")) as server,
        open_transport(PoolLimits(), {"SSL_CERT_FILE": authority.file}) as transport,
    ):
        for _ in range(3):
            await transport.request("POST", Endpoint.parse(server.url(host="localhost")), (), b"{}")
            await trio.sleep(0.02)
        assert transport.statistics().stale == 2


# --- proxies ---------------------------------------------------------------------------------------------------------


async def test_through_a_tunnel(authority: Authority) -> None:
    async with (
        raw_server(answering(ANSWER), tls=authority.server_context("provider.test")) as server,
        connect_proxy({"provider.test": server.port}, authorization="Basic Ym9iOnB3") as (proxy, log),
    ):
        environ = {"SSL_CERT_FILE": authority.file, "HTTPS_PROXY": f"http://bob:pw@127.0.0.1:{proxy.port}"}
        async with open_transport(PoolLimits(), environ) as transport:
            for _ in range(3):
                response = await transport.request("POST", Endpoint.parse("https://provider.test/v1"), (), b"{}")
                assert response.body == b'{"a": 1}'
        assert log.tunnels == 1
        [asked] = log.asked
        assert asked.line == "CONNECT provider.test:443 HTTP/1.1"
        assert asked.headers["host"] == "provider.test:443"
        assert [request.headers["host"] for request in server.requests] == ["provider.test"] * 3
        assert all("proxy-authorization" not in request.headers for request in server.requests)


async def test_through_a_proxy_that_speaks_tls_itself(authority: Authority) -> None:
    async with (
        raw_server(answering(ANSWER), tls=authority.server_context("provider.test")) as server,
        connect_proxy({"provider.test": server.port}, tls=authority.server_context("localhost")) as (proxy, log),
    ):
        environ = {"SSL_CERT_FILE": authority.file, "ALL_PROXY": f"https://localhost:{proxy.port}"}
        async with open_transport(PoolLimits(), environ) as transport:
            response = await transport.request("POST", Endpoint.parse("https://provider.test/v1"), (), b"{}")
            assert response.status == 200
        assert log.tunnels == 1


async def test_a_plain_request_is_forwarded() -> None:
    async with (
        raw_server(answering(ANSWER)) as server,
        connect_proxy({"llm.test": server.port}, authorization="Basic Ym9iOnB3") as (proxy, log),
    ):
        environ = {"HTTP_PROXY": f"http://bob:pw@127.0.0.1:{proxy.port}"}
        async with open_transport(PoolLimits(), environ) as transport:
            response = await transport.request("POST", Endpoint.parse("http://llm.test/v1/chat?x=1"), (), b"{}")
            assert response.body == b'{"a": 1}'
        assert log.asked[0].line == "POST http://llm.test/v1/chat?x=1 HTTP/1.1"
        assert log.tunnels == 0


async def test_no_proxy_goes_straight(authority: Authority) -> None:
    async with raw_server(answering(ANSWER), tls=authority.server_context("localhost")) as server:
        environ = {"SSL_CERT_FILE": authority.file, "HTTPS_PROXY": "http://127.0.0.1:9"}
        async with open_transport(PoolLimits(), environ) as transport:
            endpoint = Endpoint.parse(server.url(host="localhost"))
            assert (await transport.request("POST", endpoint, (), b"{}")).status == 200


async def test_the_tunnel_s_other_end_must_be_who_was_asked_for(authority: Authority) -> None:
    async with (
        raw_server(answering(ANSWER), tls=authority.server_context("eavesdropper.test")) as server,
        connect_proxy({"provider.test": server.port}) as (proxy, _),
    ):
        environ = {"SSL_CERT_FILE": authority.file, "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
        error = await failing("https://provider.test/", environ)
        assert "the certificate of provider.test:443 was not accepted" in error.message
        assert not server.requests


async def test_refusals_of_the_proxy(authority: Authority) -> None:
    async with connect_proxy({}, authorization="Basic xyz") as (proxy, _):
        environ = {"HTTPS_PROXY": f"http://bob:hunter2@127.0.0.1:{proxy.port}"}
        error = await failing("https://provider.test/", environ)
        assert "wants a user name and password (407)" in error.message
        assert f"127.0.0.1:{proxy.port}" in error.message
        assert "hunter2" not in repr(error.to_wire())
        assert error.details["phase"] == "connecting"
    async with connect_proxy({}) as (proxy, _):
        error = await failing("https://provider.test/", {"HTTPS_PROXY": f"127.0.0.1:{proxy.port}"})
        assert "refused to connect (502)" in error.message


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nI say something too", "data of its own"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000, "does not speak HTTP"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://x/\r\n\r\n", "refused to connect (302)"),
    ],
)
async def test_proxies_that_are_none(said: bytes, words: str) -> None:
    async def strange(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(said)

    async with raw_server(strange) as server:
        error = await failing("https://provider.test/", {"ALL_PROXY": f"http://127.0.0.1:{server.port}"})
        assert words in error.message
        assert error.message.startswith("provider.test:443 cannot be reached: the proxy 127.0.0.1")


async def test_no_proxy_at_all_listens() -> None:
    async with raw_server(answering(ANSWER)) as server:
        pass
    for url in ("http://llm.test/", "https://llm.test/"):
        error = await failing(url, {"ALL_PROXY": f"http://127.0.0.1:{server.port}"})
        assert f"the proxy 127.0.0.1:{server.port} does not answer" in error.message
    error = await failing("https://llm.test/", {"ALL_PROXY": "socks5://127.0.0.1:1080"})
    assert "socks5://" in error.message
    assert not error.retryable
