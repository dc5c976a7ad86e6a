/* Parser and printer: whatever parses prints as a text that parses and prints the same again. */
#include "fuzz/fuzz.h"

#include "gin/gin_internal.h"

/* One, which does not change, serves all inputs. */
static gin_registry *registry;

static void fill_registry(void)
{
    static const gin_def defs[] = {
        {"fx", "f", GIN_FUNCTION, "a=1, b=2, **kwargs", true, NULL},
        {"fx.mod", "C", GIN_CLASS, "a=None, b=None", false, NULL},
        {"fx.mod", "C.m", GIN_METHOD, "k=0", false, NULL},
    };
    FUZZ_CHECK(gin_registry_new(&registry, NULL) == SPT_OK);
    FUZZ_CHECK(gin_registry_add(registry, defs, 3, NULL) == SPT_OK);
}

/* gin prints macros such as 1e400 (inf) and -3j though they do not read back, and "# None." for a configurable
 * all of whose parameters hold such values. */
static void unprintable(void *ctx, const gin_binding_info *b)
{
    if (!gin_representable(b->value))
        *(bool *)ctx = true;
}

static bool print(const char *text, size_t size, buf *out)
{
    gin_config *c;
    spt_err err = {0};
    FUZZ_CHECK(gin_config_new(registry, &c, NULL) == SPT_OK);
    const spt_status st = gin_parse_string(c, text, size, &err);
    if (st && (st == SPT_OK || !*err.msg))
        abort();
    if (!st && gin_config_text(c, false, out, &err))
        abort();
    bool skip = false;
    gin_each_binding(c, unprintable, &skip);
    gin_config_free(c);
    return !st && !skip;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    buf once, twice;
    fuzz_begin();
    if (!registry) {
        fill_registry();
        fuzz_keep();
    }
    buf_init(&once, 64 << 20);
    buf_init(&twice, 64 << 20);
    if (print((const char *)data, size, &once)) {
        if (!print(buf_str(&once), once.len, &twice))
            abort();
        if (once.len != twice.len || memcmp(buf_str(&once), buf_str(&twice), once.len) != 0)
            abort();
    }
    const size_t extra = 2 * (once.cap + twice.cap);
    buf_release(&once);
    buf_release(&twice);
    fuzz_end(size, extra + (1 << 20));
    return 0;
}
