#include "text/lines.h"

#include <string.h>

enum { BLOCK = 1 << 16 };

struct line_reader {
    lines_source_fn source;
    void *ctx;
    uint64_t number;
    size_t at, have; /* in block */
    bool ended, after_cr;
    bool in_source, in_reader; /* where the last line_reader_next failed */
    buf rest; /* a line that began in an earlier block */
    char block[BLOCK];
};

spt_status line_reader_new(lines_source_fn source, void *ctx, size_t max, line_reader **out,
                           spt_err *err)
{
    line_reader *r = mem_alloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    r->source = source;
    r->ctx = ctx;
    r->number = 0;
    r->at = r->have = 0;
    r->ended = r->after_cr = r->in_source = r->in_reader = false;
    buf_init(&r->rest, max);
    *out = r;
    return SPT_OK;
}

void line_reader_free(line_reader *r)
{
    if (!r)
        return;
    buf_release(&r->rest);
    mem_free(r);
}

uint64_t line_reader_number(const line_reader *r)
{
    return r->number;
}

/* Where the line that starts at p ends; NULL: not in this block. */
static const char *line_end(const char *p, size_t n)
{
    const char *lf = memchr(p, '\n', n);
    const char *cr = memchr(p, '\r', lf ? (size_t)(lf - p) : n);
    return cr ? cr : lf;
}

static spt_status refill(line_reader *r, spt_err *err)
{
    r->at = r->have = 0;
    r->in_source = true;
    TRY(r->source(r->ctx, r->block, BLOCK, &r->have, err));
    r->in_source = false;
    r->ended = r->have == 0;
    return SPT_OK;
}

static spt_status next_line(line_reader *r, const char **line, size_t *len, spt_err *err)
{
    buf_clear(&r->rest);
    for (bool some = false;;) {
        if (r->at == r->have && !r->ended)
            TRY(refill(r, err));
        if (r->after_cr && r->at < r->have) {
            r->at += r->block[r->at] == '\n';
            r->after_cr = false;
            continue;
        }
        if (r->ended) {
            *line = some ? buf_str(&r->rest) : NULL;
            *len = r->rest.len;
            r->number += some;
            return SPT_OK;
        }
        const char *p = r->block + r->at;
        const size_t left = r->have - r->at;
        const char *end = line_end(p, left);
        const size_t n = end ? (size_t)(end - p) : left;
        r->at += n + (end != NULL);
        if (end)
            r->after_cr = *end == '\r';
        if (n > r->rest.max)
            return err_set(err, SPT_E_FORMAT, "line %llu has more than %zu bytes",
                           (unsigned long long)r->number + 1, r->rest.max);
        if (!end || some) {
            buf_add(&r->rest, p, n);
            if (r->rest.st == SPT_E_FORMAT)
                return err_set(err, SPT_E_FORMAT, "line %llu has more than %zu bytes",
                               (unsigned long long)r->number + 1, r->rest.max);
            TRY(buf_status(&r->rest, "line", err));
        }
        if (end) {
            *line = some ? buf_str(&r->rest) : p;
            *len = some ? r->rest.len : n;
            r->number++;
            return SPT_OK;
        }
        some = true;
    }
}

spt_status line_reader_next(line_reader *r, const char **line, size_t *len, spt_err *err)
{
    const spt_status st = next_line(r, line, len, err);
    r->in_reader = st != SPT_OK;
    return st;
}

spt_status line_reader_blame(const line_reader *r, const char *path, spt_status st, spt_err *err)
{
    if (r->in_source)
        return st;
    if (r->in_reader)
        return err_wrap(err, st, "%s", path);
    return err_wrap(err, st, "%s: line %llu", path, (unsigned long long)r->number);
}
