/* Evaluation on the upstream registry: bounded, and what is evaluated contains no reference. */
#include "fuzz/fuzz.h"

#include "gin/gin.h"

/* Evaluation may make more than was written (limits.h bounds it). */
enum { GIN_EXTRA = 64 << 20 };

static void check(const gin_value *v, int depth)
{
    if (v->kind == GIN_REF || depth > 1024)
        abort();
    const size_t n = v->kind == GIN_DICT ? 2 * (size_t)v->count : v->count;
    if (v->kind == GIN_LIST || v->kind == GIN_TUPLE || v->kind == GIN_DICT)
        for (size_t i = 0; i < n; i++)
            check(&v->u.items[i], depth + 1);
    for (size_t i = 0; i < gin_object_count(v) && depth < 8; i++) {
        gin_value arg;
        gin_object_arg(v, i, &arg);
        check(&arg, depth + 1);
    }
}

static void evaluate(void *ctx, const gin_binding_info *b)
{
    gin_value v;
    if (gin_evaluate(ctx, b->value, b->scope, &v, NULL) == SPT_OK)
        check(&v, 0);
}

static void call(void *ctx, const gin_binding_info *b)
{
    gin_value v;
    if (b->path && gin_call(ctx, b->name, NULL, 0, &v, NULL) == SPT_OK)
        check(&v, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static gin_registry *r; /* does not change: one serves all inputs */
    gin_config *c;
    if (size > 4096)
        return 0;
    fuzz_begin();
    if (!r) {
        FUZZ_CHECK(gin_registry_upstream(&r, NULL) == SPT_OK);
        fuzz_keep();
    }
    FUZZ_CHECK(gin_config_new(r, &c, NULL) == SPT_OK);
    FUZZ_CHECK(gin_config_entry(c, "__main__.train", NULL) == SPT_OK);
    if (gin_parse_string(c, (const char *)data, size, NULL) == SPT_OK) {
        buf text;
        buf_init(&text, 1 << 20);
        gin_missing(c, &text);
        if (gin_finalize(c, NULL) == SPT_OK) {
            gin_each_binding(c, evaluate, c);
            gin_each_binding(c, call, c);
            gin_operative_text(c, &text, NULL);
        }
        buf_release(&text);
    }
    gin_config_free(c);
    fuzz_end(size, GIN_EXTRA);
    return 0;
}
