/* Lexer: any bytes become tokens or an error; tokens lie inside the text, in order, and end. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gin/gin_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The lexer only takes messages' places from them: one serves many inputs. */
    static gin_registry *r;
    static gin_config *c;
    static unsigned turn;
    gin_lexer x;
    char *text = mem_strndup((const char *)data, size);
    if (!text || (!r && gin_registry_new(&r, NULL)) || (!c && gin_config_new(r, &c, NULL)))
        abort();
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
    if (++turn % 256 == 0) {
        gin_config_free(c);
        c = NULL;
    }
    mem_free(text);
    return 0;
}
