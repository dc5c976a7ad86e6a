/* Tokens as Python's tokenize module (3.11) yields them, because gin's parser consumes exactly
 * that stream: an operator such as // or == is one token, so `a//b.c = 1` is an error; a line is
 * logical until its brackets close; an unterminated quote is an error token of one character.
 * The structure follows the module's loop: a line is entered (indentation measured, or a statement
 * continued), then cut into tokens. Strings that span lines are one token here, too. */
#include "gin/gin_internal.h"

#include <string.h>

#include "base/mem.h"

const char *const gin_token_names[] = {"ENDMARKER", "NAME",    "NUMBER",    "STRING",
                                       "OP",        "NEWLINE", "NL",        "COMMENT",
                                       "INDENT",    "DEDENT",  "ERRORTOKEN"};

enum { TAB = 8, MAX_INDENTS = 1 << 16 };

size_t gin_normalise(char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\r') {
            text[n++] = '\n';
            i += i + 1 < size && text[i + 1] == '\n';
        } else {
            text[n++] = text[i];
        }
    }
    return n;
}

spt_status gin_lex_init(gin_lexer *x, gin_config *c, const char *file, const char *text,
                        size_t size)
{
    *x = (gin_lexer){.c = c, .file = file, .text = text, .size = size, .fresh = true};
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        x->line_end = 3; /* a byte order mark is not part of the first line */
    TRY(mem_grow(&x->indent, &x->indent_cap, 1, sizeof *x->indent, MAX_INDENTS, NULL));
    x->indent[x->indents++] = 0;
    return SPT_OK;
}

void gin_lex_release(gin_lexer *x)
{
    mem_free(x->indent);
    *x = (gin_lexer){0};
}

static bool word_start(unsigned char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' || ch >= 0x80;
}

static bool digit(unsigned char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool word(unsigned char ch)
{
    return word_start(ch) || digit(ch);
}

static void fill(const gin_lexer *x, gin_token *t, enum gin_token_type type, size_t from, size_t to)
{
    const size_t end = x->line_end > x->line_start && x->text[x->line_end - 1] == '\n'
                           ? x->line_end - 1
                           : x->line_end;
    *t = (gin_token){.type = type,
                     .s = x->text + from,
                     .len = to - from,
                     .line = x->line,
                     .column = (uint32_t)(from - x->line_start),
                     .source = x->text + x->line_start,
                     .source_len = end - x->line_start};
}

static spt_status token_error(gin_lexer *x, const char *text, uint32_t line)
{
    gin_fail(x->c, SPT_E_CONFIG, "TokenError", "%s", text);
    x->c->error.file = x->file;
    x->c->error.line = line;
    x->c->error.column = 0;
    return SPT_E_CONFIG;
}

/* Moves to the next line; false at the end of the text. */
static bool read_line(gin_lexer *x)
{
    x->line_start = x->line_end;
    x->line++;
    if (x->line_start >= x->size) {
        x->line_start = x->line_end = x->size;
        return false;
    }
    const char *nl = memchr(x->text + x->line_start, '\n', x->size - x->line_start);
    x->line_end = nl ? (size_t)(nl - x->text) + 1 : x->size;
    x->pos = x->line_start;
    return true;
}

/* --- numbers: the alternatives of the module's regular expression ------------------------ */

/* [0-9](?:_?[0-9])* with the digits of `set`; returns the end, or `at` when nothing matches. */
static size_t digits(const gin_lexer *x, size_t at, const char *set)
{
    size_t p = at;
    if (p >= x->line_end || !x->text[p] || !strchr(set, x->text[p]))
        return at;
    for (p++; p < x->line_end;) {
        size_t q = p + (x->text[p] == '_');
        if (q >= x->line_end || !x->text[q] || !strchr(set, x->text[q]))
            break;
        p = q + 1;
    }
    return p;
}

#define DEC "0123456789"

static size_t exponent(const gin_lexer *x, size_t at)
{
    if (at >= x->line_end || (x->text[at] != 'e' && x->text[at] != 'E'))
        return at;
    size_t p = at + 1;
    if (p < x->line_end && (x->text[p] == '+' || x->text[p] == '-'))
        p++;
    const size_t q = digits(x, p, DEC);
    return q == p ? at : q;
}

static size_t float_end(const gin_lexer *x, size_t at)
{
    const size_t whole = digits(x, at, DEC);
    if (whole < x->line_end && x->text[whole] == '.') {
        const size_t frac = digits(x, whole + 1, DEC);
        if (whole == at && frac == whole + 1)
            return at;
        return exponent(x, frac);
    }
    if (whole == at)
        return at;
    const size_t e = exponent(x, whole);
    return e == whole ? at : e;
}

static size_t int_end(const gin_lexer *x, size_t at)
{
    static const struct {
        char lower, upper;
        const char *set;
    } base[] = {{'x', 'X', "0123456789abcdefABCDEF"}, {'b', 'B', "01"}, {'o', 'O', "01234567"}};
    if (x->text[at] == '0' && at + 1 < x->line_end) {
        for (size_t i = 0; i < 3; i++) {
            if (x->text[at + 1] != base[i].lower && x->text[at + 1] != base[i].upper)
                continue;
            const size_t p = at + 2 + (at + 2 < x->line_end && x->text[at + 2] == '_');
            const size_t q = digits(x, p, base[i].set);
            if (q > p)
                return q;
        }
    }
    if (x->text[at] == '0')
        return digits(x, at, "0");
    return digits(x, at, DEC);
}

static size_t number_end(const gin_lexer *x, size_t at)
{
    const size_t f = float_end(x, at);
    const size_t d = digits(x, at, DEC);
    const size_t longest = f > at ? f : d;
    if (longest > at && longest < x->line_end &&
        (x->text[longest] == 'j' || x->text[longest] == 'J'))
        return longest + 1;
    if (f > at)
        return f;
    return digit((unsigned char)x->text[at]) ? int_end(x, at) : at;
}

/* --- strings ----------------------------------------------------------------------------- */

/* Length of a string prefix followed by a quote, or SIZE_MAX when there is none. */
static size_t string_prefix(const gin_lexer *x, size_t at)
{
    size_t n = 0;
    while (n < 3 && at + n < x->line_end && x->text[at + n] != '\'' && x->text[at + n] != '"')
        n++;
    if (n >= 3 || at + n >= x->line_end)
        return SIZE_MAX;
    char a = n > 0 ? (char)(x->text[at] | 32) : 0, b = n > 1 ? (char)(x->text[at + 1] | 32) : 0;
    if (n == 0)
        return 0;
    if (n == 1)
        return strchr("rbuf", a) ? 1 : SIZE_MAX;
    if (a == 'r' && (b == 'b' || b == 'f'))
        return 2;
    return (a == 'b' || a == 'f') && b == 'r' ? 2 : SIZE_MAX;
}

/* A string token that starts at `at` with its quote at `quote`. Sets *end; 0 when the quote is
 * not closed (an error token, unless the text ended inside). */
static spt_status string_end(gin_lexer *x, size_t at, size_t quote, gin_token *t, bool *found)
{
    const char q = x->text[quote];
    const bool triple =
        quote + 2 < x->line_end && x->text[quote + 1] == q && x->text[quote + 2] == q;
    const uint32_t first_line = x->line;
    *found = true;
    fill(x, t, T_STRING, at, at);
    size_t p = quote + (triple ? 3 : 1);
    bool spans = false;
    for (;;) {
        if (p >= x->line_end) { /* only reached in strings that go on */
            if (!read_line(x))
                return token_error(x, "EOF in multi-line string", first_line);
            p = x->line_start;
            spans = true;
        }
        const char ch = x->text[p];
        if (ch == '\\' && p + 1 < x->line_end) {
            const bool newline = x->text[p + 1] == '\n';
            p += 2;
            if (triple || p < x->size)
                continue;
            if (newline) {
                read_line(x);
                return token_error(x, "EOF in multi-line string", first_line);
            }
            p--; /* the text ends with the character behind the backslash */
        }
        if (ch == q &&
            (!triple || (p + 2 < x->line_end && x->text[p + 1] == q && x->text[p + 2] == q))) {
            p += triple ? 3 : 1;
            break;
        }
        if (ch == '\n' && !triple) {
            if (!spans) {
                *found = false; /* the quote itself becomes an error token */
                return SPT_OK;
            }
            t->type = T_ERROR;
            p++;
            break;
        }
        if (!triple && p + 1 >= x->size) { /* the text ends inside a single-quoted string */
            if (!spans) {
                *found = false;
                return SPT_OK;
            }
            t->type = T_ERROR;
            p++;
            break;
        }
        p++;
    }
    t->len = (size_t)(x->text + p - t->s);
    x->pos = p;
    return SPT_OK;
}

/* --- one line ---------------------------------------------------------------------------- */

static size_t operator_len(const char *s, size_t left)
{
    static const char *const three[] = {"**=", "//=", "...", "<<=", ">>="};
    static const char *const two[] = {"!=", "%=", "&=", "**", "*=", "+=", "-=", "->", "//", "/=",
                                      ":=", "<<", "<=", "==", ">=", ">>", "@=", "^=", "|="};
    for (size_t i = 0; left >= 3 && i < sizeof three / sizeof *three; i++)
        if (s[0] == three[i][0] && memcmp(s, three[i], 3) == 0)
            return 3;
    for (size_t i = 0; left >= 2 && i < sizeof two / sizeof *two; i++)
        if (s[0] == two[i][0] && memcmp(s, two[i], 2) == 0)
            return 2;
    return *s && strchr("%&()*+,-./:;<=>@[]^{|}~", *s) ? 1 : 0;
}

/* Starts a line. *emitted: t was filled. */
static spt_status enter_line(gin_lexer *x, gin_token *t, bool *emitted)
{
    const bool continues = x->parens != 0 || x->continued;
    *emitted = false;
    x->fresh = false;
    if (!read_line(x)) {
        if (continues)
            return token_error(x, "EOF in multi-line statement", x->line);
        x->ended = true;
        return SPT_OK;
    }
    if (continues) {
        x->continued = false;
        return SPT_OK;
    }
    uint32_t column = 0;
    for (; x->pos < x->line_end; x->pos++) {
        const char ch = x->text[x->pos];
        if (ch == ' ')
            column++;
        else if (ch == '\t')
            column = (column / TAB + 1) * TAB;
        else if (ch == '\f')
            column = 0;
        else
            break;
    }
    if (x->pos == x->line_end) { /* white space up to the end of the text */
        x->fresh = true;
        return SPT_OK;
    }
    if (x->text[x->pos] == '#' || x->text[x->pos] == '\n') {
        x->fresh = true;
        *emitted = true;
        fill(x, t, T_NL, x->pos, x->line_end);
        return SPT_OK;
    }
    if (column > x->indent[x->indents - 1]) {
        TRY(mem_grow(&x->indent, &x->indent_cap, x->indents + 1, sizeof *x->indent, MAX_INDENTS,
                     NULL));
        x->indent[x->indents++] = column;
        fill(x, t, T_INDENT, x->line_start, x->pos);
        *emitted = true;
    }
    x->column = column;
    x->dedenting = true;
    return SPT_OK;
}

static spt_status dedent(gin_lexer *x, gin_token *t, bool *emitted)
{
    *emitted = false;
    if (x->column >= x->indent[x->indents - 1]) {
        x->dedenting = false;
        return SPT_OK;
    }
    bool known = false;
    for (size_t i = 0; i < x->indents; i++)
        known |= x->indent[i] == x->column;
    if (!known) {
        gin_token at;
        fill(x, &at, T_ERROR, x->pos, x->pos);
        gin_fail(x->c, SPT_E_CONFIG, "IndentationError",
                 "unindent does not match any outer indentation level");
        x->c->error.file = x->file;
        x->c->error.line = at.line;
        x->c->error.column = (int32_t)at.column;
        buf_clear(&x->c->error_source);
        buf_add(&x->c->error_source, at.source, at.source_len);
        return SPT_E_CONFIG;
    }
    x->indents--;
    fill(x, t, T_DEDENT, x->pos, x->pos);
    *emitted = true;
    return SPT_OK;
}

/* Behind the end of the text: an implicit newline, the open indentations, the end marker. */
static void finish(gin_lexer *x, gin_token *t)
{
    fill(x, t, T_END, x->size, x->size);
    t->source_len = 0;
    t->column = 0;
    if (x->tail == 0) {
        x->tail = 1;
        size_t start = x->size;
        while (start > 0 && x->text[start - 1] != '\n')
            start--;
        size_t p = start;
        while (p < x->size && (x->text[p] == ' ' || x->text[p] == '\t' || x->text[p] == '\f'))
            p++;
        if (p < x->size && x->text[p] != '#') {
            t->type = T_NEWLINE;
            t->line = x->line - 1;
            t->column = (uint32_t)(x->size - start);
            return;
        }
    }
    if (x->indents > 1) {
        x->indents--;
        t->type = T_DEDENT;
    }
}

static spt_status scan(gin_lexer *x, gin_token *t, bool *emitted)
{
    *emitted = true;
    size_t p = x->pos;
    while (p < x->line_end && (x->text[p] == ' ' || x->text[p] == '\t' || x->text[p] == '\f'))
        p++;
    if (p >= x->line_end) {
        x->fresh = true;
        *emitted = false;
        return SPT_OK;
    }
    const char ch = x->text[p];
    if (ch == '\\' && p + 1 < x->line_end && x->text[p + 1] == '\n') {
        x->continued = true;
        x->fresh = true;
        *emitted = false;
        return SPT_OK;
    }
    if (ch == '#') {
        const size_t end = x->line_end - (x->text[x->line_end - 1] == '\n');
        fill(x, t, T_COMMENT, p, end);
        x->pos = end;
        x->comments = true;
        return SPT_OK;
    }
    if (ch == '\n') {
        fill(x, t, x->parens > 0 ? T_NL : T_NEWLINE, p, p + 1);
        x->fresh = true;
        return SPT_OK;
    }
    const size_t number = number_end(x, p);
    if (number > p) {
        fill(x, t, T_NUMBER, p, number);
        x->pos = number;
        return SPT_OK;
    }
    const size_t prefix = string_prefix(x, p);
    if (prefix != SIZE_MAX) {
        bool found;
        TRY(string_end(x, p, p + prefix, t, &found));
        if (found) {
            x->fresh = x->pos >= x->line_end;
            return SPT_OK;
        }
    }
    size_t len = operator_len(x->text + p, x->line_end - p);
    if (len) {
        x->parens += strchr("([{", ch) != NULL;
        x->parens -= strchr(")]}", ch) != NULL;
        fill(x, t, T_OP, p, p + len);
    } else if (word_start((unsigned char)ch)) {
        for (len = 1; p + len < x->line_end && word((unsigned char)x->text[p + len]);)
            len++;
        fill(x, t, T_NAME, p, p + len);
    } else {
        len = 1;
        fill(x, t, T_ERROR, p, p + 1);
    }
    x->pos = p + len;
    return SPT_OK;
}

spt_status gin_lex(gin_lexer *x, gin_token *t)
{
    for (;;) {
        bool emitted = false;
        if (x->ended) {
            finish(x, t);
            return SPT_OK;
        }
        if (x->fresh)
            TRY(enter_line(x, t, &emitted));
        else if (x->dedenting)
            TRY(dedent(x, t, &emitted));
        else
            TRY(scan(x, t, &emitted));
        if (emitted)
            return SPT_OK;
    }
}
