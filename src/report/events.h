/* TensorBoard event files (spec/t5x.md 3.7, interop.md 10). One directory is one run. The file is a
 * log (fs_log): its length is part of every checkpoint, and opening with that length cuts what a
 * crash left behind, so that a resumed run repeats and loses no step. */
#ifndef SPT_REPORT_EVENTS_H
#define SPT_REPORT_EVENTS_H

#include "base/buf.h"
#include "fs/fs.h"

typedef struct events_writer events_writer;

/* New file dir/events.out.tfevents.<10-digit seconds>.<host>.<pid>.<counter>.v2 with the version
 * record; clock, host and pid come from os/. Creates the directory. */
spt_status events_create(const char *dir, events_writer **out, spt_err *err);
/* Continues an existing file, cut to `keep` bytes (a length from events_size). */
spt_status events_resume(const char *path, uint64_t keep, events_writer **out, spt_err *err);
const char *events_path(const events_writer *w);
uint64_t events_size(const events_writer *w);

/* Scalars as the reference writes them: a tensor with plugin "scalars". */
/* These three accept NULL and do nothing: a process that does not write. */
spt_status events_scalar(events_writer *w, int64_t step, const char *tag, float value,
                         spt_err *err);
/* Text (Markdown), plugin "text". */
spt_status events_text(events_writer *w, int64_t step, const char *tag, const char *text,
                       spt_err *err);
spt_status events_sync(events_writer *w, spt_err *err);
void events_close(events_writer *w); /* accepts NULL */

/* Payloads, without framing (for tests and converters). */
void events_put_version(buf *b, double wall_time);
void events_put_scalar(buf *b, double wall_time, int64_t step, const char *tag, float value);
void events_put_simple(buf *b, double wall_time, int64_t step, const char *tag, float value);
void events_put_text(buf *b, double wall_time, int64_t step, const char *tag, const char *text);

#endif
