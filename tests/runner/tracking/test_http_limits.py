"""Servers that never end an answer: slowly, or without end."""

import http.client
import time
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest
import requests

from runner.tracking import http_limits
from tests.servers import HEAD, RawServer, drip, drip_heads, endless


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "response_class", http.client.HTTPResponse)
    http_limits.limit_answers()


@pytest.fixture
def raw_server() -> Iterator[Callable[..., RawServer]]:
    servers: list[RawServer] = []

    def start(pieces: Callable[[], Iterator[bytes]], pause_s: float = 0.0) -> RawServer:
        servers.append(RawServer(pieces, pause_s))
        return servers[-1]

    yield start
    for one in servers:
        one.close()


def by_urllib(url: str) -> bytes:
    with urlopen(url, timeout=1.0) as answer:
        return answer.read()


def by_requests(url: str) -> bytes:
    return requests.get(url, timeout=1.0).content


@pytest.mark.parametrize("get", [by_urllib, by_requests])
@pytest.mark.parametrize("answer", [drip, drip_heads])
def test_a_slow_answer_ends_with_the_time_limit(
    raw_server: Callable[..., RawServer], get: Callable[[str], bytes], answer: Callable[[], Iterator[bytes]]
) -> None:
    url = raw_server(answer, 0.1).url
    began = time.monotonic()
    with pytest.raises(OSError, match=r"timed out|ReadTimeout|Read timed out"):
        get(url)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("get", [by_urllib, by_requests])
def test_an_endless_answer_ends_with_the_number_of_bytes(
    raw_server: Callable[..., RawServer], get: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "MAX_BYTES", 3 * 2**20)
    with pytest.raises(OSError, match="longer than 3 MiB"):
        get(raw_server(endless).url)


@pytest.mark.parametrize("get", [by_urllib, by_requests])
def test_an_honest_answer_arrives_whole(raw_server: Callable[..., RawServer], get: Callable[[str], bytes]) -> None:
    body = bytes(range(256)) * 4096
    url = raw_server(lambda: iter([HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body])).url
    assert get(url) == body
