/* Lexer: any bytes become tokens or an error; tokens lie inside the text, in order, and end. */
#include "fuzz/fuzz.h"

#include "gin/gin_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static gin_registry *r; /* does not change: one serves all inputs */
    gin_config *c;
    gin_lexer x;
    fuzz_begin();
    if (!r) {
        FUZZ_CHECK(gin_registry_new(&r, NULL) == SPT_OK);
        fuzz_keep();
    }
    char *text = mem_strndup((const char *)data, size);
    FUZZ_CHECK(text && gin_config_new(r, &c, NULL) == SPT_OK);
    const size_t given = size;
    size = gin_normalise(text, size);
    if (gin_lex_init(&x, c, NULL, text, size))
        abort();
    gin_token t;
    const char *last = text;
    long depth = 0;
    for (size_t n = 0; gin_lex(&x, &t) == SPT_OK; n++) {
        if (t.s < text || t.len > (size_t)(text + size - t.s) || n > 4 * size + 8)
            abort();
        if (t.type != T_INDENT && t.type != T_DEDENT && t.type != T_NL && t.s < last)
            abort();
        if (t.type != T_INDENT && t.type != T_DEDENT && t.type != T_NL)
            last = t.s;
        depth += (t.type == T_INDENT) - (t.type == T_DEDENT);
        if (depth < 0)
            abort();
        if (t.type == T_END) {
            if (depth)
                abort();
            break;
        }
    }
    gin_lex_release(&x);
    gin_config_free(c);
    mem_free(text);
    fuzz_end(given, 0);
    return 0;
}
