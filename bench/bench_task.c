/* Formatting and tokenising of SST-2 rows on two cores: what training may wait for. Bar: 200,000 rows
 * per second. Usage: bench_task VOCAB [ROWS.tsv] */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
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

struct lane {
    const char *vocab_path, *text;
    size_t size;
    uint64_t rows, tokens;
    double seconds; /* of this thread's processor */
    spt_err err;
    spt_status st;
};

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *lane_main(void *arg)
{
    struct lane *l = arg;
    vocab *v = NULL;
    task_registry *r = NULL;
    l->st = vocab_open(l->vocab_path, NULL, &v, &l->err);
    if (!l->st)
        l->st = task_registry_new(&r, &l->err);
    const struct task *t = l->st ? NULL : task_find(r, "taskless_glue_sst2_v200_examples");
    struct work w = {.v = v};
    const int64_t start = os_monotonic_ns();
    const double busy = thread_seconds();
    while (!l->st && os_monotonic_ns() - start < 2000000000)
        l->st = run(t, &w, l->text, l->size, &l->rows, &l->err);
    l->seconds = thread_seconds() - busy;
    l->tokens = w.tokens;
    vocab_ids_release(&w.ids);
    task_registry_free(r);
    vocab_close(v);
    return NULL;
}

int main(int argc, char **argv)
{
    enum { LANES = 2 };
    struct lane lane[LANES];
    pthread_t thread[LANES];
    spt_err err = {0};
    char *text = NULL;
    size_t size = 0;
    if (argc < 2) {
        printf("bench_task: no vocabulary given, nothing measured\n");
        return 0;
    }
    if (argc > 2 && fs_read_all(argv[2], 64 << 20, &text, &size, &err)) {
        fprintf(stderr, "bench_task: %s\n", err.msg);
        return 1;
    }
    if (argc == 2) {
        text = mem_strdup("a stirring , funny and finally transporting re imagining\t1\n");
        size = text ? strlen(text) : 0;
    }
    const int64_t start = os_monotonic_ns();
    for (int i = 0; i < LANES; i++) {
        lane[i] = (struct lane){.vocab_path = argv[1], .text = text, .size = size};
        if (pthread_create(&thread[i], NULL, lane_main, &lane[i]))
            return 1;
    }
    uint64_t rows = 0, tokens = 0;
    double busy = 0;
    for (int i = 0; i < LANES; i++) {
        pthread_join(thread[i], NULL);
        if (lane[i].st) {
            fprintf(stderr, "bench_task: %s\n", lane[i].err.msg);
            return 1;
        }
        rows += lane[i].rows;
        tokens += lane[i].tokens;
        busy += lane[i].seconds;
    }
    const double seconds = (double)(os_monotonic_ns() - start) / 1e9;
    printf("task sst2: %.0f rows/s on two cores (bar 200000; %.0f per processor second), %.1f M ids/s\n",
           (double)rows / seconds, (double)rows / busy, (double)tokens / seconds / 1e6);
    mem_free(text);
    return 0;
}
