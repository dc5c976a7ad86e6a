#include "support/quick_clock.h"

#include <stdlib.h>

static struct os_ops quick;
static _Atomic int64_t moved_ns; /* threads that upload sleep, too */
static int64_t told_ns, divided;

static int quick_sleep(int64_t ns)
{
    moved_ns += ns;
    return divided ? os_real.sleep_ns(ns / divided) : 0;
}

static int64_t quick_monotonic(void)
{
    return os_real.monotonic_ns() + moved_ns;
}

void test_quick_clock(int64_t share)
{
    divided = share;
    quick = os_real;
    quick.sleep_ns = quick_sleep;
    quick.monotonic_ns = quick_monotonic;
    os_set(&quick);
}

int64_t test_slept_ns(void)
{
    const int64_t n = moved_ns - told_ns;
    told_ns = moved_ns;
    return n;
}

unsigned char *test_noise(size_t n, uint32_t seed)
{
    unsigned char *p = malloc(n);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (unsigned char)((seed = seed * 1664525u + 1013904223u) >> 24);
    return p;
}
