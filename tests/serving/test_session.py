"""One stream without sockets: what it keeps for its client, and what the store keeps of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Union

import pytest

from streamdrnn.apps.serving import keeper
from streamdrnn.apps.serving.limits import Limits, RefusalError
from streamdrnn.apps.serving.service import Service
from streamdrnn.apps.serving.session import Outbox, Session
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.store import Saving
from streamdrnn.client.protocol import MAX_SEQUENCE, Code, Input, pack_input, unpack_result
from tests.serving.servers import inputs
from tests.waiting import PATIENCE, wait_for

WINDOW = 4


@asynccontextmanager
async def served(models: list[Path], store: Path) -> AsyncIterator[Service]:
    service = Service(models, SQLiteStore(store, 3600.0), Limits(window=WINDOW), snapshot_seconds=1000.0)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def hear(session: Session, seq: int, ack: int) -> None:
    session.hear_input(pack_input(Input(seq, ack, inputs(1).tobytes())))
    await session.settled()


@pytest.mark.parametrize("reads", [0, 3])
def test_an_ack_of_what_the_connection_was_not_given_counts_for_nothing(
    models: list[Path], tmp_path: Path, reads: int
) -> None:
    """Else a client that does not read, and says that it has everything, would fill the server's memory."""

    async def live() -> None:
        async with served(models, tmp_path / "s") as service:
            session = await service.open("tagger", "features")
            session.greet(0)
            await hear(session, 1, 0)
            for _ in range(1 + reads):  # a message that is being sent is given
                await session.outbox.take()
                await hear(session, session.received + 1, MAX_SEQUENCE)
            given = session.received - session.outbox.results
            with pytest.raises(RefusalError, match=f"at most {WINDOW} beyond the last result") as refusal:  # noqa: PT012
                for _ in range(100):
                    await hear(session, session.received + 1, MAX_SEQUENCE)
            assert refusal.value.code == Code.BAD_SEQUENCE
            assert session.received == given + WINDOW
            assert session.outbox.results == len(session.snapshot().results) == WINDOW

    asyncio.run(live())


def test_nothing_overtakes_what_is_being_sent() -> None:
    async def live() -> None:
        outbox, said = Outbox(), list[Union[bytes, str]]()
        outbox.put("1")
        assert await outbox.take() == "1"

        def say(message: Union[bytes, str]) -> bool:
            said.append(message)
            return True

        outbox.say = say
        outbox.put("2")  # the first may still be on its way
        assert not said
        assert await outbox.take() == "2"
        idle = asyncio.create_task(outbox.take())
        await asyncio.sleep(0)
        outbox.put("3")
        assert said == ["3"]
        idle.cancel()

    asyncio.run(live())


def test_what_is_sent_at_once_is_given(models: list[Path], tmp_path: Path) -> None:
    said = list[Union[bytes, str]]()

    def say(message: Union[bytes, str]) -> bool:
        said.append(message)
        return True

    async def live() -> None:
        async with served(models, tmp_path / "s") as service:
            session = await service.open("tagger", "features")
            session.outbox.say = say
            for seq in range(1, 3 * WINDOW):
                await hear(session, seq, MAX_SEQUENCE)
            assert len(session.snapshot().results) == 1

    asyncio.run(live())
    assert [unpack_result(message).seq for message in said if isinstance(message, bytes)] == [*range(1, 3 * WINDOW)]


def test_who_continues_may_have_results_of_what_it_sends_again(models: list[Path], tmp_path: Path) -> None:
    """The last snapshot is older than what the client has; of what it says it has, nothing is kept for it again."""

    async def live() -> None:
        async with served(models, tmp_path / "s") as service:
            stream = (await service.open("tagger", "features")).stream
        async with served(models, tmp_path / "s") as service:
            session = await service.restore(stream)
            session.greet(3)
            assert '"opened"' in str(await session.outbox.take())
            for seq in range(1, 3 * WINDOW):
                await hear(session, seq, max(3, seq - 1))
                message = await session.outbox.take()
                assert isinstance(message, bytes)
                assert unpack_result(message).seq == seq
            assert len(session.snapshot().results) <= 1

    asyncio.run(live())


def test_who_asks_and_does_not_read_is_refused(models: list[Path], tmp_path: Path) -> None:
    async def live() -> None:
        async with served(models, tmp_path / "s") as service:
            session = await service.open("tagger", "features")
            with pytest.raises(RefusalError, match="expected a client that reads what it asks for"):  # noqa: PT012
                for _ in range(100):
                    session.hear_snapshot()
                    await service.save(session)
            assert len(session.outbox) == 4 * WINDOW + 1

    asyncio.run(live())


def test_a_save_that_was_given_up_does_not_undo_those_after_it(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client was told that its second input is saved, and does not send it again."""
    goes_on, late, save = threading.Event(), list[list[bool]](), SQLiteStore.save

    def stall(store: SQLiteStore, savings: Sequence[Saving]) -> list[bool]:
        assert goes_on.wait(PATIENCE)
        late.append(save(store, savings))
        return late[0]

    async def live() -> None:
        async with served(models, tmp_path / "s") as service:
            session = await service.open("tagger", "features")
            await hear(session, 1, 0)
            with monkeypatch.context() as hurried:
                hurried.setattr(keeper, "ANSWER_SECONDS", 0.1)
                hurried.setattr(SQLiteStore, "save", stall)
                with pytest.raises(RefusalError, match="could not save"):
                    await service.save(session)
            await hear(session, 2, 1)
            await service.save(session)
            assert session.saved == 2
            goes_on.set()
            await asyncio.to_thread(wait_for, lambda: bool(late))
        async with served(models, tmp_path / "s") as service:  # the other one has died
            assert (await service.restore(session.stream)).processed == 2

    asyncio.run(live())


def test_who_is_refused_for_want_of_room_takes_the_stream_from_nobody(models: list[Path], tmp_path: Path) -> None:
    """A claim costs a stream half of what it has saved up, and its server loses it."""

    async def live() -> None:
        limits = Limits(streams=1, window=WINDOW)
        full = Service([models[0]], SQLiteStore(tmp_path / "s", 3600.0), limits, snapshot_seconds=1000.0)
        await full.start()
        async with served(models, tmp_path / "s") as service:
            session = await service.open("tagger", "features")
            other = await full.open("tagger", "features")
            for _ in range(3):
                with pytest.raises(RefusalError, match="in use") as refusal:
                    await full.restore(session.stream)
                assert refusal.value.code == Code.TOO_MANY_STREAMS
            await service.save(session)
            assert session.saved == 0
            assert not session.ended.done()
            await full.close(other)
            await full.leave(other)
            taken = await full.restore(session.stream)
            assert taken.claim == session.claim + 1
        await full.stop()

    asyncio.run(live())
