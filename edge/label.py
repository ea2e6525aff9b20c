"""What stands on a box's label: where its page is, what modalities call, and the code of the first account.

For a person in words, for a telephone as a QR code (ISO/IEC 18004).
"""

from __future__ import annotations

from html import escape
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import Config

_DOTS_A_MODULE = 5
_LINE = 22
_MARGIN = 20
_QUIET_ZONE = 4
"""Modules, as the standard asks; OpenCV leaves two."""


class Sheet(NamedTuple):
    """The label of one box.

    Attributes:
        lines: What a person reads.
        address: What the QR code says: the page or, while nobody has an account, the form for the first one. The code
            stands behind the `#`, which no browser sends: no server and no log of its requests sees it.
    """

    lines: tuple[str, ...]
    address: str

    @classmethod
    def of(cls, config: Config, host: str, code: str | None) -> Sheet:
        """The label now.

        Args:
            config: The box's.
            host: Its name in the network, or its address.
            code: The first-boot code; None once somebody has an account.
        """
        dicom, web = config.intake.dicom, config.web
        open_to_all = web.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
        where = host if open_to_all else web.host
        named = f"[{where}]" if ":" in where else where
        page = f"{'https' if web.tls else 'http'}://{named}:{web.port}/"
        first = f"First code {code}: it makes the first account, on the page"
        lines = (
            f"Scanside   {config.site} / {config.box}",
            f"Page       {page}",
            f"DICOM      {dicom.ae_title}, {dicom.host}:{dicom.port}",
            first if code else "Accounts   there is one already",
        )
        return cls(lines, f"{page}first-account#{code}" if code else page)

    def as_text(self) -> str:
        """For the console: the lines, and the QR code in block characters, light on dark as consoles are."""
        rule = "-" * max(map(len, self.lines))
        light = np.pad(~_dark(self.address), ((0, 1), (0, 0)), constant_values=True)  # two rows a character
        marks = 2 * light[:-1:2] + light[1::2]
        drawn = ["".join(" \u2584\u2580\u2588"[mark] for mark in row) for row in marks]
        return "\n".join([rule, *self.lines, rule, *drawn, ""])

    def as_svg(self) -> str:
        """For the printer, black on white: lines and QR code as a drawing of its own, with no reference elsewhere."""
        dark = _dark(self.address)
        side, top = len(dark) * _DOTS_A_MODULE, _MARGIN + _LINE * len(self.lines)
        width, height = max(side, 640) + 2 * _MARGIN, top + side + _MARGIN
        words = "".join(
            f'<text x="{_MARGIN}" y="{_MARGIN + _LINE * row}" xml:space="preserve">{escape(line)}</text>\n'
            for row, line in enumerate(self.lines, 1)
        )
        square = f"h{_DOTS_A_MODULE}v{_DOTS_A_MODULE}h-{_DOTS_A_MODULE}z"
        modules = "".join(
            f"M{_MARGIN + x * _DOTS_A_MODULE} {top + y * _DOTS_A_MODULE}{square}" for y, x in np.argwhere(dark)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace"'
            f' font-size="16">\n<rect width="100%" height="100%" fill="#fff"/>\n{words}<path d="{modules}"/>\n</svg>\n'
        )


def _dark(text: str) -> npt.NDArray[np.bool_]:
    """The QR code's modules, bool [y, x], True where dark, in the quiet zone that readers want."""
    modules = cv2.QRCodeEncoder.create().encode(text) == 0
    rows, columns = np.nonzero(modules)
    return np.pad(modules[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], _QUIET_ZONE)
