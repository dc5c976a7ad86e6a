/* Values as Python prints them: repr(), and pprint.pformat() at width 76, which decides the layout
 * of config.gin. Also equality, hashing and order of values, as Python compares them. */
#include "gin/gin_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { WIDTH = 76 };

/* --- comparing --------------------------------------------------------------------------- */

const char *gin_kind_name(const gin_value *v)
{
    static const char *const name[] = {"NoneType",  "bool",   "int",      "float",    "complex",
                                       "str",       "bytes",  "list",     "tuple",    "dict",
                                       "reference", "object", "callable", "REQUIRED", "default"};
    return v->kind < sizeof name / sizeof *name ? name[v->kind] : "?";
}

static bool is_number(const gin_value *v)
{
    return v->kind == GIN_BOOL || v->kind == GIN_INT || v->kind == GIN_FLOAT;
}

static double as_double(const gin_value *v)
{
    return v->kind == GIN_FLOAT ? v->u.f : v->kind == GIN_BOOL ? (double)v->u.b : (double)v->u.i;
}

static int64_t as_int(const gin_value *v)
{
    return v->kind == GIN_BOOL ? (int64_t)v->u.b : v->u.i;
}

static size_t item_count(const gin_value *v)
{
    return v->kind == GIN_DICT ? 2 * (size_t)v->count : v->count;
}

static int compare_numbers(const gin_value *a, const gin_value *b)
{
    if (a->kind != GIN_FLOAT && b->kind != GIN_FLOAT) {
        const int64_t x = as_int(a), y = as_int(b);
        return (x > y) - (x < y);
    }
    const double x = as_double(a), y = as_double(b);
    return (x > y) - (x < y);
}

static int compare_bytes(const gin_value *a, const gin_value *b)
{
    const size_t n = a->count < b->count ? a->count : b->count;
    const int d = n ? memcmp(a->u.s, b->u.s, n) : 0;
    return d ? d : (a->count > b->count) - (a->count < b->count);
}

bool gin_equal(const gin_value *a, const gin_value *b)
{
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b) == 0;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case GIN_NONE:
    case GIN_REQUIRED:
        return true;
    case GIN_IMAG:
        return a->u.f == b->u.f;
    case GIN_STR:
    case GIN_BYTES:
    case GIN_OPAQUE:
        return compare_bytes(a, b) == 0;
    case GIN_REF: /* gin compares what is referenced and how, not the scope */
    case GIN_CALLABLE:
        return a->u.ref->reg == b->u.ref->reg && a->u.ref->evaluated == b->u.ref->evaluated &&
               (a->u.ref->reg || a->u.ref->selector == b->u.ref->selector) &&
               a->u.ref->scope == b->u.ref->scope;
    case GIN_OBJECT:
        return a->u.object == b->u.object;
    default:
        break;
    }
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < item_count(a); i++)
        if (!gin_equal(&a->u.items[i], &b->u.items[i]))
            return false;
    return true;
}

uint64_t gin_value_hash(const gin_value *v)
{
    uint64_t h = v->kind;
    if (is_number(v)) {
        const double d = as_double(v) + 0.0;
        return gin_hash_bytes(&d, sizeof d);
    }
    switch (v->kind) {
    case GIN_STR:
    case GIN_BYTES:
    case GIN_OPAQUE:
        return h ^ gin_hash_bytes(v->u.s, v->count);
    case GIN_REF:
    case GIN_CALLABLE:
        return h ^ gin_hash_bytes(v->u.ref->selector, strlen(v->u.ref->selector));
    case GIN_LIST:
    case GIN_TUPLE:
    case GIN_DICT:
        for (size_t i = 0; i < item_count(v); i++)
            h = (h ^ gin_value_hash(&v->u.items[i])) * 0x9e3779b97f4a7c15u;
        return h;
    default:
        return h * 0x9e3779b97f4a7c15u;
    }
}

int gin_compare(const gin_value *a, const gin_value *b)
{
    if (is_number(a) && is_number(b))
        return compare_numbers(a, b);
    if (a->kind != b->kind)
        return strcmp(gin_kind_name(a), gin_kind_name(b));
    if (a->kind == GIN_STR || a->kind == GIN_BYTES)
        return compare_bytes(a, b);
    if (a->kind == GIN_TUPLE) {
        for (uint32_t i = 0; i < a->count && i < b->count; i++) {
            const int d = gin_compare(&a->u.items[i], &b->u.items[i]);
            if (d)
                return d;
        }
        return (a->count > b->count) - (a->count < b->count);
    }
    return 0;
}

bool gin_as_int(const gin_value *v, int64_t *out)
{
    if (v->kind != GIN_INT)
        return false;
    *out = v->u.i;
    return true;
}

bool gin_as_float(const gin_value *v, double *out)
{
    if (v->kind != GIN_INT && v->kind != GIN_FLOAT)
        return false;
    *out = as_double(v);
    return true;
}

bool gin_as_bool(const gin_value *v, bool *out)
{
    if (v->kind != GIN_BOOL)
        return false;
    *out = v->u.b;
    return true;
}

const char *gin_as_str(const gin_value *v)
{
    return v->kind == GIN_STR ? v->u.s : NULL;
}

const gin_value *gin_dict_get(const gin_value *dict, const char *key)
{
    if (dict->kind != GIN_DICT)
        return NULL;
    for (uint32_t i = 0; i < dict->count; i++) {
        const gin_value *k = &dict->u.items[2 * i];
        if (k->kind == GIN_STR && k->count == strlen(key) && memcmp(k->u.s, key, k->count) == 0)
            return k + 1;
    }
    return NULL;
}

/* --- repr -------------------------------------------------------------------------------- */

size_t gin_text_width(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

/* Shortest decimal that reads back as the same number. */
static void float_repr(buf *out, double f)
{
    char digits[40];
    if (isnan(f)) {
        buf_adds(out, "nan");
        return;
    }
    if (isinf(f)) {
        buf_adds(out, f > 0 ? "inf" : "-inf");
        return;
    }
    /* never: seventeen digits give every double back */
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision - 1, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    /* digits: [-]d[.ddd]e[+-]xx */
    char *e = strchr(digits, 'e');
    const long exponent = strtol(e + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        *e = 0;
        buf_addf(out, "%se%c%02ld", digits, exponent < 0 ? '-' : '+', labs(exponent));
        return;
    }
    const long shown = (long)(e - digits) - (digits[0] == '-') - 1; /* with the point, if any */
    const long after = (shown > 0 ? shown - 1 : 0) - exponent;
    buf_addf(out, "%.*f", after < 1 ? 1 : (int)after, f);
}

static void string_repr(buf *out, const char *s, size_t len, bool bytes)
{
    const char *end = s + len;
    const char quote = memchr(s, '\'', len) && !memchr(s, '"', len) ? '"' : '\'';
    if (bytes)
        buf_addc(out, 'b');
    buf_addc(out, quote);
    while (s < end) {
        const char *start = s;
        const uint32_t c = bytes ? (unsigned char)*s++ : gin_utf8_next(&s, end);
        if (c == (uint32_t)quote || c == '\\') {
            buf_addc(out, '\\');
            buf_addc(out, (char)c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            buf_adds(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else if (c < 0x20 || c == 0x7f || (bytes && c >= 0x80)) {
            buf_addf(out, "\\x%02x", (unsigned)c);
        } else if (c < 0x80 || gin_printable(c)) {
            buf_add(out, start, (size_t)(s - start));
        } else {
            buf_addf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        }
    }
    buf_addc(out, quote);
}

static void ref_repr(buf *out, const gin_ref *r, const struct gin_printer *p)
{
    const char *path = r->reg ? r->reg->entry->path : "";
    if (r->evaluated &&
        (strcmp(path, "gin.config.macro") == 0 || strcmp(path, "gin.config.constant") == 0)) {
        buf_addf(out, "%%%s", r->scope);
        return;
    }
    const char *selector = p && p->selector && r->reg ? p->selector(p->ctx, r) : NULL;
    buf_addf(out, "@%s%s%s%s", r->scope, *r->scope ? "/" : "", selector ? selector : r->selector,
             r->evaluated ? "()" : "");
}

/* Order in which the pairs of a dict are printed: sorted (stable) or as stored. */
static bool pair_order(const gin_value *dict, bool sort, uint32_t **out)
{
    const uint32_t n = dict->count;
    uint32_t *order = mem_alloc(2 * (size_t)n + 1, sizeof *order);
    if (!order)
        return false;
    uint32_t *from = order, *to = order + n;
    for (uint32_t i = 0; i < n; i++)
        from[i] = i;
    for (uint32_t width = 1; sort && width < n; width *= 2) {
        for (uint32_t at = 0; at < n; at += 2 * width) {
            const uint32_t mid = at + width < n ? at + width : n;
            const uint32_t end = mid + width < n ? mid + width : n;
            uint32_t a = at, b = mid;
            for (uint32_t k = at; k < end; k++) {
                const bool left =
                    a < mid && (b >= end || gin_compare(&dict->u.items[2 * from[a]],
                                                        &dict->u.items[2 * from[b]]) <= 0);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        uint32_t *t = from;
        from = to;
        to = t;
    }
    if (from != order)
        memcpy(order, from, n * sizeof *order);
    *out = order;
    return true;
}

static void dict_repr(buf *out, const gin_value *v, const struct gin_printer *p)
{
    uint32_t *order = NULL;
    if (!pair_order(v, p && p->sort_dicts, &order)) {
        out->st = SPT_E_NOMEM;
        return;
    }
    buf_addc(out, '{');
    for (uint32_t i = 0; i < v->count; i++) {
        if (i)
            buf_adds(out, ", ");
        gin_repr_with(out, &v->u.items[2 * order[i]], p);
        buf_adds(out, ": ");
        gin_repr_with(out, &v->u.items[2 * order[i] + 1], p);
    }
    buf_addc(out, '}');
    mem_free(order);
}

static void sequence_repr(buf *out, const gin_value *v, const struct gin_printer *p)
{
    const bool list = v->kind == GIN_LIST;
    buf_addc(out, list ? '[' : '(');
    for (uint32_t i = 0; i < v->count; i++) {
        if (i)
            buf_adds(out, ", ");
        gin_repr_with(out, &v->u.items[i], p);
    }
    if (!list && v->count == 1)
        buf_addc(out, ',');
    buf_addc(out, list ? ']' : ')');
}

static void object_repr(buf *out, const gin_object *o, const struct gin_printer *p)
{
    buf_adds(out, o->reg->entry->path);
    buf_addc(out, '(');
    for (uint32_t i = 0; i < o->args; i++) {
        buf_addf(out, "%s%s=", i ? ", " : "", o->arg[i].name);
        gin_repr_with(out, &o->arg[i].value, p);
    }
    buf_addc(out, ')');
}

void gin_repr_with(buf *out, const gin_value *v, const struct gin_printer *p)
{
    switch (v->kind) {
    case GIN_NONE:
        buf_adds(out, "None");
        break;
    case GIN_BOOL:
        buf_adds(out, v->u.b ? "True" : "False");
        break;
    case GIN_INT:
        buf_addf(out, "%lld", (long long)v->u.i);
        break;
    case GIN_FLOAT:
        float_repr(out, v->u.f);
        break;
    case GIN_IMAG:
        if (signbit(v->u.f))
            buf_adds(out, "(-0");
        if (v->u.f == floor(v->u.f) && fabs(v->u.f) < 1e16)
            buf_addf(out, "%.0fj", v->u.f);
        else {
            float_repr(out, v->u.f);
            buf_addc(out, 'j');
        }
        if (signbit(v->u.f))
            buf_addc(out, ')');
        break;
    case GIN_STR:
        string_repr(out, v->u.s, v->count, false);
        break;
    case GIN_BYTES:
        string_repr(out, v->u.s, v->count, true);
        break;
    case GIN_LIST:
    case GIN_TUPLE:
        sequence_repr(out, v, p);
        break;
    case GIN_DICT:
        dict_repr(out, v, p);
        break;
    case GIN_REF:
        ref_repr(out, v->u.ref, p);
        break;
    case GIN_CALLABLE:
        buf_addf(out, "@%s%s%s", v->u.ref->scope, *v->u.ref->scope ? "/" : "",
                 v->u.ref->reg ? v->u.ref->reg->entry->path : v->u.ref->selector);
        break;
    case GIN_OBJECT:
        object_repr(out, v->u.object, p);
        break;
    case GIN_REQUIRED:
        buf_adds(out, "%gin.REQUIRED");
        break;
    case GIN_OPAQUE:
        buf_add(out, v->u.s, v->count);
        break;
    default:
        break;
    }
}

void gin_repr(buf *out, const gin_value *v)
{
    gin_repr_with(out, v, NULL);
}

void gin_quote(buf *out, const char *text, size_t size)
{
    string_repr(out, text, size, false);
}

bool gin_representable(const gin_value *v)
{
    switch (v->kind) {
    case GIN_FLOAT:
        return isfinite(v->u.f);
    case GIN_IMAG:
        return isfinite(v->u.f) && !signbit(v->u.f);
    case GIN_REF:
        return v->u.ref->reg != NULL;
    case GIN_OBJECT:
    case GIN_CALLABLE:
    case GIN_REQUIRED:
    case GIN_OPAQUE:
        return false;
    case GIN_LIST:
    case GIN_TUPLE:
    case GIN_DICT:
        for (size_t i = 0; i < item_count(v); i++)
            if (!gin_representable(&v->u.items[i]))
                return false;
        return true;
    default:
        return true;
    }
}

/* --- pprint ------------------------------------------------------------------------------ */

struct pretty {
    buf *out;
    const struct gin_printer *p;
    buf scratch;
};

static void format(struct pretty *y, const gin_value *v, long indent, long allowance, int level);

static void break_line(struct pretty *y, long indent, const char *comma)
{
    buf_addf(y->out, "%s\n%*s", comma, (int)indent, "");
}

static long repr_width(struct pretty *y, const char *s, size_t len, bool bytes)
{
    buf_clear(&y->scratch);
    string_repr(&y->scratch, s, len, bytes);
    return (long)gin_text_width(buf_str(&y->scratch), y->scratch.len);
}

/* Line ends of str.splitlines(); *len is the length of the line with its end. */
static bool take_line(const char **s, const char *end, size_t *len)
{
    const char *start = *s, *p = start;
    if (p >= end)
        return false;
    while (p < end) {
        const uint32_t c = gin_utf8_next(&p, end);
        if (c == '\r' && p < end && *p == '\n')
            p++;
        if (c == '\n' || c == '\r' || c == '\v' || c == '\f' || (c >= 0x1c && c <= 0x1e) ||
            c == 0x85 || c == 0x2028 || c == 0x2029)
            break;
    }
    *len = (size_t)(p - start);
    *s = p;
    return true;
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* \S*\s* */
static size_t take_part(const char *s, const char *end)
{
    const char *p = s, *next = s;
    while (p < end && !is_space(gin_utf8_next(&next, end)))
        p = next;
    next = p;
    while (p < end && is_space(gin_utf8_next(&next, end)))
        p = next;
    return (size_t)(p - s);
}

struct chunks {
    struct {
        const char *s;
        size_t len;
    } * item;
    size_t count, cap;
    spt_status st;
};

static void add_chunk(struct chunks *k, const char *s, size_t len)
{
    if (!k->st)
        k->st = mem_grow(&k->item, &k->cap, k->count + 1, sizeof *k->item, 1 << 26, NULL);
    if (!k->st) {
        k->item[k->count].s = s;
        k->item[k->count++].len = len;
    }
}

/* Packs the parts of one line into chunks whose repr fits. */
static void pack_line(struct pretty *y, struct chunks *k, const char *line, size_t len, long width,
                      long allowance, bool last_line)
{
    const char *end = line + len, *current = line;
    size_t current_len = 0;
    for (const char *s = line; s < end;) {
        const size_t n = take_part(s, end);
        if (s + n == end && last_line)
            width -= allowance;
        /* A repr is at least as long as its text, so only short candidates are measured. */
        const bool fits = (long)gin_text_width(current, current_len + n) <= width &&
                          repr_width(y, current, current_len + n, false) <= width;
        if (fits) {
            current_len += n;
        } else {
            if (current_len)
                add_chunk(k, current, current_len);
            current = s;
            current_len = n;
        }
        s += n;
    }
    if (current_len)
        add_chunk(k, current, current_len);
}

static void format_string(struct pretty *y, const gin_value *v, long indent, long allowance,
                          int level)
{
    struct chunks k = {0};
    const char *s = v->u.s, *end = s + v->count;
    size_t len;
    if (level == 1) {
        indent++;
        allowance++;
    }
    const long width = WIDTH - indent;
    for (const char *line = s; take_line(&s, end, &len); line = s) {
        const bool last = s == end;
        if (repr_width(y, line, len, false) <= width - (last ? allowance : 0))
            add_chunk(&k, line, len);
        else
            pack_line(y, &k, line, len, width, allowance, last);
    }
    const bool parens = level == 1 && k.count != 1;
    if (parens)
        buf_addc(y->out, '(');
    for (size_t i = 0; i < k.count; i++) {
        if (i)
            break_line(y, indent, "");
        string_repr(y->out, k.item[i].s, k.item[i].len, false);
    }
    if (parens)
        buf_addc(y->out, ')');
    if (k.st)
        y->out->st = k.st;
    mem_free(k.item);
}

static void format_bytes(struct pretty *y, const gin_value *v, long indent, long allowance,
                         int level)
{
    if (v->count <= 4) {
        string_repr(y->out, v->u.s, v->count, true);
        return;
    }
    const bool parens = level == 1;
    if (parens) {
        indent++;
        allowance++;
        buf_addc(y->out, '(');
    }
    long width = WIDTH - indent;
    const size_t last = v->count / 4 * 4;
    size_t start = 0, len = 0;
    bool first = true;
    for (size_t i = 0; i < v->count; i += 4) {
        const size_t n = v->count - i < 4 ? v->count - i : 4;
        if (i == last)
            width -= allowance;
        if (len && repr_width(y, v->u.s + start, len + n, true) > width) {
            if (!first)
                break_line(y, indent, "");
            string_repr(y->out, v->u.s + start, len, true);
            first = false;
            start = i;
            len = 0;
        }
        len += n;
    }
    if (!first)
        break_line(y, indent, "");
    string_repr(y->out, v->u.s + start, len, true);
    if (parens)
        buf_addc(y->out, ')');
}

static void format_sequence(struct pretty *y, const gin_value *v, long indent, long allowance,
                            int level)
{
    const char *close = v->kind == GIN_LIST ? "]" : v->count == 1 ? ",)" : ")";
    buf_addc(y->out, v->kind == GIN_LIST ? '[' : '(');
    for (uint32_t i = 0; i < v->count; i++) {
        if (i)
            break_line(y, indent + 1, ",");
        const bool last = i + 1 == v->count;
        format(y, &v->u.items[i], indent + 1, last ? allowance + (long)strlen(close) : 1, level);
    }
    buf_adds(y->out, close);
}

static void format_dict(struct pretty *y, const gin_value *v, long indent, long allowance,
                        int level)
{
    uint32_t *order = NULL;
    if (!pair_order(v, true, &order)) {
        y->out->st = SPT_E_NOMEM;
        return;
    }
    buf_addc(y->out, '{');
    for (uint32_t i = 0; i < v->count; i++) {
        const gin_value *key = &v->u.items[2 * order[i]];
        if (i)
            break_line(y, indent + 1, ",");
        const size_t before = y->out->len;
        gin_repr_with(y->out, key, y->p);
        if (y->out->st)
            break;
        const long width = (long)gin_text_width(y->out->data + before, y->out->len - before);
        buf_adds(y->out, ": ");
        const bool last = i + 1 == v->count;
        format(y, key + 1, indent + 1 + width + 2, last ? allowance + 1 : 1, level);
    }
    buf_addc(y->out, '}');
    mem_free(order);
}

static void format(struct pretty *y, const gin_value *v, long indent, long allowance, int level)
{
    const bool nests = v->kind == GIN_LIST || v->kind == GIN_TUPLE || v->kind == GIN_DICT;
    if (y->out->st)
        return;
    buf_clear(&y->scratch);
    gin_repr_with(&y->scratch, v, y->p);
    if (y->scratch.st == SPT_E_NOMEM) {
        y->out->st = SPT_E_NOMEM;
        return;
    }
    const long width = (long)gin_text_width(buf_str(&y->scratch), y->scratch.len);
    const bool fits = width <= WIDTH - indent - allowance;
    if (fits || (nests && !v->count) || (v->kind == GIN_STR && !v->count))
        buf_add(y->out, buf_str(&y->scratch), y->scratch.len);
    else if (v->kind == GIN_STR)
        format_string(y, v, indent, allowance, level + 1);
    else if (v->kind == GIN_BYTES)
        format_bytes(y, v, indent, allowance, level + 1);
    else if (v->kind == GIN_DICT)
        format_dict(y, v, indent, allowance, level + 1);
    else if (nests)
        format_sequence(y, v, indent, allowance, level + 1);
    else
        buf_add(y->out, buf_str(&y->scratch), y->scratch.len);
}

spt_status gin_pretty(buf *out, const gin_value *v, const struct gin_printer *p)
{
    struct pretty y = {.out = out, .p = p};
    buf_init(&y.scratch, (size_t)256 << 20);
    format(&y, v, 0, 0, 0);
    buf_release(&y.scratch);
    return out->st;
}
