"""`make bench`: every measurement, one after the other; those of quality and scope where the real images are."""

from benchmarks import decoding, isolation, models, quality, scope, whole_way

models.main()
decoding.main()
isolation.main()
whole_way.main()
if quality.DATA.is_dir():
    quality.main()
    scope.main()
