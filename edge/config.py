"""The device configuration, one strict schema. `config_file.py` reads it, `firmware_config` explains it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.config_reporting import Reporting
from edge.config_section import AeTitle, Identifier, Language, Port, Section


class DicomTls(Section, frozen=True, kw_only=True):
    """DICOM over TLS (PS3.15 B.12).

    Attributes:
        port: 2762 is the port registered for DICOM over TLS.
        certificate_file: This box's certificate and those between it and its authority, PEM.
        key_file: Its private key, PEM: a systemd credential, or mode 0600.
        client_ca_file: The authorities of one of which senders must show a certificate; absent asks for none.
    """

    port: Port = 2762
    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class Dicom(Section, frozen=True, kw_only=True):
    """The DICOM listener (C-STORE and C-ECHO).

    Attributes:
        ae_title: The title that modalities call.
        host: The address to listen on; the modality network's, `0.0.0.0` for all.
        port: 11112 is the port registered for DICOM.
        plain: Listen on `port`, without TLS.
        tls: Listen with TLS as well; not when absent.
        require_called_ae_title: Refuse associations that call another title.
        calling_ae_titles: Refuse associations from other titles; all may call when empty.
        allow_blank_calling_ae_title: Take senders whose title is blank, against PS3.8 9.3.2.
        hosts: Refuse associations from other addresses or networks (CIDR); all may call when empty.
        max_associations: How many senders at once.
        max_associations_per_host: How many of them from one address.
        max_pdu_bytes: Largest PDU to receive: offered to senders, and held to.
        max_object_bytes: Largest object to receive.
        association_timeout_seconds: How long a connection may take to ask for an association (ARTIM, PS3.8 9.1.5).
        idle_timeout_seconds: How long an association may rest.
        min_bytes_per_second: What a sender in the middle of an object must keep up, over `idle_timeout_seconds`.
    """

    ae_title: AeTitle = "SCANSIDE"
    host: str = "127.0.0.1"
    port: Port = 11112
    plain: bool = True
    tls: DicomTls | None = None
    require_called_ae_title: bool = False
    calling_ae_titles: tuple[AeTitle, ...] = ()
    allow_blank_calling_ae_title: bool = False
    hosts: tuple[str, ...] = ()
    max_associations: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    max_associations_per_host: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    max_pdu_bytes: Annotated[int, msgspec.Meta(ge=4096, le=16 << 20)] = 1 << 20
    max_object_bytes: Annotated[int, msgspec.Meta(ge=1 << 16, le=1 << 31)] = 256 << 20
    association_timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=300)] = 10
    idle_timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60
    min_bytes_per_second: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 10_000


class Intake(Section, frozen=True, kw_only=True):
    """How images arrive.

    Attributes:
        dicom: The DICOM listener.
        watch_folder: Files put here are taken in and removed; none when absent.
    """

    dicom: Dicom = Dicom()
    watch_folder: Path | None = None


class Inference(Section, frozen=True, kw_only=True):
    """How images are analysed.

    Attributes:
        models: Folder of model bundles; absent means those that came with the software.
        trusted_keys: Folder of public keys (`*.pub`) whose signatures on bundles count; absent likewise.
        engine: `openvino`, `onnxruntime`, or `auto`: the faster that passes the self-test on this CPU.
        operating_point: The bundles' operating point to use; absent means each bundle's default.
        threads: CPU threads of the engine.
        image_seconds: What takes longer to answer is given up, and answered with that reason (`benchmarks/limits.py`).
        image_megabytes: Memory that one image may take beside the models; likewise.
    """

    models: Path | None = None
    trusted_keys: Path | None = None
    engine: Literal["auto", "openvino", "onnxruntime"] = "auto"
    operating_point: str | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    image_seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] = 6
    image_megabytes: Annotated[int, msgspec.Meta(ge=256, le=65536)] = 1024


class Quality(Section, frozen=True, kw_only=True):
    """From where on the box warns about an exposure. It only warns: a person decides whether to repeat.

    Attributes:
        lowest_deviation_index: A Deviation Index (0018,1413) below this is under-exposed; 0 is on target.
        highest_deviation_index: Above this it is over-exposed.
        lowest_exposure_ratio: Where no Deviation Index is stated, Exposure Index (0018,1411) by its target likewise.
        highest_exposure_ratio: The same for too much.
        target_exposure_index: The target where the image states none (0018,1412); absent means that it is not judged.
    """

    lowest_deviation_index: Annotated[float, msgspec.Meta(ge=-30, le=0)] = -5.0
    highest_deviation_index: Annotated[float, msgspec.Meta(ge=0, le=30)] = 5.0
    lowest_exposure_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    highest_exposure_ratio: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 3.0
    target_exposure_index: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None


class WebTls(Section, frozen=True, kw_only=True):
    """HTTPS for the status page.

    Attributes:
        certificate_file: This box's certificate and those between it and its authority, PEM; absent means one that
            the box makes and renews itself, and that browsers must be told to trust.
        key_file: Its private key, PEM: a systemd credential, or mode 0600.
        redirect_port: A port that sends whoever comes by HTTP to HTTPS, and does nothing else; none when absent.
    """

    certificate_file: Path | None = None
    key_file: Path | None = None
    redirect_port: Port | None = None


class Web(Section, frozen=True, kw_only=True):
    """The status page, and STOW-RS.

    Attributes:
        host: The address to listen on. Without `tls` the page speaks HTTP: keep it on the box or behind a TLS front.
        port: Its port.
        tls: Speak HTTPS, and nothing else, on that port.
        privacy_screen: The page hides whose images these are until a person asks, and after five minutes again.
        language: What the page speaks to a browser that asks for none of its languages.
        session_minutes: A signed-in page without any action is signed out after this.
        max_instance_mb: The largest file that is uploaded or sent by STOW-RS, in MiB. Two at once are held in memory.
        max_request_mb: The largest STOW-RS request with all its instances, in MiB.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    tls: WebTls | None = None
    privacy_screen: bool = False
    language: Language = "en"
    session_minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 30
    max_instance_mb: Annotated[int, msgspec.Meta(ge=1, le=512)] = 64
    max_request_mb: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 1024


class Storage(Section, frozen=True, kw_only=True):
    """What lies on the disk: the keys that encrypt it, the room left beside it, how long what is answered stays.

    A limit is the percentage of the disk or the MiB, whichever is less.

    Attributes:
        key_file: The keys that encrypt it, mode 0600; absent means the systemd credential `scanside-store-key` where
            there is one, else `keys/store.key` in the state folder, made at the first start.
        warn_below_percent: With less free than this, a person is told.
        warn_below_mb: See above.
        spare_below_percent: With less, no derived pictures are made, and what is answered and delivered makes room.
        spare_below_mb: See above.
        refuse_below_percent: With less, no image is taken: what is left is for database and logs.
        refuse_below_mb: See above.
        image_days: Images and pictures of them are removed after this, once answered and delivered; absent means never.
        result_days: Results likewise; never before their images.
    """

    key_file: Path | None = None
    warn_below_percent: Annotated[int, msgspec.Meta(ge=1, le=90)] = 15
    warn_below_mb: Annotated[int, msgspec.Meta(ge=64, le=1 << 30)] = 10240
    spare_below_percent: Annotated[int, msgspec.Meta(ge=1, le=90)] = 10
    spare_below_mb: Annotated[int, msgspec.Meta(ge=64, le=1 << 30)] = 5120
    refuse_below_percent: Annotated[int, msgspec.Meta(ge=1, le=90)] = 5
    refuse_below_mb: Annotated[int, msgspec.Meta(ge=64, le=1 << 30)] = 2048
    image_days: Annotated[int, msgspec.Meta(ge=1, le=36500)] | None = 90
    result_days: Annotated[int, msgspec.Meta(ge=1, le=36500)] | None = 730


class Mqtt(Section, frozen=True, kw_only=True):
    """The link to the fleet's broker.

    Attributes:
        host: The broker.
        port: 8883 with TLS, 1883 without.
        tls: Verify the broker and encrypt. Off only for a broker on the same box.
        ca_file: Certificate authority to trust; absent means the system's.
        certificate_file: This box's certificate, for mutual TLS.
        key_file: Its private key.
        username: For brokers that ask for one.
        password_file: File whose first line is the password (a systemd credential, or mode 0600).
        keepalive_seconds: MQTT keep alive.
        session_expiry_hours: How long the broker keeps this box's session while it is away (MQTT 5 only).
        health_interval_seconds: How often health is published.
        messages_per_second: How fast what has waited is sent, at most: other traffic gets through beside it.
        summary_hour: Summaries say the hour (UTC) of their result; else no time at all.
        command_keys: Folder of the fleet's public keys (`*.pub`) whose orders count; absent takes no commands.
    """

    host: str
    port: Port = 8883
    tls: bool = True
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    keepalive_seconds: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 60
    session_expiry_hours: Annotated[int, msgspec.Meta(ge=0, le=24 * 365)] = 168
    health_interval_seconds: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 60
    messages_per_second: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200
    summary_hour: bool = True
    command_keys: Path | None = None


class Syslog(Section, frozen=True, kw_only=True):
    """The clinic's audit record repository: syslog over TLS (PS3.15 A.6; IHE ITI-20).

    Attributes:
        host: The server, by the name that its certificate has.
        port: 6514 is the port registered for syslog over TLS.
        ca_file: Certificate authority to trust; absent means the system's.
        certificate_file: This box's certificate, for mutual TLS, which IHE ATNA asks for.
        key_file: Its private key.
    """

    host: str
    port: Port = 6514
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class Audit(Section, frozen=True, kw_only=True):
    """The audit trail.

    Attributes:
        days: How long its records are kept on this box.
        syslog: Where its messages are sent as well; nowhere when absent.
    """

    days: Annotated[int, msgspec.Meta(ge=1, le=36500)] = 2192
    syslog: Syslog | None = None


class Config(Section, frozen=True, kw_only=True):
    """The whole device configuration.

    Attributes:
        site: The clinic's name in topics and on the page; assigned, says nothing about patients.
        box: This box's name at the site.
        state_dir: Everything that must survive a power cut: journal, spool, outbox, accounts.
        update_keys: Folder of public keys (`*.pub`) whose updates are taken from a stick; absent takes none.
        intake: How images arrive.
        inference: How they are analysed.
        quality: From where on the box warns about an exposure.
        web: The status page.
        audit: The audit trail: who did what, and when.
        storage: What lies on the disk: its keys, the room beside it, how long it stays.
        reporting: Results back to where the clinic reads images.
        mqtt: The fleet link; absent means that the box stands alone and sends nothing.
    """

    site: Identifier = "site"
    box: Identifier = "box"
    state_dir: Path = Path("/var/lib/scanside")
    update_keys: Path | None = None
    intake: Intake = Intake()
    inference: Inference = Inference()
    quality: Quality = Quality()
    web: Web = Web()
    audit: Audit = Audit()
    storage: Storage = Storage()
    reporting: Reporting = Reporting()
    mqtt: Mqtt | None = None

    @property
    def services(self) -> tuple[str, ...]:
        """The services that this box runs, in the order of their start."""
        optional = {
            "sync": self.mqtt is not None,
            "steward": self.mqtt is not None and self.mqtt.command_keys is not None,
            "audit": self.audit.syslog is not None,
            "reporting": bool(self.reporting.destinations),
        }
        return ("intake", "inference", "web", *(name for name, wanted in optional.items() if wanted))

    @property
    def models_folder(self) -> Path:
        """Where the model bundles lie."""
        return self.inference.models or _installed("models")

    @property
    def trusted_keys(self) -> list[Path]:
        """The public keys whose signatures on bundles count."""
        return sorted((self.inference.trusted_keys or _installed("firmware_config/trusted_keys")).glob("*.pub"))


def _installed(name: str) -> Path:
    """A folder that comes with the software: beside the packages in a checkout, under share/scanside when installed."""
    beside = Path(__file__).resolve().parent.parent / name
    return beside if beside.is_dir() else Path(sys.prefix) / "share" / "scanside" / name
