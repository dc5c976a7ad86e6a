/* The last failure of a configuration: kind, complete text, place, hint. */
#include "gin/gin_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_ERROR = 64 << 20, SHOWN = 440 };

spt_status gin_fail(gin_config *c, spt_status st, const char *kind, const char *fmt, ...)
{
    buf_clear(&c->error_text);
    buf_clear(&c->error_source);
    buf_clear(&c->error_hint);
    c->error = (gin_error){.column = -1};
    snprintf(c->error_kind, sizeof c->error_kind, "%s", kind);
    va_list args;
    va_start(args, fmt);
    char small[1024];
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(small, sizeof small, fmt, args);
    /* never: vsnprintf does not fail on our formats */
    if (n >= 0 && (size_t)n < sizeof small) {
        buf_add(&c->error_text, small, (size_t)n);
    /* never: vsnprintf does not fail on our formats */
    } else if (n > 0) {
        char *big = mem_alloc((size_t)n + 1, 1);
        if (big) {
            vsnprintf(big, (size_t)n + 1, fmt, again);
            buf_add(&c->error_text, big, (size_t)n);
            mem_free(big);
        } else {
            buf_add(&c->error_text, small, sizeof small - 1);
        }
    }
    va_end(again);
    va_end(args);
    return st;
}

void gin_hint(gin_config *c, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_clear(&c->error_hint);
    buf_adds(&c->error_hint, text);
}

spt_status gin_nomem(gin_config *c)
{
    (void)c;
    return SPT_E_NOMEM;
}

const gin_error *gin_last_error(const gin_config *c)
{
    /* The buffers may have moved since gin_fail(); the pointers are set when somebody looks. */
    gin_error *e = (gin_error *)&c->error;
    e->kind = c->error_kind;
    e->text = buf_str(&c->error_text);
    e->source = buf_str(&c->error_source);
    e->hint = c->error_hint.len ? buf_str(&c->error_hint) : NULL;
    return e;
}

spt_status gin_report(gin_config *c, spt_status st, spt_err *err)
{
    if (st == SPT_OK)
        return st;
    if (st == SPT_E_NOMEM)
        return err_nomem(err, 0);
    if (st != SPT_E_CONFIG && st != SPT_E_NOTFOUND && st != SPT_E_IO && st != SPT_E_INTERRUPTED)
        return err_set(err, SPT_E_CONFIG, "gin: the input exceeds a limit of the reader");
    const gin_error *e = gin_last_error(c);
    /* The first line of the text, with its place in front when the text does not tell it. */
    const size_t line = strcspn(e->text, "\n");
    const char *more = e->text[line] ? e->text + line : "";
    char place[200] = "";
    if (e->line && !strstr(more, "\n  In "))
        snprintf(place, sizeof place, "%s%s%u: ", e->file ? e->file : "gin bindings",
                 e->file ? ":" : " line ", e->line);
    char text[SHOWN];
    int shown = line > 200 ? 200 : (int)line;
    const bool goes_on = *more && !*place;
    if ((goes_on || e->hint) && shown && e->text[shown - 1] == '.')
        shown--; /* no ".;" */
    snprintf(text, sizeof text, "%s%s: %.*s%s%s%s%.150s", place, e->kind, shown, e->text,
             goes_on ? ";" : "", goes_on ? more : "", e->hint ? "; " : "", e->hint ? e->hint : "");
    /* One line for the program; gin_error_print() has the layout. */
    size_t n = 0;
    for (const char *s = text; *s; s++) {
        if (*s == '\n') {
            while (s[1] == ' ' || s[1] == '\n')
                s++;
            if (n && text[n - 1] != ' ')
                text[n++] = ' ';
        } else {
            text[n++] = *s;
        }
    }
    text[n] = 0;
    return err_set(err, st, "%s", text);
}

void gin_error_print(const gin_config *c, buf *out)
{
    const gin_error *e = gin_last_error(c);
    if (!*e->kind)
        return;
    if (strcmp(e->kind, "SyntaxError") == 0 || strcmp(e->kind, "TokenError") == 0 ||
        strcmp(e->kind, "IndentationError") == 0) {
        if (e->file)
            buf_addf(out, "  File \"%s\", line %u\n", e->file, e->line);
        else
            buf_addf(out, "  bindings string, line %u\n", e->line);
        if (*e->source)
            buf_addf(out, "    %s\n", e->source);
        if (*e->source && e->column >= 0)
            buf_addf(out, "    %*s^\n", e->column, "");
    }
    buf_addf(out, "%s: %s\n", e->kind, e->text);
    if (e->hint)
        buf_addf(out, "(%s)\n", e->hint);
}
