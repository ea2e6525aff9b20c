"""`make bench`: every measurement, one after the other."""

from benchmarks import models, whole_way

models.main()
whole_way.main()
