"""What a connection may hold and for how long, with uvicorn around an application of one line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
import uvicorn
from conftest import free_port

from loopbook.serving.connections import Connection, Limits, limits

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope, receive, send):
    """Answer at once `/early`, after the body otherwise; `/long` is long."""
    if scope["type"] != "http":
        return
    while scope["path"] != "/early" and (await receive()).get("more_body"):
        pass
    body = b"x" * (10**8 if scope["path"] == "/long" else 2)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(**given) -> AsyncIterator[tuple]:
    bounds = Limits(**{"connections": 10, "message_bytes": 10**6, "head_s": 0.2} | given)
    port = free_port()
    http = partial(Connection, limits=bounds)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=port,
            http=http,
            ws="none",
            lifespan="off",
            log_level="critical",
            timeout_keep_alive=1,
        )
    )
    running = asyncio.create_task(server._serve())
    opened = []

    async def connect(**options) -> tuple:
        opened.append(await asyncio.open_connection("127.0.0.1", port, **options))
        return opened[-1]

    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server, connect
    finally:
        for _, writer in opened:
            writer.transport.abort()
        server.should_exit = server.force_exit = True
        await running


def said(*sent: bytes, every: float = 0, **bounds) -> bytes:
    """All that comes back until the connection ends."""

    async def listen(reader: asyncio.StreamReader) -> bytes:
        back = b""
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(reader.read(4096), 20):
                back += part
        return back

    async def ask() -> bytes:
        async with served(**bounds) as (_, connect):
            reader, writer = await connect()
            listening = asyncio.create_task(listen(reader))
            for part in sent:
                if not listening.done():
                    writer.write(part)
                    await asyncio.sleep(every)
            return await listening

    return asyncio.run(ask())


LONG = [b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: ", *[b"y" * 30_000] * 3]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("sent", "head_s", "told"),
    [
        ([b"nonsense\r\n\r\n"], 60, [b" 400 ", b'"code":"broken_request"']),
        (LONG, 60, [b" 431 ", b'"code":"head_too_large"']),
        ([b"".join([*LONG, b"\r\n\r\n"])], 60, [b" 431 ", b'"code":"head_too_large"']),
        ([b"GET /" + b"a" * 10**5 + b" HTTP/1.1\r\n\r\n"], 60, [b" 431 "]),
        ([b"GET / HTTP/1.1\r\n", *[b"X"] * 40], 0.2, [b" 408 ", b'"code":"too_slow"']),
        ([GET, *[b"\r\n"] * 40], 0.2, [b" 200 "]),
        ([b"POST /early HTTP/1.1\r\nContent-Length: 99\r\n\r\n", *[b"x"] * 40], 0.2, [b" 200 "]),
        ([GET, GET], 60, [b"xxHTTP/1.1 200 "]),
    ],
)
def test_a_head_that_is_long_slow_or_broken_ends_its_connection_with_the_reason(sent, head_s, told):
    """Each of these ends: `said` reads until the connection does."""
    answer = said(*sent, every=0.02, head_s=head_s)
    for part in told:
        assert part in answer


@pytest.mark.medium
def test_nothing_at_all_ends_without_a_word():
    assert said() == b""


@pytest.mark.medium
def test_trailers_are_bounded_as_bodies_are():
    """They come after a body that the guard has counted, and would be kept without end."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    assert b" 431 " in said(head, *[b"X: " + b"y" * 60_000 + b"\r\n"] * 20, every=0.01, head_s=60)


async def together(connect, count: int) -> list:
    """So many connections, each of which was answered once."""
    opened = []
    for _ in range(count):
        reader, writer = await connect()
        writer.write(GET)
        assert b"200" in await reader.readuntil(b"xx")
        opened.append((reader, writer))
    return opened


def test_the_client_that_was_idle_longest_gives_way_to_a_new_one():
    async def ask() -> None:
        async with served(head_s=60, connections=10) as (server, connect):
            opened = await together(connect, 10)
            opened[0][1].write(GET)  # it is the first no longer
            await opened[0][0].readuntil(b"xx")
            (late,) = await together(connect, 1)
            assert not await opened[1][0].read()
            for reader, writer in (opened[0], opened[2], late):
                writer.write(GET)
                assert b"200" in await reader.readuntil(b"xx")
            assert len(server.server_state.connections) == 10

    asyncio.run(ask())


def test_a_client_whose_body_never_comes_gives_way_too():
    async def ask() -> None:
        async with served(head_s=60, connections=5) as (_, connect):
            for _ in range(20):
                _, writer = await connect()
                writer.write(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx")
            await together(connect, 1)

    asyncio.run(ask())


@pytest.mark.medium
def test_a_client_that_does_not_read_loses_its_connection():
    async def ask() -> None:
        async with served(stalled_s=0.2) as (server, connect):
            _, writer = await connect(limit=1)
            writer.write(GET.replace(b"/ ", b"/long "))
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            while server.server_state.connections:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ask(), 20))


def test_fewer_connections_are_taken_than_files_may_be_opened(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 600))
    raised = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: raised.append(pair))
    assert limits(1_000).connections == 472
    assert raised == [(600, 600)]
