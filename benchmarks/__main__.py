"""`make bench`: every measurement, one after the other; those of quality and scope where the real images are."""

from benchmarks import audit, backlog, decoding, isolation, models, quality, receiving, scope, whole_way

models.main()
decoding.main()
isolation.main()
receiving.main()
audit.main()
whole_way.main()
backlog.main()
if quality.DATA.is_dir():
    quality.main()
    scope.main()
