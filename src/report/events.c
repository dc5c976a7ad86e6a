#include "report/events.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "codec/protobuf.h"
#include "store/tfrecord.h"

enum { DATA_TYPE_FLOAT = 1, DATA_TYPE_STRING = 7, MAX_PATH = 65536 };
#define MAX_EVENT ((size_t)64 << 20)

struct events_writer {
    fs_log *log;
    char *path;
    buf payload, record;
};

/* Field numbers: Event 1 wall_time, 2 step, 3 file_version, 5 summary; Summary 1 value; Value 1 tag,
 * 2 simple_value, 8 tensor, 9 metadata; Tensor 1 dtype, 2 shape, 4 content, 8 string_val;
 * metadata 1 plugin_data { 1 plugin_name }. */

void events_put_version(buf *b, double wall_time)
{
    pb_put_double(b, 1, wall_time);
    pb_put_string(b, 3, "brain.Event:2");
}

static void put_nested(buf *b, uint32_t number, const buf *inner)
{
    pb_put_bytes(b, number, buf_str(inner), inner->len);
    if (inner->st && !b->st)
        b->st = inner->st;
}

static void put_metadata(buf *b, const char *plugin)
{
    buf name, data;
    buf_init(&name, 64);
    buf_init(&data, 64);
    pb_put_string(&name, 1, plugin);
    put_nested(&data, 1, &name);
    put_nested(b, 9, &data);
    buf_release(&name);
    buf_release(&data);
}

/* An event with one value. */
static void put_event(buf *b, double wall_time, int64_t step, const buf *value)
{
    buf summary;
    buf_init(&summary, MAX_EVENT);
    put_nested(&summary, 1, value);
    pb_put_double(b, 1, wall_time);
    if (step) /* proto3: a zero is not written */
        pb_put_int64(b, 2, step);
    put_nested(b, 5, &summary);
    buf_release(&summary);
}

static void put_tensor(buf *value, int dtype, uint32_t field, const void *p, size_t n)
{
    buf tensor;
    buf_init(&tensor, MAX_EVENT);
    pb_put_varint(&tensor, 1, (uint64_t)dtype);
    pb_put_bytes(&tensor, 2, "", 0); /* the shape of a scalar */
    pb_put_bytes(&tensor, field, p, n);
    put_nested(value, 8, &tensor);
    buf_release(&tensor);
}

void events_put_scalar(buf *b, double wall_time, int64_t step, const char *tag, float v)
{
    buf value;
    unsigned char le[4];
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    for (int i = 0; i < 4; i++)
        le[i] = (unsigned char)(bits >> (8 * i));
    buf_init(&value, MAX_EVENT);
    pb_put_string(&value, 1, tag);
    put_tensor(&value, DATA_TYPE_FLOAT, 4, le, sizeof le);
    put_metadata(&value, "scalars");
    put_event(b, wall_time, step, &value);
    buf_release(&value);
}

void events_put_simple(buf *b, double wall_time, int64_t step, const char *tag, float v)
{
    buf value;
    buf_init(&value, MAX_EVENT);
    pb_put_string(&value, 1, tag);
    pb_put_float(&value, 2, v);
    put_event(b, wall_time, step, &value);
    buf_release(&value);
}

void events_put_text(buf *b, double wall_time, int64_t step, const char *tag, const char *text)
{
    buf value;
    buf_init(&value, MAX_EVENT);
    pb_put_string(&value, 1, tag);
    put_tensor(&value, DATA_TYPE_STRING, 8, text, strlen(text));
    put_metadata(&value, "text");
    put_event(b, wall_time, step, &value);
    buf_release(&value);
}

/* --- files --- */

static double now(void)
{
    return (double)os_clock_ns() / 1e9;
}

/* Frames w->payload and appends it. */
static spt_status append(events_writer *w, spt_err *err)
{
    TRY(buf_status(&w->payload, "event", err));
    buf_clear(&w->record);
    tfrecord_frame(&w->record, buf_str(&w->payload), w->payload.len);
    TRY(buf_status(&w->record, "event", err));
    return fs_log_append(w->log, w->record.data, w->record.len, err);
}

static spt_status open_at(const char *path, uint64_t keep, events_writer **out, spt_err *err)
{
    events_writer *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    buf_init(&w->payload, MAX_EVENT);
    buf_init(&w->record, MAX_EVENT + TFRECORD_OVERHEAD);
    spt_status st = SPT_OK;
    if (!(w->path = mem_strdup(path)))
        st = err_nomem(err, strlen(path));
    if (!st)
        st = fs_log_open(path, keep, &w->log, err);
    if (st) {
        events_close(w);
        return st;
    }
    *out = w;
    return SPT_OK;
}

static spt_status file_name(const char *dir, int64_t seconds, buf *out, spt_err *err)
{
    static atomic_int counter;
    char host[256], name[400];
    if (os_hostname(host, sizeof host) < 0 || strchr(host, '/'))
        snprintf(host, sizeof host, "localhost");
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%d.%d.v2", (long long)seconds, host,
             os_getpid(), atomic_fetch_add(&counter, 1));
    return path_join(out, dir, name, err);
}

spt_status events_create(const char *dir, events_writer **out, spt_err *err)
{
    const int64_t seconds = os_clock_ns() / 1000000000;
    events_writer *w = NULL;
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = fs_make_dirs(dir, err);
    if (!st)
        st = file_name(dir, seconds, &path, err);
    if (!st)
        st = open_at(buf_str(&path), 0, &w, err);
    if (!st) {
        events_put_version(&w->payload, (double)seconds);
        st = append(w, err);
    }
    buf_release(&path);
    if (st) {
        events_close(w);
        return st;
    }
    *out = w;
    return SPT_OK;
}

spt_status events_resume(const char *path, uint64_t keep, events_writer **out, spt_err *err)
{
    return open_at(path, keep, out, err);
}

const char *events_path(const events_writer *w)
{
    return w->path;
}

uint64_t events_size(const events_writer *w)
{
    return fs_log_size(w->log);
}

spt_status events_scalar(events_writer *w, int64_t step, const char *tag, float value,
                         spt_err *err)
{
    if (!w)
        return SPT_OK;
    buf_clear(&w->payload);
    events_put_scalar(&w->payload, now(), step, tag, value);
    return append(w, err);
}

spt_status events_text(events_writer *w, int64_t step, const char *tag, const char *text,
                       spt_err *err)
{
    if (!w)
        return SPT_OK;
    buf_clear(&w->payload);
    events_put_text(&w->payload, now(), step, tag, text);
    return append(w, err);
}

spt_status events_sync(events_writer *w, spt_err *err)
{
    return w ? fs_log_sync(w->log, err) : SPT_OK;
}

void events_close(events_writer *w)
{
    if (!w)
        return;
    fs_log_close(w->log);
    buf_release(&w->payload);
    buf_release(&w->record);
    mem_free(w->path);
    mem_free(w);
}
