/* Parser and printer: whatever parses prints as a text that parses and prints the same again. */
#include <stdlib.h>
#include <string.h>

#include "gin/gin_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gin_config *new_config(gin_registry **r)
{
    static const gin_def defs[] = {
        {"fx", "f", GIN_FUNCTION, "a=1, b=2, **kwargs", true, NULL},
        {"fx.mod", "C", GIN_CLASS, "a=None, b=None", false, NULL},
        {"fx.mod", "C.m", GIN_METHOD, "k=0", false, NULL},
    };
    gin_config *c;
    if (gin_registry_new(r, NULL) || gin_registry_add(*r, defs, 3, NULL) ||
        gin_config_new(*r, &c, NULL))
        abort();
    return c;
}

/* gin prints macros such as 1e400 (inf) and -3j though they do not read back. */
static void unprintable(void *ctx, const gin_binding_info *b)
{
    if (!b->path && !gin_representable(b->value))
        *(bool *)ctx = true;
}

static bool print(const char *text, size_t size, buf *out)
{
    gin_registry *r;
    gin_config *c = new_config(&r);
    spt_err err = {0};
    const spt_status st = gin_parse_string(c, text, size, &err);
    if (st && (st == SPT_OK || !*err.msg))
        abort();
    if (!st && gin_config_text(c, false, out, &err))
        abort();
    bool skip = false;
    gin_each_binding(c, unprintable, &skip);
    gin_config_free(c);
    gin_registry_free(r);
    return !st && !skip;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    buf once, twice;
    buf_init(&once, 64 << 20);
    buf_init(&twice, 64 << 20);
    if (print((const char *)data, size, &once)) {
        if (!print(buf_str(&once), once.len, &twice))
            abort();
        if (once.len != twice.len || memcmp(buf_str(&once), buf_str(&twice), once.len) != 0)
            abort();
    }
    buf_release(&once);
    buf_release(&twice);
    return 0;
}
