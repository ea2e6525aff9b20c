"""`make bench`: every measurement, one after the other; that of the quality checks where the real radiographs are."""

from benchmarks import decoding, models, quality, whole_way

models.main()
decoding.main()
whole_way.main()
if quality.FOLDER.is_dir():
    quality.main()
