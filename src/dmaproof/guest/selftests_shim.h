/* What some releases' tools/testing/selftests/vfio calls and does not define. Included ahead of each of its files. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

/* Zeroed memory, or the end of the test with a failure (KSFT_FAIL). */
#define calloc_assert(count, size)                                      \
	({                                                              \
		void *zeroed_ = calloc((count), (size));                \
		if (!zeroed_) {                                         \
			fprintf(stderr, "out of memory\n");             \
			exit(1);                                        \
		}                                                       \
		zeroed_;                                                \
	})
