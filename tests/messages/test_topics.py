"""The topic grammar, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messages.topics import UNUSED, Channel, Topic, TopicError, is_identifier, parse

IDENTIFIERS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True)
LEVELS = st.just(UNUSED) | IDENTIFIERS
TOPICS = st.builds(
    Topic, site=IDENTIFIERS, box=IDENTIFIERS, service=LEVELS, channel=st.sampled_from(Channel), name=LEVELS, id=LEVELS
)


@given(TOPICS)
def test_what_is_built_is_parsed_to_the_same(topic: Topic) -> None:
    text = str(topic)
    assert parse(text) == topic
    assert len(text.split("/")) == 8


@given(st.text() | st.lists(st.text(max_size=8), min_size=8, max_size=8).map("/".join) | TOPICS.map(str))
def test_any_text_is_a_topic_or_is_refused(text: str) -> None:
    """MSG-TOPIC-01"""
    try:
        topic = parse(text)
    except TopicError:
        return
    assert str(topic) == text


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        (
            "scanside/1/clinic/box-1/-/status/state/-",
            Topic(site="clinic", box="box-1", channel=Channel.STATUS, name="state"),
        ),
        (
            "scanside/1/clinic/box-1/inference/find/image/00ff",
            Topic(site="clinic", box="box-1", service="inference", channel=Channel.FINDING, name="image", id="00ff"),
        ),
        (
            "scanside/1/c/b/-/m/health/-",
            Topic(site="c", box="b", channel=Channel.MEASUREMENT, name="health"),
        ),
    ],
)
def test_the_topics_of_the_contract(text: str, topic: Topic) -> None:
    assert parse(text) == topic
    assert str(topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "scanside/1/clinic/box/-/status/state",
        "scanside/1/clinic/box/-/status/state/-/-",
        "scanside/2/clinic/box/-/status/state/-",
        "other/1/clinic/box/-/status/state/-",
        "scanside/1/clinic/box/-/statuses/state/-",
        "scanside/1/-/box/-/status/state/-",
        "scanside/1/clinic//-/status/state/-",
        "scanside/1/Clinic/box/-/status/state/-",
        "scanside/1/clinic/box/+/status/state/-",
        "scanside/1/clinic/box/-/status/#/-",
        "scanside/1/clinic/box/-/status/state/-\n",
        "scanside/1/clinic/box\n/-/status/state/-",
        "scanside/1/clinic/-box/-/status/state/-",
        "scanside/1/clinic/" + "b" * 65 + "/-/status/state/-",
        "$share/g/scanside/1/clinic/box/-/status",
    ],
)
def test_what_is_not_a_topic_is_refused(text: str) -> None:
    """MSG-TOPIC-01"""
    with pytest.raises(TopicError):
        parse(text)


def test_a_wrong_level_names_itself() -> None:
    with pytest.raises(TopicError, match="site 'A b'"):
        Topic(site="A b", box="b", channel=Channel.STATUS)


@pytest.mark.parametrize(("text", "fits"), [("a", True), ("box-1", True), ("-", False), ("", False), ("ä", False)])
def test_identifiers(text: str, fits: bool) -> None:
    assert is_identifier(text) is fits
