"""Which proxy, by the environment."""

import pytest

from aiorchd.providers.transport import Origin
from aiorchd.providers.transport.failures import Misconfigured
from aiorchd.providers.transport.proxy import Proxies

SECURE = Origin("https", "api.example.com", 443)
PLAIN = Origin("http", "llm.example.com", 8080)


def route(origin: Origin, **environ: str) -> str | None:
    proxy = Proxies(environ).route(origin)
    return None if proxy is None else f"{proxy.origin.scheme}://{proxy.origin.host_and_port}"


def test_nothing_set_is_a_direct_connection() -> None:
    assert route(SECURE) is None
    assert route(SECURE, HTTPS_PROXY="", https_proxy=" ") is None


def test_each_scheme_has_its_own_and_all_proxy_is_for_both() -> None:
    assert route(SECURE, HTTPS_PROXY="http://p:3128", HTTP_PROXY="http://q:80") == "http://p:3128"
    assert route(PLAIN, HTTPS_PROXY="http://p:3128", HTTP_PROXY="http://q") == "http://q:80"
    assert route(PLAIN, HTTPS_PROXY="http://p:3128") is None
    assert route(PLAIN, ALL_PROXY="http://r:1") == "http://r:1"
    assert route(SECURE, ALL_PROXY="http://r:1", HTTPS_PROXY="https://p") == "https://p:443"
    assert route(SECURE, https_proxy="p:3128", HTTPS_PROXY="http://other:1") == "http://p:3128"


def test_a_header_of_a_web_request_names_no_proxy() -> None:
    assert route(PLAIN, HTTP_PROXY="http://evil:1", REQUEST_METHOD="GET") is None
    assert route(PLAIN, http_proxy="http://good:1", REQUEST_METHOD="GET") == "http://good:1"


@pytest.mark.parametrize("host", ["localhost", "ollama.localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_never_reached_through_a_proxy(host: str) -> None:
    assert route(Origin("http", host, 11434), ALL_PROXY="http://p:3128") is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("*", "a.example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "a.example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        (".example.com", "a.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("EXAMPLE.com", "a.example.com", 443, True),
        ("example.com:8443", "a.example.com", 8443, True),
        ("example.com:8443", "a.example.com", 443, False),
        ("foo, ,10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.example", 443, False),
        ("192.168.1.5", "192.168.1.5", 443, True),
        ("192.168.1.5:80", "192.168.1.5", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        ("[fd12::1]:8443", "fd12::1", 8443, True),
        ("fd12::1", "fd12::2", 443, False),
        ("example.com:http", "example.com", 443, False),
        ("10.0.0.0/99", "10.0.0.1", 443, False),
        ("*.", "example.com", 443, False),
    ],
)
def test_exceptions(no_proxy: str, host: str, port: int, direct: bool) -> None:
    found = route(Origin("https", host, port), HTTPS_PROXY="http://p:3128", NO_PROXY=no_proxy)
    assert (found is None) is direct


def test_credentials_are_sent_and_never_shown() -> None:
    proxy = Proxies({"HTTPS_PROXY": "http://bob:pa%3Ass@p:3128"}).route(SECURE)
    assert proxy is not None
    assert proxy.authorization == b"Basic Ym9iOnBhOnNz"
    assert "Ym9" not in repr(proxy)
    assert "bob" not in repr(proxy)


@pytest.mark.parametrize(
    "url", ["socks5://p:1080", "socks5h://u:hunter2@p", "http://", "http://p:hunter2", "http://[hunter2"]
)
def test_a_proxy_that_cannot_be_used_fails_who_needs_it(url: str) -> None:
    proxies = Proxies({"ALL_PROXY": url, "NO_PROXY": "llm.example.com"})
    assert proxies.route(PLAIN) is None
    with pytest.raises(Misconfigured) as caught:
        proxies.route(SECURE)
    assert "hunter2" not in str(caught.value)
