/* Recursive descent over the token stream, in the order gin itself looks at things, so that the
 * first complaint is the same one. Containers are collected on one value stack and copied to the
 * pool when they close; brackets nest GIN_MAX_DEPTH deep. */
#include "gin/gin_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum { MAX_ITEMS = 1 << 26, TOKEN_SHOWN = 200 };

static gin_location here(const gin_parser *p)
{
    return (gin_location){p->t.line, (int32_t)p->t.column, p->t.source, p->t.source_len};
}

static spt_status syntax_error_at(gin_parser *p, const gin_location *at)
{
    gin_error *e = &p->c->error;
    e->file = p->lex.file;
    e->line = at->line;
    e->column = at->column;
    if (at->column > 0 && (size_t)at->column <= at->source_len)
        e->column = (int32_t)gin_text_width(at->source, (size_t)at->column);
    buf_clear(&p->c->error_source);
    buf_add(&p->c->error_source, at->source, at->source_len);
    return SPT_E_CONFIG;
}

static spt_status syntax_error(gin_parser *p, const char *text)
{
    const gin_location at = here(p);
    gin_fail(p->c, SPT_E_CONFIG, "SyntaxError", "%s", text);
    return syntax_error_at(p, &at);
}

/* --- moving ------------------------------------------------------------------------------ */

static spt_status next(gin_parser *p)
{
    TRY(gin_lex(&p->lex, &p->t));
    while (p->t.type == T_ERROR && p->t.len == 1 && (*p->t.s == ' ' || *p->t.s == '\t'))
        TRY(gin_lex(&p->lex, &p->t));
    return SPT_OK;
}

static spt_status skip_space(gin_parser *p)
{
    while (p->t.type == T_COMMENT || p->t.type == T_NL ||
           (!p->within_block && (p->t.type == T_INDENT || p->t.type == T_DEDENT)))
        TRY(next(p));
    return SPT_OK;
}

static spt_status advance(gin_parser *p)
{
    TRY(next(p));
    return skip_space(p);
}

static bool is(const gin_parser *p, const char *text)
{
    return p->t.len == strlen(text) && p->t.type != T_END && memcmp(p->t.s, text, p->t.len) == 0;
}

static spt_status expected(gin_parser *p, const char *message)
{
    const gin_location at = here(p);
    gin_fail(p->c, SPT_E_CONFIG, "SyntaxError", "%s  Got %s = %.*s.", message,
             gin_token_names[p->t.type], p->t.len > TOKEN_SHOWN ? TOKEN_SHOWN : (int)p->t.len,
             p->t.s);
    return syntax_error_at(p, &at);
}

static spt_status expect(gin_parser *p, const char *text, const char *message)
{
    return is(p, text) ? next(p) : expected(p, message);
}

static spt_status expect_type(gin_parser *p, enum gin_token_type type, const char *message)
{
    return p->t.type == type ? next(p) : expected(p, message);
}

/* --- names ------------------------------------------------------------------------------- */

static bool ascii_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* ident ( "." ident )*, or a single identifier. The lexer has vouched for the word characters. */
static bool path_valid(const char *s, size_t len, bool periods)
{
    bool start = true;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.') {
            if (!periods || start)
                return false;
            start = true;
        } else if (start) {
            if (!ascii_letter(s[i]))
                return false;
            start = false;
        }
    }
    return !start;
}

/* Reads NAME ( ('/' | '.') NAME )*; the parts must be adjacent. */
static spt_status read_selector(gin_parser *p, bool scoped, bool periods_in_scope, const char **out,
                                size_t *out_len)
{
    if (p->t.type != T_NAME)
        return syntax_error(p, "Unexpected token.");
    gin_location at = here(p);
    const char *begin = p->t.s, *end = begin;
    bool adjacent = true;
    for (bool name = true; name ? p->t.type == T_NAME : is(p, "/") || is(p, "."); name = !name) {
        adjacent &= p->t.s == end;
        end = p->t.s + p->t.len;
        TRY(next(p));
    }
    TRY(skip_space(p));
    bool valid = adjacent;
    size_t slashes = 0;
    for (const char *s = begin; valid && s <= end;) {
        const char *slash = memchr(s, '/', (size_t)(end - s));
        const char *stop = slash ? slash : end;
        valid = path_valid(s, (size_t)(stop - s), periods_in_scope || !slash);
        slashes += slash != NULL;
        s = stop + 1;
    }
    if (!valid || (!scoped && slashes)) {
        at.column++;
        gin_fail(p->c, SPT_E_CONFIG, "SyntaxError", "Malformatted scope or selector.");
        return syntax_error_at(p, &at);
    }
    *out = begin;
    *out_len = (size_t)(end - begin);
    return SPT_OK;
}

static spt_status read_identifier(gin_parser *p, const char **out)
{
    if (p->t.type != T_NAME || !path_valid(p->t.s, p->t.len, false))
        return syntax_error(p, "Invalid identifier name.");
    *out = gin_intern(&p->c->pool, p->t.s, p->t.len);
    if (!*out)
        return gin_nomem(p->c);
    return advance(p);
}

static spt_status intern(gin_parser *p, const char *s, size_t len, const char **out)
{
    *out = gin_intern(&p->c->pool, s, len);
    return *out ? SPT_OK : gin_nomem(p->c);
}

static const char *last_of(const char *s, size_t len, char c)
{
    while (len > 0)
        if (s[--len] == c)
            return s + len;
    return NULL;
}

/* Splits "scope/selector.param" at the last '/' and, with a param, at the last '.' behind it. */
static spt_status split_key(gin_parser *p, const char *key, size_t len, bool with_param,
                            gin_statement *out)
{
    const char *slash = last_of(key, len, '/');
    const char *rest = slash ? slash + 1 : key;
    const size_t rest_len = len - (size_t)(rest - key);
    const char *dot = with_param ? last_of(rest, rest_len, '.') : NULL;
    if (with_param && !dot) { /* a macro: the whole key is its name */
        out->param = "";
        out->scope = "";
        return intern(p, key, len, &out->selector);
    }
    TRY(intern(p, key, slash ? (size_t)(slash - key) : 0, &out->scope));
    TRY(intern(p, rest, dot ? (size_t)(dot - rest) : rest_len, &out->selector));
    if (dot)
        TRY(intern(p, dot + 1, rest_len - (size_t)(dot + 1 - rest), &out->param));
    return SPT_OK;
}

/* --- literals ---------------------------------------------------------------------------- */

static const char *const keywords[] = {
    "and",    "as",   "assert", "async",  "await",  "break",   "class",    "continue",
    "def",    "del",  "elif",   "else",   "except", "finally", "for",      "from",
    "global", "if",   "import", "in",     "is",     "lambda",  "nonlocal", "not",
    "or",     "pass", "raise",  "return", "try",    "while",   "with",     "yield"};

static spt_status literal_error(gin_parser *p, const char *why, bool negative, const char *token,
                                size_t len)
{
    const gin_location at = here(p);
    gin_fail(p->c, SPT_E_CONFIG, "SyntaxError", "%s\n    Failed to parse token '%s%.*s'", why,
             negative ? "-" : "", len > TOKEN_SHOWN ? TOKEN_SHOWN : (int)len, token);
    return syntax_error_at(p, &at);
}

static spt_status name_literal(gin_parser *p, bool negative, gin_value *out)
{
    static const struct {
        const char *name;
        gin_value value;
    } known[] = {{"None", {.kind = GIN_NONE}},
                 {"True", {.kind = GIN_BOOL, .u.b = true}},
                 {"False", {.kind = GIN_BOOL, .u.b = false}}};
    for (size_t i = 0; i < 3; i++) {
        if (!is(p, known[i].name))
            continue;
        if (negative)
            return literal_error(p, "malformed node or string on line 1: a negated constant", true,
                                 p->t.s, p->t.len);
        *out = known[i].value;
        return advance(p);
    }
    const char *why = "malformed node or string on line 1: a bare word";
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (is(p, keywords[i]))
            why = "invalid syntax (<unknown>, line 1)";
    return literal_error(p, why, negative, p->t.s, p->t.len);
}

/* Adjacent strings. gin joins the source text of the tokens before it decodes them, so an empty
 * literal followed by the same quote reads as an opening triple quote and fails; so it does
 * here. */
static spt_status string_literal(gin_parser *p, bool negative, gin_value *out)
{
    buf text, source;
    buf_init(&text, GIN_MAX_FILE);
    buf_init(&source, TOKEN_SHOWN);
    spt_status st = SPT_OK;
    struct gin_string_kind first = {0}, kind = {0}, before;
    char joined[96];
    for (size_t n = 0; p->t.type == T_STRING; n++) {
        const char *why = NULL;
        before = kind;
        buf_add(&source, p->t.s, p->t.len);
        bool ok = gin_string(p->t.s, p->t.len, &text, &kind, &why);
        if (n == 0) {
            first = kind;
        } else if (before.empty_single && before.quote == kind.quote && !kind.prefixed) {
            snprintf(joined, sizeof joined,
                     "unterminated triple-quoted string literal (detected at line 1) "
                     "(<unknown>, line 1)");
            why = joined;
            ok = false;
        } else if (ok && first.bytes != kind.bytes) {
            why = "cannot mix bytes and nonbytes literals (<unknown>, line 1)";
            ok = false;
        }
        if (ok && negative) {
            why = "malformed node or string on line 1: a negated constant";
            ok = false;
        }
        if (!ok) {
            const bool whole = source.st == SPT_OK;
            st = literal_error(p, why, negative, whole ? buf_str(&source) : p->t.s,
                               whole ? source.len : p->t.len);
            goto done;
        }
        st = advance(p);
        if (st)
            goto done;
    }
    st = buf_status(&text, "string", NULL);
    if (st)
        goto done;
    const char *copy = gin_pool_copy(&p->c->pool, buf_str(&text), text.len);
    if (!copy) {
        st = gin_nomem(p->c);
        goto done;
    }
    *out = (gin_value){.kind = first.bytes ? GIN_BYTES : GIN_STR, .count = (uint32_t)text.len};
    out->u.s = copy;
done:
    buf_release(&text);
    buf_release(&source);
    return st;
}

/* *found false: the current token starts no number, string or word. A '-' is gone then. */
static spt_status basic_value(gin_parser *p, gin_value *out, bool *found)
{
    bool negative = false;
    if (is(p, "-")) {
        negative = true;
        TRY(advance(p));
    }
    *found = true;
    const char *why = NULL;
    switch (p->t.type) {
    case T_NUMBER:
        if (!gin_number(p->t.s, p->t.len, negative, out, &why))
            return literal_error(p, why, negative, p->t.s, p->t.len);
        return advance(p);
    case T_NAME:
        return name_literal(p, negative, out);
    case T_STRING:
        return string_literal(p, negative, out);
    default:
        /* gin drops the sign silently; the value is the same here, but not the silence. */
        if (negative && (is(p, "%") || is(p, "@")))
            log_warning("%s%sline %u: the '-' in front of a reference has no effect in gin",
                        p->lex.file ? p->lex.file : "bindings", p->lex.file ? ":" : " ", p->t.line);
        *found = false;
        return SPT_OK;
    }
}

/* --- containers -------------------------------------------------------------------------- */

static spt_status push(gin_parser *p, const gin_value *v)
{
    TRY(mem_grow(&p->stack, &p->stack_cap, p->stacked + 1, sizeof *p->stack, MAX_ITEMS, NULL));
    p->stack[p->stacked++] = *v;
    return SPT_OK;
}

static spt_status check_hashable(gin_parser *p, const gin_value *v)
{
    if (v->kind == GIN_LIST || v->kind == GIN_DICT) {
        gin_fail(p->c, SPT_E_CONFIG, "TypeError", "unhashable type: '%s'", gin_kind_name(v));
        p->c->error.file = p->lex.file;
        p->c->error.line = p->t.line;
        return SPT_E_CONFIG;
    }
    for (uint32_t i = 0; v->kind == GIN_TUPLE && i < v->count; i++)
        TRY(check_hashable(p, &v->u.items[i]));
    return SPT_OK;
}

/* Keeps the first position and the last value of a repeated key. Returns the pairs left. */
static spt_status unique_pairs(gin_parser *p, gin_value *pair, size_t n, size_t *left)
{
    size_t slots = 16;
    while (slots < n * 2)
        slots *= 2;
    uint32_t *slot = mem_zalloc(slots, sizeof *slot);
    if (!slot)
        return gin_nomem(p->c);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = gin_value_hash(&pair[2 * i]) & (slots - 1);
        while (slot[at] && !gin_equal(&pair[2 * (slot[at] - 1)], &pair[2 * i]))
            at = (at + 1) & (slots - 1);
        if (slot[at]) {
            pair[2 * (slot[at] - 1) + 1] = pair[2 * i + 1];
            continue;
        }
        pair[2 * kept] = pair[2 * i];
        pair[2 * kept + 1] = pair[2 * i + 1];
        slot[at] = (uint32_t)++kept;
    }
    mem_free(slot);
    *left = kept;
    return SPT_OK;
}

static spt_status parse_item(gin_parser *p, bool dict)
{
    gin_value v;
    TRY(gin_parse_value(p, &v));
    if (!dict)
        return push(p, &v);
    if (!is(p, ":"))
        return syntax_error(p, "Expected ':'.");
    TRY(check_hashable(p, &v));
    TRY(push(p, &v));
    TRY(advance(p));
    TRY(gin_parse_value(p, &v));
    return push(p, &v);
}

static spt_status container(gin_parser *p, enum gin_kind kind, const char *close, gin_value *out)
{
    if (p->depth >= GIN_MAX_DEPTH)
        return syntax_error(p, "Brackets are nested more than 64 deep.");
    p->depth++;
    const size_t base = p->stacked;
    bool comma = false;
    TRY(advance(p));
    while (!is(p, close)) {
        TRY(parse_item(p, kind == GIN_DICT));
        if (is(p, ",")) {
            comma = true;
            TRY(advance(p));
        } else if (!is(p, close)) {
            char message[32];
            snprintf(message, sizeof message, "Expected ',' or '%s'.", close);
            return syntax_error(p, message);
        }
    }
    size_t n = p->stacked - base;
    if (kind == GIN_DICT) {
        n /= 2;
        if (n)
            TRY(unique_pairs(p, p->stack + base, n, &n));
    }
    if (kind == GIN_TUPLE && n == 1 && !comma) {
        *out = p->stack[base];
    } else {
        const size_t values = kind == GIN_DICT ? 2 * n : n;
        gin_value *items = gin_pool_alloc(&p->c->pool, values * sizeof *items);
        if (!items)
            return gin_nomem(p->c);
        if (values)
            memcpy(items, p->stack + base, values * sizeof *items);
        *out = (gin_value){.kind = (uint8_t)kind, .count = (uint32_t)n};
        out->u.items = items;
    }
    p->stacked = base;
    p->depth--;
    return advance(p);
}

static spt_status reference(gin_parser *p, gin_value *out)
{
    const bool macro = is(p, "%");
    gin_location at = here(p);
    const char *name;
    size_t len;
    bool evaluated = false;
    TRY(next(p));
    TRY(read_selector(p, true, true, &name, &len));
    if (!macro && is(p, "(")) {
        evaluated = true;
        TRY(advance(p));
        if (!is(p, ")"))
            return syntax_error(p, "Expected ')'.");
        TRY(next(p));
    }
    TRY(skip_space(p));
    const spt_status st = p->reference(p, name, len, macro, evaluated || macro, out);
    if (st == SPT_E_CONFIG) {
        /* The location of the sigil; the file and its includers are added by the statement. */
        buf *text = &p->c->error_text;
        const size_t column = gin_text_width(at.source, (size_t)at.column);
        size_t source = at.source_len;
        while (source && strchr(" \t\f\r\n", at.source[source - 1]))
            source--;
        if (p->lex.file)
            buf_addf(text, "\n  In file \"%s\", line %u\n    %.*s", p->lex.file, at.line,
                     (int)source, at.source);
        else
            buf_addf(text, "\n  In bindings string line %u\n    %.*s", at.line, (int)source,
                     at.source);
        if (column)
            buf_addf(text, "\n    %*s^", (int)column, "");
        syntax_error_at(p, &at);
        p->c->error.kind = p->c->error_kind;
    }
    return st;
}

spt_status gin_parse_value(gin_parser *p, gin_value *out)
{
    if (is(p, "("))
        return container(p, GIN_TUPLE, ")", out);
    if (is(p, "["))
        return container(p, GIN_LIST, "]", out);
    if (is(p, "{"))
        return container(p, GIN_DICT, "}", out);
    bool found;
    TRY(basic_value(p, out, &found));
    if (found)
        return SPT_OK;
    if (is(p, "@") || is(p, "%"))
        return reference(p, out);
    return syntax_error(p, "Unable to parse value.");
}

/* --- statements -------------------------------------------------------------------------- */

static spt_status parse_block(gin_parser *p)
{
    p->items = 0;
    TRY(expect(p, ":", "Expected ':'."));
    while (p->t.type == T_COMMENT)
        TRY(next(p));
    TRY(expect_type(p, T_NEWLINE, "Expected newline."));
    while (p->t.type == T_COMMENT || p->t.type == T_NL)
        TRY(next(p));
    TRY(expect_type(p, T_INDENT, "Expected indentation."));
    while (p->t.type == T_COMMENT || p->t.type == T_NL)
        TRY(next(p));
    p->within_block = true;
    while (p->t.type != T_DEDENT) {
        struct gin_block_item item = {.line = p->t.line, .column = p->t.column};
        TRY(read_identifier(p, &item.param));
        TRY(expect(p, "=", "Expected '='."));
        TRY(gin_parse_value(p, &item.value));
        TRY(mem_grow(&p->item, &p->item_cap, p->items + 1, sizeof item, MAX_ITEMS, NULL));
        p->item[p->items++] = item;
        TRY(expect_type(p, T_NEWLINE, "Expected newline."));
        TRY(skip_space(p));
    }
    p->within_block = false;
    return SPT_OK;
}

static spt_status parse_import(gin_parser *p, bool from, gin_statement *out)
{
    const char *module, *part;
    size_t len;
    out->type = ST_IMPORT;
    out->from = from;
    TRY(read_selector(p, false, false, &module, &len));
    if (from) {
        TRY(expect(p, "import", "Expected 'import'."));
        TRY(read_identifier(p, &part));
        buf path;
        buf_init(&path, GIN_MAX_FILE);
        buf_add(&path, module, len);
        buf_addc(&path, '.');
        buf_adds(&path, part);
        const spt_status st = path.st ? path.st : intern(p, path.data, path.len, &out->selector);
        buf_release(&path);
        TRY(st);
    } else {
        TRY(intern(p, module, len, &out->selector));
    }
    if (is(p, "as")) {
        TRY(next(p));
        TRY(read_identifier(p, &out->alias));
    }
    return SPT_OK;
}

static spt_status parse_include(gin_parser *p, gin_statement *out)
{
    const gin_location at = here(p);
    bool found;
    out->type = ST_INCLUDE;
    TRY(basic_value(p, &out->value, &found));
    if (!found || out->value.kind != GIN_STR) {
        gin_fail(p->c, SPT_E_CONFIG, "SyntaxError", "Expected file path as string.");
        return syntax_error_at(p, &at);
    }
    return SPT_OK;
}

spt_status gin_statement_next(gin_parser *p, gin_statement *out)
{
    *out = (gin_statement){.type = ST_END};
    p->stacked = 0;
    p->depth = 0;
    TRY(skip_space(p));
    if (p->t.type == T_END)
        return SPT_OK;
    out->at = here(p);
    out->at.column = -1;
    const char *key;
    size_t len;
    TRY(read_selector(p, true, false, &key, &len));
    if (is(p, "=")) {
        out->type = ST_BINDING;
        TRY(next(p));
        TRY(gin_parse_value(p, &out->value));
        TRY(split_key(p, key, len, true, out));
    } else if (is(p, ":")) {
        out->type = ST_BLOCK;
        TRY(parse_block(p));
        TRY(split_key(p, key, len, false, out));
    } else if ((len == 6 && memcmp(key, "import", 6) == 0) ||
               (len == 4 && memcmp(key, "from", 4) == 0)) {
        TRY(parse_import(p, len == 4, out));
    } else if (len == 7 && memcmp(key, "include", 7) == 0) {
        TRY(parse_include(p, out));
    } else {
        return syntax_error(p, "Couldn't parse statement, expected ':' or '='.");
    }
    if (p->t.type != T_NEWLINE && p->t.type != T_DEDENT && p->t.type != T_END)
        return syntax_error(p, "Expected newline.");
    return p->t.type != T_END ? next(p) : SPT_OK;
}

spt_status gin_parser_init(gin_parser *p, gin_config *c, struct gin_context *ctx, const char *file,
                           const char *text, size_t size, gin_reference_fn ref)
{
    *p = (gin_parser){.c = c, .context = ctx, .reference = ref};
    TRY(gin_lex_init(&p->lex, c, file, text, size));
    return next(p);
}

void gin_parser_release(gin_parser *p)
{
    gin_lex_release(&p->lex);
    mem_free(p->stack);
    mem_free(p->item);
    *p = (gin_parser){0};
}

void gin_parser_source(const gin_parser *p, uint32_t line, gin_location *at)
{
    const char *s = p->lex.text, *end = s + p->lex.size;
    for (uint32_t n = 1; n < line && s < end; n++) {
        const char *nl = memchr(s, '\n', (size_t)(end - s));
        s = nl ? nl + 1 : end;
    }
    const char *nl = memchr(s, '\n', (size_t)(end - s));
    at->line = line;
    at->source = s;
    at->source_len = (size_t)((nl ? nl : end) - s);
}

spt_status gin_reference_plain(gin_parser *p, const char *name, size_t len, bool macro,
                               bool evaluated, gin_value *out)
{
    gin_ref *r = gin_pool_alloc(&p->c->pool, sizeof *r);
    const char *slash = macro ? NULL : last_of(name, len, '/');
    const char *rest = slash ? slash + 1 : name;
    if (!r)
        return gin_nomem(p->c);
    *r = (gin_ref){.evaluated = evaluated};
    if (macro) {
        r->reg = p->c->macro;
        TRY(intern(p, name, len, &r->scope));
        TRY(intern(p, "gin.macro", 9, &r->selector));
    } else {
        TRY(intern(p, name, slash ? (size_t)(slash - name) : 0, &r->scope));
        TRY(intern(p, rest, len - (size_t)(rest - name), &r->selector));
    }
    *out = (gin_value){.kind = GIN_REF};
    out->u.ref = r;
    return SPT_OK;
}
