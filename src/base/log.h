/* The story for stderr. Library code never prints: it hands lines to the sink that the program
 * set once at start; without a sink they are dropped. */
#ifndef SPT_BASE_LOG_H
#define SPT_BASE_LOG_H

#include "base/status.h"

enum log_level { LOG_INFO, LOG_WARNING };

typedef void (*log_sink_fn)(void *ctx, enum log_level level, const char *line);

/* Global, set once before other threads start. NULL drops everything. */
void log_set_sink(log_sink_fn sink, void *ctx);
/* One line without '\n'. Control characters are replaced before the sink sees it. */
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* What is not told for now: a job inside a job tells its own story. Warnings that are held are not
 * counted either. */
enum log_hold { LOG_HOLD_NOTHING, LOG_HOLD_INFO, LOG_HOLD_ALL };
void log_hold(enum log_hold what);
/* Warnings so far, told or dropped: what --strict looks at. */
unsigned long log_warnings(void);

#endif
