/* Waiting that costs little: for tests of retries, leases and stalls. */
#ifndef TESTS_SUPPORT_QUICK_CLOCK_H
#define TESTS_SUPPORT_QUICK_CLOCK_H

#include "os/os.h"

/* Installs the real system but for its sleep, which takes 1/`share` of its time (0: none), while the
 * monotonic clock moves as if it had taken all. Again after another table was installed. */
void test_quick_clock(int64_t share);
/* Nanoseconds slept since the last call. */
int64_t test_slept_ns(void);
/* n bytes without structure; free. */
unsigned char *test_noise(size_t n, uint32_t seed);

#endif
