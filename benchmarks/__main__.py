"""`make bench`: every measurement, one after the other; some only where Chromium or the real images are."""

import shutil

from benchmarks import (
    audit,
    backlog,
    decoding,
    isolation,
    live_page,
    models,
    quality,
    receiving,
    reporting,
    scope,
    whole_way,
)

models.main()
decoding.main()
isolation.main()
receiving.main()
audit.main()
whole_way.main()
backlog.main()
reporting.main()
if shutil.which("chromium"):
    live_page.main()
if quality.DATA.is_dir():
    quality.main()
    scope.main()
