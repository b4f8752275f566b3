"""Addresses are read once, strictly, and never repeated in errors."""

import pytest

from aiorchd.providers.transport import Endpoint, Origin


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("http://localhost:11434/v1/chat/completions", Origin("http", "localhost", 11434), b"/v1/chat/completions"),
        ("https://API.Example.com/v1", Origin("https", "api.example.com", 443), b"/v1"),
        ("https://api.example.com", Origin("https", "api.example.com", 443), b"/"),
        ("https://x.example/a?api-version=2024-10-21&b=c d".replace(" ", "%20"),
         Origin("https", "x.example", 443), b"/a?api-version=2024-10-21&b=c%20d"),
        ("http://[::1]:8080/v1", Origin("http", "::1", 8080), b"/v1"),
        ("https://bücher.example/ü", Origin("https", "xn--bcher-kva.example", 443), b"/%C3%BC"),
    ],
)  # fmt: skip
def test_what_a_url_says(url: str, origin: Origin, target: bytes) -> None:
    assert Endpoint.parse(url) == Endpoint(origin, target)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https:///v1",
        "https://user:hunter2@example.com/v1",
        "https://example.com/v1#hunter2",
        "https://example.com:hunter2/v1",
        "https://example.com/v1\r\nx: hunter2",
        "https://example.com/ hunter2",
        "https://[hunter2]/v1",
        "https://" + "ü" * 300 + "hunter2/",
    ],
)
def test_bad_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Endpoint.parse(url)
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) > 10


def test_the_host_header_names_a_port_only_where_it_is_not_the_usual_one() -> None:
    assert Endpoint.parse("https://a.example/").origin.authority == "a.example"
    assert Endpoint.parse("https://a.example:8443/").origin.authority == "a.example:8443"
    assert Endpoint.parse("http://a.example:443/").origin.authority == "a.example:443"
    assert Endpoint.parse("http://[::1]/").origin.authority == "[::1]"
    assert Endpoint.parse("http://[::1]:8080/").origin.authority == "[::1]:8080"
    assert Endpoint.parse("http://[::1]/").origin.host_and_port == "[::1]:80"
