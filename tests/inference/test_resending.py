"""After a repair the summaries that may have been lost go out again, and old news does not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import pytest

from edge.inference.guard import Guard
from edge.inference.service import Worker
from edge.messages.summary import summarise
from edge.store import Outbox, Store
from edge.store.outbox import LIFE, oldest_news
from tests.store.conftest import Box
from tests.store.samples import SUBJECT, arrival, claimed, flagged

NO_GUARD = cast(Guard, None)  # nothing is analysed here
DAY = 86400.0


def test_what_is_old_news() -> None:
    assert LIFE == 30 * DAY
    assert oldest_news(LIFE) == 0.0
    assert oldest_news(100 * DAY) == 70 * DAY
    assert oldest_news(0.0) < 0, "of a young box all is news"


@pytest.mark.parametrize("leap", [0.0, -400 * DAY, 400 * DAY])
def test_after_a_repair_old_news_is_not_sent_again(store: Store, box: Box, tmp_path: Path, leap: float) -> None:
    """By what the box has lived, whatever its clock says; and what is sent again says what it said before."""
    outbox = Outbox(tmp_path, box.wall)
    worker = Worker(store, NO_GUARD, outbox)
    sent = {}
    for number in range(4):
        store.accept(b"%d" % number, arrival(f"1.{number}"))
        box.live(0.5)
        stored = store.commit(claimed(store), flagged(), SUBJECT, summary=partial(summarise, flagged()))
        worker.relay()
        for message in outbox.waiting():
            sent[stored.id] = message.body
            outbox.remove([message.number])
        box.live(14 * DAY)
        box.wall.now += leap
    assert len(sent) == 4
    outbox.close()
    file = tmp_path / "outbox" / "outbox.sqlite"
    file.write_bytes(b"no database any more" * 1000)
    outbox = Outbox(tmp_path, box.wall)
    assert outbox.is_incomplete()
    worker = Worker(store, NO_GUARD, outbox)
    while worker.resend():
        pass
    assert not outbox.is_incomplete()
    again = {message.message_id: message.body for message in outbox.waiting()}
    assert again == dict(list(sent.items())[2:]), "those of the last 30 days"
    outbox.close()
