/* data/template: a second, plain reading of the same text says what rendering must give. */
#include "fuzz/fuzz.h"

#include "data/template.h"

static spt_status value(void *ctx, size_t field, const char **text, size_t *len, spt_err *err)
{
    const text_template *t = ctx;
    FUZZ_CHECK(field < template_fields(t));
    *text = template_field(t, field);
    *len = strlen(*text);
    return SPT_OK;
}

/* The same with every field replaced by its own name; false when the text is no template. */
static bool plain_reading(const char *p, size_t n, buf *out)
{
    for (size_t i = 0; i < n; i++) {
        if ((p[i] == '{' || p[i] == '}') && i + 1 < n && p[i + 1] == p[i]) {
            buf_addc(out, p[i++]);
        } else if (p[i] == '{') {
            size_t end = i + 1;
            while (end < n && p[end] != '}' && p[end] != '{')
                end++;
            if (end == n || p[end] == '{' || end == i + 1)
                return false;
            buf_add(out, p + i + 1, end - i - 1);
            i = end;
        } else if (p[i] == '}') {
            return false;
        } else {
            buf_addc(out, p[i]);
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    text_template *t = NULL;
    buf want, got;
    spt_err err = {0};
    fuzz_begin();
    buf_init(&want, SIZE_MAX / 2);
    buf_init(&got, SIZE_MAX / 2);
    const spt_status st = template_parse((const char *)data, size, &t, &err);
    const bool zero = size && memchr(data, 0, size);
    FUZZ_CHECK((st == SPT_OK) == (!zero && plain_reading((const char *)data, size, &want)) ||
               (st && strstr(err.msg, "more than")));
    if (!st) {
        FUZZ_CHECK(strlen(template_source(t)) == size && !memcmp(template_source(t), data, size));
        FUZZ_CHECK(template_render_with(t, value, t, &got, &err) == SPT_OK);
        FUZZ_CHECK(got.len == want.len && !memcmp(buf_str(&got), buf_str(&want), got.len));
    } else {
        FUZZ_CHECK(st == SPT_E_CONFIG || st == SPT_E_FORMAT);
    }
    template_free(t);
    const size_t extra = 2 * (want.cap + got.cap);
    buf_release(&want);
    buf_release(&got);
    fuzz_end(size, 16 * size + extra); /* pieces of 24 bytes for every two of "{a}{b}" */
    return 0;
}
