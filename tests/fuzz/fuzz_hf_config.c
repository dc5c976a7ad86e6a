/* An accepted config.json, written again from the struct, reads as the same struct. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "store/hf_config.h"
#include "text/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct hf_config *c, buf *out)
{
    json_writer w;
    json_write_init(&w, out, 0);
    json_begin_object(&w);
#define PUT(name, call)        \
    if (c->has_##name) {       \
        json_key(&w, #name);   \
        call(&w, c->name);     \
    }
#define PUT_INT(name, def) PUT(name, json_i64)
#define PUT_NUMBER(name, def) PUT(name, json_f64)
#define PUT_BOOL(name, def) PUT(name, json_bool)
#define PUT_STRING(name, def) PUT(name, json_string)
    HF_CONFIG_INTS(PUT_INT)
    HF_CONFIG_NUMBERS(PUT_NUMBER)
    HF_CONFIG_BOOLS(PUT_BOOL)
    HF_CONFIG_STRINGS(PUT_STRING)
    json_end_object(&w);
}

static void check_same(const struct hf_config *a, const struct hf_config *b)
{
#define SAME(name, def) FUZZ_CHECK(a->has_##name == b->has_##name && a->name == b->name);
#define SAME_STRING(name, def) \
    FUZZ_CHECK(a->has_##name == b->has_##name && !strcmp(a->name, b->name));
    HF_CONFIG_INTS(SAME)
    HF_CONFIG_NUMBERS(SAME)
    HF_CONFIG_BOOLS(SAME)
    HF_CONFIG_STRINGS(SAME_STRING)
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_config c, again;
    spt_err err = {0};
    fuzz_begin();
    const spt_status st = hf_config_parse((const char *)data, size, &c, &err);
    FUZZ_CHECK(st == SPT_OK || (st == SPT_E_FORMAT && err.msg[0]));
    fuzz_check_peak(size, 0);
    if (!st) {
        buf out;
        buf_init(&out, 1 << 20);
        write_again(&c, &out);
        if (hf_config_parse(buf_str(&out), out.len, &again, &err)) {
            fprintf(stderr, "%s\n%s\n", err.msg, buf_str(&out));
            abort();
        }
        check_same(&c, &again);
        buf_release(&out);
    }
    fuzz_check_leaks();
    return 0;
}
