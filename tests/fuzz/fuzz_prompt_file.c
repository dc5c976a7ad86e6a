/* A prompt file from anywhere (npy, safetensors, torch): what is accepted is finite, and comes back
 * the same from our own format. */
#include "fuzz/fuzz.h"

#include "prompt/prompt_io.h"
#include "support/memfs.h"

static void put(const char *path, const void *bytes, size_t n)
{
    const int fd = os_open(path, OS_WRITE | OS_CREATE | OS_TRUNC);
    FUZZ_CHECK(fd >= 0 && os_write(fd, bytes, n) == (int64_t)n);
    os_close(fd);
}

static void same(const struct prompt *p, const struct prompt *q)
{
    FUZZ_CHECK(p->P == q->P && p->E == q->E);
    FUZZ_CHECK(!memcmp(p->rows, q->rows, (size_t)(p->P * p->E) * sizeof *p->rows));
    FUZZ_CHECK(p->use.label_count == q->use.label_count && p->use.step == q->use.step);
    FUZZ_CHECK(!p->use.input_template == !q->use.input_template);
    FUZZ_CHECK(!p->use.input_template || !strcmp(p->use.input_template, q->use.input_template));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prompt *p = NULL, *q = NULL;
    const struct prompt_read_opts any = {.any_shape = true};
    spt_err err = {0};
    size_t matrix = 0;
    memfs *m = memfs_new();
    memfs_use(m);
    put("/in", data, size);
    fuzz_begin();
    if (prompt_read("/in", &any, &p, &err) == SPT_OK) {
        char *bytes = NULL;
        size_t n = 0;
        matrix = 16 * (size_t)(p->P * p->E); /* data, four times while it is written and compared */
        FUZZ_CHECK(prompt_check_values(p, &err) == SPT_OK);
        FUZZ_CHECK(prompt_serialize(p, &bytes, &n, &err) == SPT_OK);
        put("/out", bytes, n);
        mem_free(bytes);
        const struct prompt_read_opts side = {.any_shape = true, .side = p->use.side};
        FUZZ_CHECK(prompt_read("/out", &side, &q, &err) == SPT_OK);
        same(p, q);
    } else {
        FUZZ_CHECK(err.msg[0]);
    }
    prompt_free(p);
    prompt_free(q);
    fuzz_end(size, matrix);
    FUZZ_CHECK(memfs_open_count(m) == 0);
    memfs_use(NULL);
    memfs_free(m);
    return 0;
}
