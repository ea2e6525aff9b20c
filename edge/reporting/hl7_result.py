"""The result as an HL7 v2.5 message ORU^R01, for a RIS: what the report says, in coded observations (HL7 2.5, 7.3.1).

Pure: an image's data set and a result in, UTF-8 out. hl7apy checks every message before it may leave: segments, their
order and number, data types and lengths of version 2.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edge.config_reporting import Destination
from edge.records import Finding, Priority
from edge.reporting import codes
from edge.reporting.codes import Code
from edge.reporting.modules import Report
from edge.reporting.source import Source, Unreportable, text_of
from edge.reporting.structured_report import SUMMARIES, presence, procedure_of, sentences

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_STUDY = Code("113014", "DCM", "DICOM Study")
_UNKNOWN_NAME = "^^^^^^U"
_ORDER = re.compile(r"MSH PID OBR TQ1( OBX)+ ")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_PRELIMINARY = "P"
_CONTROL_ID = 20
_SENDER, _RECEIVER = 2, 4

Fields = dict[int, str]
"""Fields of a segment by their number, ready to be written."""


def observation_result(source: Source, report: Report) -> bytes:
    """The message of one result: the same to the last byte for the same result, under one control ID.

    Its observations: the answer as a whole, each finding with its probability, negatives included, the image's quality,
    the sentences, and the study that it is about. All of it is preliminary: a person must read the image.

    Raises:
        Unreportable: The image says no Patient ID: HL7 has no message without one (PID-3).
    """
    header = source.header
    if not text_of(header, "PatientID"):
        raise Unreportable("it has no Patient ID, without which there is no HL7 message")
    accession = escaped(text_of(header, "AccessionNumber"))
    at = f"{report.at:%Y%m%d%H%M%S%z}"
    priority = "S" if report.result.priority is Priority.URGENT else "R"
    segments = [
        _segment("PID", {3: _patient_id(source), 5: _name(source), 7: _date(source), 8: _sex(source)}),
        _segment("OBR", {1: "1", 3: accession, 4: _coded(procedure_of(source)), 7: _study_time(source), 18: accession,
                         22: at, 24: "RAD", 25: _PRELIMINARY}),
        _segment("TQ1", {1: "1", 9: priority}),
        *(_segment("OBX", {1: str(number), 11: _PRELIMINARY, 14: at, **fields})
          for number, fields in enumerate(_observations(source, report), 1)),
    ]  # fmt: skip
    control_id = f"{int(report.uid('oru').rpartition('.')[2]):032x}"[:_CONTROL_ID]
    head = f"MSH|^~\\&||{escaped(report.box)}|||{at}||ORU^R01^ORU_R01|{control_id}|P|2.5||||||UNICODE UTF-8"
    return "".join(f"{segment}\r" for segment in (head, *segments)).encode()


def addressed(message: bytes, to: Destination) -> bytes:
    """The message for one destination: sending and receiving application (MSH-3, MSH-5)."""
    head, end, rest = message.partition(b"\r")
    fields = head.split(b"|")
    fields[_SENDER], fields[_RECEIVER] = to.calling_ae_title.encode(), to.called_ae_title.encode()
    return b"|".join(fields) + end + rest


def broken_rules_of_message(message: bytes) -> list[str]:
    """Why a message may not leave; nothing when it may. Names rules, never values."""
    # Only a box beside a RIS pays for them: 6 MB.
    from hl7apy.consts import VALIDATION_LEVEL  # noqa: PLC0415
    from hl7apy.exceptions import HL7apyException  # noqa: PLC0415
    from hl7apy.parser import parse_message  # noqa: PLC0415

    try:
        parse_message(message.decode(), VALIDATION_LEVEL.STRICT, find_groups=True).validate()
    except (HL7apyException, ValueError) as error:
        return [f"the message breaks HL7 v2.5 ({type(error).__name__})"]
    segments = [segment.split("|") for segment in message.decode().split("\r")]
    if not _ORDER.fullmatch(" ".join(fields[0] for fields in segments)):  # hl7apy passes over what it does not know
        return ["the message has not the segments of an ORU^R01"]
    values = [fields[5] for fields in segments if fields[0] == "OBX" and fields[2] == "NM"]
    return [] if all(_NUMBER.fullmatch(value) for value in values) else ["an observation of type NM is no number"]


def escaped(text: str) -> str:
    """Text for a field (HL7 2.5, 2.7): what separates is escaped, what controls is a space."""
    return "".join(_ESCAPES.get(letter, letter if letter.isprintable() else " ") for letter in text)


def _observations(source: Source, report: Report) -> Iterator[Fields]:
    result = report.result
    flag = "A" if any(finding.flagged for finding in result.findings) else ""
    yield {2: "CWE", 3: _coded(codes.FINDINGS_SUMMARY), 5: _coded(SUMMARIES[result.status]), 8: flag}
    method = f"^{escaped(f'{result.model.id} {result.model.version}')}" if result.model else ""
    for number, finding in enumerate(result.findings, 1):
        yield from _finding(report, finding, {4: str(number), 8: "A" if finding.flagged else "", 17: method})
    for code in dict.fromkeys(each.code for each in result.quality):
        meaning = codes.QUALITY_FINDINGS.get(code, "Other failure")
        yield {2: "CWE", 3: _coded(codes.QUALITY_FINDING), 5: _coded(Code(code, "DCM", meaning))}
    for sentence in sentences(report):
        yield {2: "TX", 3: _coded(codes.COMMENT), 5: escaped(sentence)}
    yield {2: "ST", 3: _coded(_STUDY), 5: text_of(source.header, "StudyInstanceUID")}


def _finding(report: Report, finding: Finding, common: Fields) -> Iterator[Fields]:
    what = _coded(Code(finding.code, finding.scheme, finding.meaning))
    yield {2: "CWE", 3: what, 5: _coded(presence(report, finding)), **common}
    percent = f"{100 * finding.probability:.2f}"
    yield {2: "NM", 3: _coded(codes.CERTAINTY), 5: percent, 6: _coded(codes.PERCENT), **common, 8: ""}


def _segment(name: str, fields: Fields) -> str:
    last = max(number for number, value in fields.items() if value)
    return "|".join((name, *(fields.get(number, "") for number in range(1, last + 1))))


def _coded(code: Code) -> str:
    """CE, CWE: identifier, text, coding system."""
    return "^".join(escaped(part) for part in (code.value, code.meaning, code.scheme_designator))


def _patient_id(source: Source) -> str:
    """CX: the id and who has assigned it."""
    issuer = escaped(text_of(source.header, "IssuerOfPatientID"))
    patient_id = escaped(text_of(source.header, "PatientID"))
    return f"{patient_id}^^^{issuer}" if issuer else patient_id


def _name(source: Source) -> str:
    """XPN for each way of writing it (table 0465): DICOM has prefix and suffix the other way round (PS3.5 6.2.1)."""
    name = source.header.get("PatientName")
    written = [
        (kind, [escaped(part.strip()) for part in str(getattr(name, group, "")).split("^")])
        for kind, group in (("A", "alphabetic"), ("I", "ideographic"), ("P", "phonetic"))
    ]
    names = []
    for kind, parts in written:
        if any(parts):
            family, given, middle, prefix, suffix = (*parts, *[""] * 5)[:5]
            names.append(f"{family}^{given}^{middle}^{suffix}^{prefix}^^L^{kind}")
    return "~".join(names) or _UNKNOWN_NAME


def _date(source: Source) -> str:
    return _digits(text_of(source.header, "PatientBirthDate"), (8,))


def _study_time(source: Source) -> str:
    day = _digits(text_of(source.header, "StudyDate"), (8,))
    time = _digits(text_of(source.header, "StudyTime").partition(".")[0], (2, 4, 6))
    return day + time.ljust(4, "0") if day and time else day


def _digits(text: str, lengths: Sequence[int]) -> str:
    return text if len(text) in lengths and re.fullmatch("[0-9]+", text) else ""


def _sex(source: Source) -> str:
    """Table 0001: M, F and O as in DICOM, U where it does not say."""
    sex = text_of(source.header, "PatientSex")
    return sex if sex in ("M", "F", "O") else "U"
