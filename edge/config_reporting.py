"""The section `reporting` of the device configuration: a part of `config.py`'s schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge.config_section import AeTitle, Identifier, Port, Section

Url = Annotated[str, msgspec.Meta(pattern=r"\Ahttps?://", description="a URL with http or https")]


class Destination(Section, frozen=True, kw_only=True):
    """A PACS that is sent the results: by C-STORE, or by STOW-RS where it has a `stow_url`; or a RIS or a worklist.

    Attributes:
        name: What it is called on the page, in the log and in the journal.
        host: Its name or address.
        port: Its DICOM port.
        called_ae_title: Its AE title.
        calling_ae_title: Ours.
        tls: Verify it and encrypt (PS3.15 B.12).
        stow_url: Where its STOW-RS takes studies; by this instead of C-STORE.
        hl7: It is a RIS: each result goes to `port` as an HL7 v2.5 message ORU^R01 over MLLP, instead of any object.
        ups_url: It is a worklist: where its UPS-RS takes workitems. It gets one "Interpretation" of each flagged or
            indeterminate result, instead of any object; `called_ae_title` is that of the PACS that has the images.
        ca_file: Certificate authority to trust; absent means the system's.
        certificate_file: This box's certificate, for mutual TLS.
        key_file: Its private key.
        authorization_file: File whose first line is the value of the HTTP header Authorization.
        structured_report: As which SOP Class the report is offered first; a PACS that takes none gets the picture.
        secondary_capture: Send the picture of the result.
        presentation_state: Send the outlines to be shown over the image.
        segmentation: Send the outline of the lungs.
        storage_commitment: Keep what was sent until the PACS has committed to keep it.
        objects_per_second: Never send faster.
    """

    name: Identifier
    host: str = "127.0.0.1"
    port: Port = 104
    called_ae_title: AeTitle = "PACS"
    calling_ae_title: AeTitle = "SCANSIDE"
    tls: bool = False
    stow_url: Url | None = None
    hl7: bool = False
    ups_url: Url | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    authorization_file: Path | None = None
    structured_report: Literal["comprehensive_3d", "comprehensive", "none"] = "comprehensive_3d"
    secondary_capture: bool = True
    presentation_state: bool = True
    segmentation: bool = False
    storage_commitment: bool = False
    objects_per_second: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 10.0

    @property
    def url(self) -> str | None:
        """Where it takes what it is sent, when that goes over HTTP."""
        return self.stow_url or self.ups_url


class Worklist(Section, frozen=True, kw_only=True):
    """The clinic's worklist, in which the order behind an image is looked up (Modality Worklist).

    Attributes:
        host: Its name or address.
        port: Its DICOM port.
        called_ae_title: Its AE title.
        calling_ae_title: Ours.
        tls: Verify it and encrypt.
        ca_file: Certificate authority to trust; absent means the system's.
    """

    host: str = "127.0.0.1"
    port: Port = 104
    called_ae_title: AeTitle = "WORKLIST"
    calling_ae_title: AeTitle = "SCANSIDE"
    tls: bool = False
    ca_file: Path | None = None


class Reporting(Section, frozen=True, kw_only=True):
    """Results back to where the clinic reads images.

    Attributes:
        destinations: Who gets them; nobody when empty.
        modalities: Results of whose images are sent, whatever they say.
        commitment_host: The address where PACS that call back with their storage commitment find us.
        commitment_port: The port there; they can answer on the same association alone when absent.
        worklist: Where the order behind an image is looked up before anything is written about it; nowhere when absent.
    """

    destinations: tuple[Destination, ...] = ()
    modalities: tuple[str, ...] = ("CR", "DX")
    commitment_host: str = "127.0.0.1"
    commitment_port: Port | None = None
    worklist: Worklist | None = None
