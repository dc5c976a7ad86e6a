/* Formatting and tokenising of SST-2 rows on one core: what training may wait for. Target: 100,000
 * rows per second and core (200,000 on two). Usage: bench_task VOCAB [ROWS.tsv] */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "os/os.h"
#include "task/task.h"
#include "vocab/vocab.h"

struct work {
    const vocab *v;
    struct vocab_ids ids;
    uint64_t tokens;
};

static spt_status encode(void *ctx, record *r, spt_err *err)
{
    struct work *w = ctx;
    static const char *const names[] = {"inputs", "targets"};
    for (size_t i = 0; i < 2; i++) {
        struct field_text t;
        TRY(record_text(r, names[i], &t, err));
        w->ids.count = 0;
        TRY(vocab_encode(w->v, t.s, t.len, &w->ids, err));
        w->tokens += w->ids.count + 1;
    }
    return SPT_OK;
}

static spt_status run(const struct task *t, struct work *w, const char *text, size_t size,
                      uint64_t *rows, spt_err *err)
{
    record raw = {0};
    spt_status st = SPT_OK;
    for (const char *s = text, *end = text + size; s < end && !st; ++*rows) {
        const char *nl = memchr(s, '\n', (size_t)(end - s));
        const size_t len = (size_t)((nl ? nl : end) - s);
        const char *tab = memchr(s, '\t', len);
        record_clear(&raw);
        st = record_set_text(&raw, "sentence", s, tab ? (size_t)(tab - s) : len, err);
        if (!st)
            st = record_set_int(&raw, "label", (int64_t)(*rows & 1), err);
        if (!st)
            st = record_set_int(&raw, "idx", (int64_t)*rows, err);
        if (!st)
            st = task_format(t, &raw, (int64_t)*rows, encode, w, err);
        s += len + 1;
    }
    record_release(&raw);
    return st;
}

int main(int argc, char **argv)
{
    spt_err err = {0};
    vocab *v = NULL;
    task_registry *r = NULL;
    char *text = NULL;
    size_t size = 0;
    if (argc < 2) {
        printf("bench_task: no vocabulary given, nothing measured\n");
        return 0;
    }
    spt_status st = vocab_open(argv[1], NULL, &v, &err);
    if (!st)
        st = task_registry_new(&r, &err);
    if (!st && argc > 2)
        st = fs_read_all(argv[2], 64 << 20, &text, &size, &err);
    if (!st && argc == 2) {
        text = mem_strdup("a stirring , funny and finally transporting re imagining\t1\n");
        size = text ? strlen(text) : 0;
    }
    const struct task *t = st ? NULL : task_find(r, "taskless_glue_sst2_v200_examples");
    struct work w = {.v = v};
    uint64_t rows = 0;
    const int64_t start = os_monotonic_ns();
    const clock_t busy = clock(); /* other processes do not count */
    while (!st && os_monotonic_ns() - start < 2000000000)
        st = run(t, &w, text, size, &rows, &err);
    const double seconds = (double)(clock() - busy) / CLOCKS_PER_SEC;
    if (st)
        fprintf(stderr, "bench_task: %s\n", err.msg);
    else
        printf("task sst2: %.0f rows/s, %.1f M ids/s on one core (target 100000 rows/s)\n",
               (double)rows / seconds, (double)w.tokens / seconds / 1e6);
    vocab_ids_release(&w.ids);
    mem_free(text);
    task_registry_free(r);
    vocab_close(v);
    return st != SPT_OK;
}
