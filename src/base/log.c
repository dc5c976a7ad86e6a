#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static log_sink_fn sink;
static void *sink_ctx;
static atomic_ulong warnings;
static enum log_hold held;

void log_set_sink(log_sink_fn fn, void *ctx)
{
    sink = fn;
    sink_ctx = ctx;
}

static void emit(enum log_level level, const char *fmt, va_list ap)
{
    if (!sink)
        return;
    char line[4096];
    vsnprintf(line, sizeof line, fmt, ap);
    text_tame(line);
    sink(sink_ctx, level, line);
}

void log_hold(enum log_hold what)
{
    held = what;
}

void log_info(const char *fmt, ...)
{
    if (held)
        return;
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_INFO, fmt, ap);
    va_end(ap);
}

unsigned long log_warnings(void)
{
    return warnings;
}

void log_warning(const char *fmt, ...)
{
    if (held == LOG_HOLD_ALL)
        return;
    warnings++;
    va_list ap;
    va_start(ap, fmt);
    emit(LOG_WARNING, fmt, ap);
    va_end(ap);
}
