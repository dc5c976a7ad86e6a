/* A prompt file from anywhere (npy, safetensors, torch): what is accepted is finite, and comes back
 * the same from our own format. */
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "fuzz/fuzz.h"
#include "prompt/prompt_io.h"

static const char *scratch(const char *name)
{
    static char dir[64], path[128];
    if (!dir[0])
        snprintf(dir, sizeof dir, "/tmp/spt-fuzz-prompt-%d", (int)getpid());
    snprintf(path, sizeof path, "%s-%s", dir, name);
    return path;
}

static void put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
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
    put(scratch("in"), data, size);
    fuzz_begin();
    if (prompt_read(scratch("in"), &any, &p, &err) == SPT_OK) {
        char *bytes = NULL;
        size_t n = 0;
        matrix = 16 * (size_t)(p->P * p->E); /* data, four times while it is written and compared */
        FUZZ_CHECK(prompt_check_values(p, &err) == SPT_OK);
        FUZZ_CHECK(prompt_serialize(p, &bytes, &n, &err) == SPT_OK);
        put(scratch("out"), bytes, n);
        mem_free(bytes);
        const struct prompt_read_opts side = {.any_shape = true, .side = p->use.side};
        FUZZ_CHECK(prompt_read(scratch("out"), &side, &q, &err) == SPT_OK);
        same(p, q);
    } else {
        FUZZ_CHECK(err.msg[0]);
    }
    prompt_free(p);
    prompt_free(q);
    fuzz_end(size, matrix);
    return 0;
}
