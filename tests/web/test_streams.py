"""The open streams: bounded in number and in length."""

from __future__ import annotations

from edge.web.streams import MAX_STREAMS, Streams, message


def test_a_message_is_one_server_sent_event() -> None:
    assert message("result", b'{"a":1}', 7) == b'id: 7\nevent: result\ndata: {"a":1}\n\n'
    assert message("beat", b"{}") == b"event: beat\ndata: {}\n\n"


def test_every_open_stream_is_told_in_order() -> None:
    streams = Streams()
    first, second = streams.open("a"), streams.open("b")
    assert first and second
    streams.publish(b"1")
    streams.publish(b"2")
    streams.end()
    assert list(first.messages()) == list(second.messages()) == [b"1", b"2"]


def test_there_are_never_too_many_and_a_closed_one_makes_room() -> None:
    streams = Streams()
    opened = [streams.open(str(number)) for number in range(MAX_STREAMS)]
    assert all(opened)
    assert streams.open("one more") is None
    assert streams.count() == MAX_STREAMS
    assert opened[3]
    streams.close("3", opened[3])
    assert streams.open("one more")


def test_a_page_replaces_its_own_earlier_stream() -> None:
    streams = Streams()
    earlier = streams.open("page")
    for number in range(MAX_STREAMS - 1):
        streams.open(str(number))
    later = streams.open("page")
    assert earlier and later
    assert list(earlier.messages()) == [message("replaced", b"{}")]
    streams.close("page", earlier)  # the earlier one's late end leaves the later one alone
    assert streams.count() == MAX_STREAMS


def test_a_page_that_does_not_read_loses_its_stream_and_costs_bounded_memory() -> None:
    streams = Streams()
    slow, quick = streams.open("slow"), streams.open("quick")
    assert slow and quick
    told = quick.messages()
    for number in range(1000):
        streams.publish(b"%d" % number)
        assert next(told) == b"%d" % number
    rest = []
    for missed in slow.messages():
        if missed is None:
            break
        rest.append(missed)
    assert len(rest) < 300


def test_after_the_end_none_opens() -> None:
    streams = Streams()
    streams.end()
    assert streams.open("late") is None
