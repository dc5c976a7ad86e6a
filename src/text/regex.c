#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

/* Steps of the matcher and depth of its heap before it gives up: enough for every sensible
 * pattern over 64 MiB, little enough that a hostile one ends within seconds. */
#define DEPTH_LIMIT 100000u
#define HEAP_LIMIT_KIB (64u << 10)

struct regex {
    pcre2_general_context *general;
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    uint32_t groups;
};

static void *take(PCRE2_SIZE n, void *ctx)
{
    return mem_alloc(n, 1);
}

static void give(void *p, void *ctx)
{
    mem_free(p);
}

/* Python spells the end of the subject \Z; PCRE2's \Z also matches in front of a last line end. */
static char *translate(const char *pattern, size_t len)
{
    char *out = mem_strndup(pattern, len);
    for (size_t i = 0; out && i + 1 < len; i++) {
        if (out[i] != '\\')
            continue;
        i++;
        if (out[i] == 'Z')
            out[i] = 'z';
    }
    return out;
}

static spt_status compile(regex *re, const char *pattern, size_t len, unsigned flags, spt_err *err)
{
    re->general = pcre2_general_context_create(take, give, NULL);
    pcre2_compile_context *cc = re->general ? pcre2_compile_context_create(re->general) : NULL;
    if (!cc)
        return err_nomem(err, 256);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    options |= flags & REGEX_ICASE ? PCRE2_CASELESS : 0;
    options |= flags & REGEX_MULTILINE ? PCRE2_MULTILINE : 0;
    options |= flags & REGEX_DOTALL ? PCRE2_DOTALL : 0;
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE at = 0;
    re->code = pcre2_compile((PCRE2_SPTR)pattern, len, options, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!re->code) {
        if (code == PCRE2_ERROR_HEAP_FAILED)
            return err_nomem(err, len);
        char why[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return err_at(err, SPT_E_CONFIG, at, "regular expression \"%.*s\": character %zu: %s",
                      (int)(len < 120 ? len : 120), pattern, (size_t)at + 1, why);
    }
    pcre2_pattern_info(re->code, PCRE2_INFO_CAPTURECOUNT, &re->groups);
    re->match = pcre2_match_data_create_from_pattern(re->code, re->general);
    re->limits = pcre2_match_context_create(re->general);
    if (!re->match || !re->limits)
        return err_nomem(err, 256);
    pcre2_set_match_limit(re->limits, PATTERN_MAX_STEPS);
    pcre2_set_depth_limit(re->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(re->limits, HEAP_LIMIT_KIB);
    return SPT_OK;
}

spt_status regex_compile(const char *pattern, size_t len, unsigned flags, regex **out, spt_err *err)
{
    if (len > PATTERN_MAX)
        return err_set(err, SPT_E_CONFIG, "regular expression of %zu bytes; the limit is %zu", len,
                       PATTERN_MAX);
    regex *re = mem_zalloc(1, sizeof *re);
    char *text = translate(pattern, len);
    spt_status st = re && text ? compile(re, text, len, flags, err) : err_nomem(err, len);
    mem_free(text);
    if (st) {
        regex_free(re);
        return st;
    }
    *out = re;
    return SPT_OK;
}

void regex_free(regex *re)
{
    if (!re)
        return;
    pcre2_match_context_free(re->limits);
    pcre2_match_data_free(re->match);
    pcre2_code_free(re->code);
    pcre2_general_context_free(re->general);
    mem_free(re);
}

size_t regex_groups(const regex *re)
{
    return re->groups;
}

static spt_status run(regex *re, const char *s, size_t len, size_t start, uint32_t options,
                      bool *matched, struct regex_span *groups, size_t max_groups, spt_err *err)
{
    const int rc =
        pcre2_match(re->code, (PCRE2_SPTR)(s ? s : ""), len, start, options, re->match, re->limits);
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) {
        if (rc == PCRE2_ERROR_NOMEMORY)
            return err_nomem(err, len);
    }
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        char why[160] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return err_set(err, SPT_E_FORMAT, "regular expression against a text of %zu bytes: %s", len,
                       why);
    }
    *matched = rc > 0;
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(re->match);
    for (size_t g = 0; g < max_groups && rc > 0; g++) {
        const bool set = g < (size_t)rc && v[2 * g] != PCRE2_UNSET;
        groups[g] = set ? (struct regex_span){v[2 * g], v[2 * g + 1]}
                        : (struct regex_span){SIZE_MAX, SIZE_MAX};
    }
    return SPT_OK;
}

spt_status regex_full(regex *re, const char *s, size_t len, bool *matched,
                      struct regex_span *groups, size_t max_groups, spt_err *err)
{
    return run(re, s, len, 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED, matched, groups, max_groups, err);
}

spt_status regex_match(regex *re, const char *s, size_t len, bool *matched,
                       struct regex_span *groups, size_t max_groups, spt_err *err)
{
    return run(re, s, len, 0, PCRE2_ANCHORED, matched, groups, max_groups, err);
}

spt_status regex_search(regex *re, const char *s, size_t len, size_t start, bool *matched,
                        struct regex_span *groups, size_t max_groups, spt_err *err)
{
    if (start > len) {
        *matched = false;
        return SPT_OK;
    }
    return run(re, s, len, start, 0, matched, groups, max_groups, err);
}

#define MAX_GROUPS 100

/* The replacement with its group references filled in. */
static spt_status expand(const regex *re, const char *s, const struct regex_span *g,
                         const char *with, buf *out, spt_err *err)
{
    for (const char *p = with; *p; p++) {
        if (*p != '\\') {
            buf_addc(out, *p);
            continue;
        }
        p++;
        size_t n = 0;
        if (*p >= '0' && *p <= '9') {
            n = (size_t)(*p - '0');
        } else if (*p == 'g' && p[1] == '<' && p[2] >= '0' && p[2] <= '9') {
            for (p += 2; *p >= '0' && *p <= '9' && n < MAX_GROUPS; p++)
                n = n * 10 + (size_t)(*p - '0');
            if (*p != '>')
                return err_set(err, SPT_E_CONFIG, "replacement \"%s\": \\g<N> expected", with);
        } else if (*p == '\\' || *p == 'n' || *p == 't') {
            buf_addc(out, *p == 'n' ? '\n' : *p == 't' ? '\t' : '\\');
            continue;
        } else {
            return err_set(err, SPT_E_CONFIG, "replacement \"%s\": unknown escape", with);
        }
        if (n > re->groups || n >= MAX_GROUPS)
            return err_set(err, SPT_E_CONFIG, "replacement \"%s\": there is no group %zu", with, n);
        if (g[n].start != SIZE_MAX)
            buf_add(out, s + g[n].start, g[n].end - g[n].start);
    }
    return SPT_OK;
}

static size_t char_len(unsigned char c)
{
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* As Python's re.sub since 3.7: an empty match is replaced, also right behind another match. */
spt_status regex_replace(regex *re, const char *s, size_t len, const char *with, buf *out,
                         spt_err *err)
{
    struct regex_span g[MAX_GROUPS];
    size_t at = 0, copied = 0;
    uint32_t options = 0;
    while (at <= len) {
        bool matched;
        TRY(run(re, s, len, at, options, &matched, g, MAX_GROUPS, err));
        if (!matched) {
            if (!options)
                break;
            /* Nothing but an empty match stood here: go one character on. */
            options = 0;
            if (at >= len)
                break;
            at += char_len((unsigned char)s[at]);
            continue;
        }
        buf_add(out, s + copied, g[0].start - copied);
        TRY(expand(re, s, g, with, out, err));
        at = copied = g[0].end;
        options = g[0].start == g[0].end ? PCRE2_NOTEMPTY_ATSTART | PCRE2_ANCHORED : 0;
    }
    if (copied < len)
        buf_add(out, s + copied, len - copied);
    return SPT_OK;
}

char *regex_library_version(char *text)
{
    char all[64] = "";
    pcre2_config(PCRE2_CONFIG_VERSION, all); /* "10.42 2022-12-11" */
    snprintf(text, 32, "%.*s", (int)strcspn(all, " "), all);
    return text;
}
