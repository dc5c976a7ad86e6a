/* Lines per second of formatting ("sst2 sentence: {text}") and tokenising.
 *
 *     bench_tokenize VOCABULARY FILE.tsv [threads [library]]
 *
 * The first column of each line is formatted and encoded with EOS; the file is repeated until about
 * two seconds have passed. Prints one line per thread count. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/fs.h"
#include "vocab/vocab.h"

struct job {
    const vocab *v;
    const char **line;
    const size_t *len;
    size_t first, lines, rounds, ids;
    spt_status st;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *ctx)
{
    struct job *j = ctx;
    struct vocab_ids ids = {0};
    buf text;
    buf_init(&text, 1 << 20);
    for (size_t r = 0; r < j->rounds && !j->st; r++)
        for (size_t i = 0; i < j->lines && !j->st; i++) {
            const size_t at = j->first + i;
            buf_clear(&text);
            buf_adds(&text, "sst2 sentence: ");
            buf_add(&text, j->line[at], j->len[at]);
            ids.count = 0;
            j->st = vocab_encode(j->v, text.data, text.len, &ids, NULL);
            if (!j->st)
                j->st = vocab_append_eos(j->v, &ids, NULL);
            j->ids += ids.count;
        }
    vocab_ids_release(&ids);
    buf_release(&text);
    return NULL;
}

static double run(const vocab *v, const char **line, const size_t *len, size_t lines, int threads,
                  size_t rounds, size_t *ids)
{
    struct job job[64];
    pthread_t t[64];
    const double start = now();
    for (int i = 0; i < threads; i++) {
        const size_t a = lines * (size_t)i / (size_t)threads;
        const size_t b = lines * (size_t)(i + 1) / (size_t)threads;
        job[i] = (struct job){v, line, len, a, b - a, rounds, 0, SPT_OK};
        pthread_create(&t[i], NULL, work, &job[i]);
    }
    *ids = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
        *ids += job[i].ids;
    }
    return now() - start;
}

int main(int argc, char **argv)
{
    spt_err err = {0};
    struct vocab_opts o;
    vocab *v = NULL;
    char *bytes = NULL;
    size_t size = 0, lines = 0, ids;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_tokenize VOCABULARY FILE.tsv [threads [library]]\n");
        return 2;
    }
    const int threads = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 2;
    vocab_opts_init(&o);
    o.use_library = argc > 4;
    const double t0 = now();
    if (vocab_open(argv[1], &o, &v, &err) || fs_read_all(argv[2], (size_t)1 << 30, &bytes, &size, &err) ||
        threads < 1 || threads > 64) {
        fprintf(stderr, "bench_tokenize: %s\n", err.msg);
        return 4;
    }
    printf("%s: opened in %.1f ms\n", vocab_rule_text(v), 1e3 * (now() - t0));
    const char **line = calloc(size + 1, sizeof *line);
    size_t *len = calloc(size + 1, sizeof *len);
    for (char *p = bytes; p < bytes + size; lines++) {
        char *end = memchr(p, '\n', (size_t)(bytes + size - p));
        end = end ? end : bytes + size;
        char *tab = memchr(p, '\t', (size_t)(end - p));
        line[lines] = p;
        len[lines] = (size_t)((tab ? tab : end) - p);
        p = end + 1;
    }
    const double once = run(v, line, len, lines, 1, 1, &ids);
    const size_t rounds = (size_t)(2.0 / once) + 1;
    const double t = run(v, line, len, lines, threads, rounds, &ids);
    printf("%d threads, %s: %.0f lines/s, %.1f million ids/s (%zu lines, %.1f ids per line)\n", threads,
           o.use_library ? "libsentencepiece" : "own encoder", (double)(lines * rounds) / t,
           1e-6 * (double)ids / t, lines, (double)ids / (double)(lines * rounds));
    free(line);
    free(len);
    mem_free(bytes);
    vocab_close(v);
    return 0;
}
