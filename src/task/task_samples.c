/* Examples written out for people, as the reference's text metrics do (spec/data.md 5.7). */
#include "task/task.h"

#include <string.h>

#include "base/mem.h"

enum { MAX_TEXT = 64 << 20 };

static bool blank_line(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r' && s[i] != '\v' && s[i] != '\f')
            return false;
    return true;
}

static size_t line_len(const char *s, const char *end)
{
    const char *nl = memchr(s, '\n', (size_t)(end - s));
    return (size_t)((nl ? nl : end) - s);
}

/* textwrap.dedent: blank lines become empty, then the longest common leading white space goes. */
static void dedent(const char *s, size_t len, buf *out)
{
    const char *end = s + len, *margin = NULL;
    size_t common = 0;
    for (const char *p = s; p <= end; p += line_len(p, end) + 1) {
        const size_t n = line_len(p, end);
        size_t lead = 0;
        if (blank_line(p, n))
            continue;
        while (lead < n && (p[lead] == ' ' || p[lead] == '\t'))
            lead++;
        if (!margin) {
            margin = p;
            common = lead;
        }
        size_t same = 0;
        while (same < common && same < lead && p[same] == margin[same])
            same++;
        common = same;
    }
    for (const char *p = s; p <= end; p += line_len(p, end) + 1) {
        const size_t n = line_len(p, end);
        if (p != s)
            buf_addc(out, '\n');
        if (!blank_line(p, n))
            buf_add(out, p + common, n - common);
    }
}

spt_status text_samples(const struct text_example *e, size_t n, buf *out, spt_err *err)
{
    static const char indent[] = "         ";
    for (size_t i = 0; i < n; i++) {
        buf block;
        buf_init(&block, MAX_TEXT);
        const struct field_text *part[] = {&e[i].input, &e[i].target, &e[i].prediction};
        static const char *const label[] = {"example: ", "target: ", "prediction: "};
        for (size_t k = 0; k < 3; k++) {
            buf_adds(&block, indent);
            buf_adds(&block, label[k]);
            buf_add(&block, part[k]->s, part[k]->len);
            buf_adds(&block, "\n\n");
        }
        buf_adds(&block, indent);
        if (i)
            buf_adds(out, "\n\n");
        dedent(buf_str(&block), block.len, out);
        const spt_status st = buf_status(&block, "sample", err);
        buf_release(&block);
        TRY(st);
    }
    return buf_status(out, "samples", err);
}

static int compare(const struct field_text *a, const struct field_text *b)
{
    const size_t n = a->len < b->len ? a->len : b->len;
    const int d = n ? memcmp(a->s, b->s, n) : 0;
    return d ? d : (a->len > b->len) - (a->len < b->len);
}

spt_status text_qa_sample(const struct field_text *context, const struct field_text *question,
                          const struct field_text *answers, size_t n,
                          const struct field_text *prediction, buf *out, spt_err *err)
{
    buf_adds(out, "context: ");
    buf_add(out, context->s, context->len);
    buf_adds(out, "\nquestion: ");
    buf_add(out, question->s, question->len);
    buf_adds(out, "\nanswers: ");
    /* Distinct, sorted: each turn writes the smallest one above the last. */
    const struct field_text *last = NULL;
    for (;;) {
        const struct field_text *best = NULL;
        for (size_t i = 0; i < n; i++)
            if ((!last || compare(&answers[i], last) > 0) &&
                (!best || compare(&answers[i], best) < 0))
                best = &answers[i];
        if (!best)
            break;
        if (last)
            buf_adds(out, "; ");
        buf_add(out, best->s, best->len);
        last = best;
    }
    buf_adds(out, "\nprediction: ");
    buf_add(out, prediction->s, prediction->len);
    return buf_status(out, "sample", err);
}
