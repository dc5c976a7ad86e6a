/* MRPC is no part of the GLUE archives: its dev set is those rows of the original training file
 * whose two ids stand in a list that GLUE published. Rows keep their number in the training file.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "task/prepare_internal.h"
#include "task/raw_glue.h"

enum { MAX_LINE = 1 << 20, MAX_IDS = 1 << 20, MAX_ID = 64 };

struct id_pair {
    char text[2 * MAX_ID + 2]; /* "first\tsecond" */
};

struct ids {
    struct id_pair *pair;
    size_t count, cap;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct id_pair *)a)->text, ((const struct id_pair *)b)->text);
}

/* Field `column` of a line; empty when there are not so many. */
static struct field_text cell(const char *line, size_t len, size_t column)
{
    const char *end = line + len;
    for (;; column--) {
        const char *tab = memchr(line, '\t', (size_t)(end - line));
        if (!column)
            return (struct field_text){line, (size_t)((tab ? tab : end) - line)};
        if (!tab)
            return (struct field_text){end, 0};
        line = tab + 1;
    }
}

static bool make_pair(struct field_text a, struct field_text b, struct id_pair *out)
{
    if (!a.len || !b.len || a.len > MAX_ID || b.len > MAX_ID)
        return false;
    memcpy(out->text, a.s, a.len);
    out->text[a.len] = '\t';
    memcpy(out->text + a.len + 1, b.s, b.len);
    out->text[a.len + 1 + b.len] = 0;
    return true;
}

static spt_status read_ids(lines_source_fn source, void *ctx, struct ids *out, spt_err *err)
{
    line_reader *lines;
    TRY(line_reader_new(source, ctx, MAX_LINE, &lines, err));
    spt_status st;
    for (;;) {
        const char *line;
        size_t len;
        struct id_pair p;
        st = line_reader_next(lines, &line, &len, err);
        if (st || !line)
            break;
        if (!make_pair(cell(line, len, 0), cell(line, len, 1), &p))
            continue;
        st = mem_grow(&out->pair, &out->cap, out->count + 1, sizeof *out->pair, MAX_IDS, err);
        if (st)
            break;
        out->pair[out->count++] = p;
    }
    line_reader_free(lines);
    if (!st && !out->count)
        st = err_set(err, SPT_E_FORMAT, "the list of ids of MRPC's dev set is empty");
    if (!st)
        qsort(out->pair, out->count, sizeof *out->pair, by_text);
    return st;
}

struct mrpc {
    struct ids ids;
    bool dev;
    glue_tsv *table;
    size_t first, second; /* columns of the ids */
    record row;
};

static spt_status find_columns(struct mrpc *m, const char *line, size_t len, spt_err *err)
{
    m->first = m->second = SIZE_MAX;
    for (size_t i = 0; i < 16; i++) {
        const struct field_text t = cell(line, len, i);
        if (t.len == 5 && memcmp(t.s, "#1 ID", 5) == 0)
            m->first = i;
        if (t.len == 5 && memcmp(t.s, "#2 ID", 5) == 0)
            m->second = i;
    }
    return m->first == SIZE_MAX || m->second == SIZE_MAX
               ? err_set(err, SPT_E_FORMAT, "the header has no columns '#1 ID' and '#2 ID'")
               : SPT_OK;
}

static spt_status read_line(struct mrpc *m, bool header, const char *line, size_t len,
                            task_emit_fn emit, void *ctx, spt_err *err)
{
    bool have;
    struct id_pair p;
    if (header)
        TRY(find_columns(m, line, len, err));
    TRY(glue_tsv_line(m->table, line, len, &m->row, &have, err));
    if (!have)
        return SPT_OK;
    const bool dev = make_pair(cell(line, len, m->first), cell(line, len, m->second), &p) &&
                     bsearch(&p, m->ids.pair, m->ids.count, sizeof p, by_text);
    return dev == m->dev ? emit(ctx, &m->row, err) : SPT_OK;
}

spt_status mrpc_stream(const char *split, const char *path, lines_source_fn source,
                       void *source_ctx, lines_source_fn ids, void *ids_ctx, task_emit_fn emit,
                       void *ctx, spt_err *err)
{
    struct mrpc m = {.dev = strcmp(split, "dev") == 0};
    line_reader *lines = NULL;
    spt_status st = read_ids(ids, ids_ctx, &m.ids, err);
    if (!st)
        st = glue_tsv_new("mrpc", split, &m.table, err);
    if (!st)
        st = line_reader_new(source, source_ctx, MAX_LINE, &lines, err);
    for (bool header = true; !st; header = false) {
        const char *line;
        size_t len;
        st = line_reader_next(lines, &line, &len, err);
        if (st || !line)
            break;
        st = read_line(&m, header, line, len, emit, ctx, err);
        if (st)
            line_reader_blame(lines, path, st, err);
    }
    line_reader_free(lines);
    glue_tsv_free(m.table);
    record_release(&m.row);
    mem_free(m.ids.pair);
    return st;
}
