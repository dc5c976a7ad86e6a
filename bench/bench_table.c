/* MB/s of the table reader on one core, from memory: bench_table [MB]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "text/table.h"

struct source {
    const char *p;
    size_t left;
};

static spt_status from_memory(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    *got = n < s->left ? n : s->left;
    memcpy(p, s->p, *got);
    s->p += *got;
    s->left -= *got;
    return SPT_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Rows like SST-2's; every fourth CSV row needs quotes, every tenth text is not ASCII. */
static void fill(buf *b, enum table_kind kind, size_t bytes)
{
    static const char *const text[] = {
        "it 's a charming and often affecting journey",
        "the acting , costumes , music , cinematography and sound are all astounding given the "
        "production 's austere locales",
        "unflinchingly bleak and desperate",
        "allows us to hope that nolan is poised to embark a major career as a commercial yet "
        "inventive filmmaker",
        "ein Film wie ein Frühstück über den Dächern von Zürich",
    };
    unsigned i = 0;
    while (b->len < bytes && !b->st) {
        const char *t = i % 10 == 9 ? text[4] : text[i % 4];
        if (kind == TABLE_TSV)
            buf_addf(b, "%s\t%u\n", t, i & 1);
        else if (kind == TABLE_CSV && i % 4 == 1)
            buf_addf(b, "\"%s, he said: \"\"%s\"\"\",%u\n", t, t, i & 1);
        else if (kind == TABLE_CSV)
            buf_addf(b, i % 4 == 1 || strchr(t, ',') ? "\"%s\",%u\n" : "%s,%u\n", t, i & 1);
        else
            buf_addf(b, "{\"sentence\": \"%s\", \"label\": %u, \"idx\": %u}\n", t, i & 1, i);
        i++;
    }
}

static int run(enum table_kind kind, size_t bytes)
{
    buf b;
    buf_init(&b, bytes + 4096);
    fill(&b, kind, bytes);
    double best = 0;
    uint64_t rows = 0;
    for (int turn = 0; turn < 5; turn++) {
        struct source s = {b.data, b.len};
        const struct table_options o = {.kind = kind};
        table_reader *t = NULL;
        spt_err err = {0};
        const double start = now();
        if (table_open(&o, from_memory, &s, &t, &err)) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        struct table_row row;
        bool more = true;
        rows = 0;
        while (more) {
            if (table_next(t, &row, &more, &err)) {
                fprintf(stderr, "%s\n", err.msg);
                return 1;
            }
            rows += more;
        }
        table_close(t);
        const double rate = (double)b.len / 1e6 / (now() - start);
        best = rate > best ? rate : best;
    }
    printf("%-10s %8.1f MB/s  (%llu rows, %zu bytes, best of 5)\n", table_kind_name(kind), best,
           (unsigned long long)rows, b.len);
    buf_release(&b);
    return 0;
}

int main(int argc, char **argv)
{
    const size_t mb = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 64;
    return run(TABLE_TSV, mb << 20) | run(TABLE_CSV, mb << 20) | run(TABLE_JSONL, mb << 20);
}
