/* Five lines an example. Lines are stripped as Python's str.strip does. */
#include <stdio.h>
#include <string.h>

#include "task/raw_qa.h"

enum { DPR_MAX_LINE = 1 << 20, SENTENCE = 0, PRONOUN, CANDIDATES, CORRECT, EMPTY, LINES };

/* Line i of an example, stripped, kept in the record's memory. *have false: the file has ended. */
static spt_status next_line(line_reader *lines, record *keep, struct field_text *out, bool *have,
                            spt_err *err)
{
    const char *line;
    size_t len;
    TRY(line_reader_next(lines, &line, &len, err));
    *have = line != NULL;
    const struct field_text t = text_strip(line ? line : "", line ? len : 0);
    char *s = record_alloc(keep, t.len + 1);
    if (!s)
        return err_nomem(err, t.len);
    if (t.len)
        memcpy(s, t.s, t.len);
    s[t.len] = 0;
    *out = (struct field_text){s, t.len};
    return SPT_OK;
}

static bool equal(struct field_text a, struct field_text b)
{
    return a.len == b.len && memcmp(a.s, b.s, a.len) == 0;
}

static spt_status set_example(const struct field_text *line, record *out, spt_err *err)
{
    struct field_text candidate[2];
    const struct field_text *all = &line[CANDIDATES];
    const char *comma = memchr(all->s, ',', all->len);
    const size_t first = comma ? (size_t)(comma - all->s) : 0, rest = all->len - first;
    if (!comma || memchr(comma + 1, ',', rest - 1))
        return err_set(err, SPT_E_FORMAT, "\"%.80s\" are not two candidates", all->s);
    candidate[0] = text_strip(all->s, first);
    candidate[1] = text_strip(comma + 1, rest - 1);
    const int label = equal(line[CORRECT], candidate[0])   ? 0
                      : equal(line[CORRECT], candidate[1]) ? 1
                                                           : -1;
    if (label < 0)
        return err_set(err, SPT_E_FORMAT, "\"%.80s\" is none of the candidates \"%.80s\"",
                       line[CORRECT].s, all->s);
    TRY(record_set_text(out, "sentence", line[SENTENCE].s, line[SENTENCE].len, err));
    TRY(record_set_text(out, "pronoun", line[PRONOUN].s, line[PRONOUN].len, err));
    TRY(record_set_texts(out, "candidates", candidate, 2, err));
    return record_set_int(out, "label", label, err);
}

static spt_status read_example(line_reader *lines, record *keep, record *out, bool *more,
                               spt_err *err)
{
    struct field_text line[LINES];
    bool have;
    record_clear(keep);
    record_clear(out);
    for (int i = 0; i < LINES; i++)
        TRY(next_line(lines, keep, &line[i], &have, err));
    *more = line[SENTENCE].len > 0;
    return *more ? set_example(line, out, err) : SPT_OK;
}

spt_status raw_dpr_stream(const char *path, lines_source_fn source, void *source_ctx,
                          raw_qa_fn emit, void *ctx, spt_err *err)
{
    record keep = {0}, out = {0};
    line_reader *lines;
    TRY(line_reader_new(source, source_ctx, DPR_MAX_LINE, &lines, err));
    spt_status st = SPT_OK;
    bool more = true;
    for (uint64_t i = 0; !st; i++) {
        char key[32];
        snprintf(key, sizeof key, "%llu", (unsigned long long)i);
        st = read_example(lines, &keep, &out, &more, err);
        if (st || !more)
            break;
        st = emit(ctx, key, &out, err);
    }
    if (st)
        line_reader_blame(lines, path, st, err);
    line_reader_free(lines);
    record_release(&keep);
    record_release(&out);
    return st;
}
