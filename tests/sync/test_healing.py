"""An outbox that is destroyed before it was sent: all that was in it arrives all the same."""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from typing import cast

import pytest

from edge.inference.guard import Guard
from edge.inference.service import Worker
from edge.messages.summary import summarise
from edge.records import Subject
from edge.store import Outbox, Store
from tests.store.samples import arrival, claimed, flagged
from tests.sync.conftest import SyncProcess, Watcher

pytestmark = pytest.mark.system
RESULTS = 250
NO_GUARD = cast(Guard, None)  # nothing is analysed here


@pytest.mark.parametrize("gone", [False, True])
def test_every_summary_arrives_after_the_outbox_was_destroyed(watcher: Watcher, sync: SyncProcess, gone: bool) -> None:
    """OUTBOX-BROKEN-01: repaired by `sync`, which has no key to results, and filled again by inference, which has."""
    with closing(Store(sync.state_dir)) as store:
        ids = []
        for number in range(RESULTS):
            store.accept(b"%d" % number, arrival())
            instance = claimed(store)
            summary = partial(summarise, flagged())
            ids.append(store.commit(instance, flagged(), Subject(), summary=summary).id)
        worker = Worker(store, NO_GUARD, sync.outbox)
        while store.owed("summary"):
            worker.relay()
        assert not worker.resend(), "nothing is lost yet"
        assert sync.outbox.depth()[0] == RESULTS
        sync.outbox.close()
        file = sync.state_dir / "outbox" / "outbox.sqlite"
        if gone:
            file.unlink()
        else:
            file.write_bytes(os.urandom(file.stat().st_size))
        sync.start()
        sync.wait_for("SC322")
        sync.outbox = Outbox(sync.state_dir)
        assert sync.outbox.is_incomplete()
        worker = Worker(store, NO_GUARD, sync.outbox)
        while worker.resend():
            pass
        assert not sync.outbox.is_incomplete()
        assert set(watcher.findings(RESULTS)) == set(ids)
        sync.await_empty_outbox()
