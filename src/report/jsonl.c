#include "report/jsonl.h"

#include <string.h>

#define MAX_LINE ((size_t)256 << 20)

struct jsonl {
    fs_log *log;
    buf line;
    json_writer w;
};

/* Length of the file up to its last newline; 0 when it is not there. */
static spt_status whole_lines(const char *path, uint64_t *out, spt_err *err)
{
    fs_mapping m;
    const spt_status st = fs_map(path, &m, err);
    if (st == SPT_E_NOTFOUND) {
        *out = 0;
        return SPT_OK;
    }
    if (st)
        return st;
    size_t n = m.size;
    while (n && m.bytes[n - 1] != '\n')
        n--;
    fs_unmap(&m);
    *out = n;
    return SPT_OK;
}

spt_status jsonl_open(const char *path, uint64_t keep, jsonl **out, spt_err *err)
{
    if (keep == UINT64_MAX)
        TRY(whole_lines(path, &keep, err));
    jsonl *j = mem_zalloc(1, sizeof *j);
    if (!j)
        return err_nomem(err, sizeof *j);
    buf_init(&j->line, MAX_LINE);
    const spt_status st = fs_log_open(path, keep, &j->log, err);
    if (st) {
        mem_free(j);
        return st;
    }
    *out = j;
    return SPT_OK;
}

json_writer *jsonl_begin(jsonl *j, unsigned style)
{
    buf_clear(&j->line);
    json_write_init(&j->w, &j->line, style);
    return &j->w;
}

spt_status jsonl_end(jsonl *j, spt_err *err)
{
    buf_addc(&j->line, '\n');
    TRY(buf_status(&j->line, "JSON line", err));
    return fs_log_append(j->log, j->line.data, j->line.len, err);
}

uint64_t jsonl_size(const jsonl *j)
{
    return fs_log_size(j->log);
}

spt_status jsonl_sync(jsonl *j, spt_err *err)
{
    return fs_log_sync(j->log, err);
}

void jsonl_close(jsonl *j)
{
    if (!j)
        return;
    fs_log_close(j->log);
    buf_release(&j->line);
    mem_free(j);
}
