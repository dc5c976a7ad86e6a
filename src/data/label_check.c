/* What can be wrong with a label set before any work is done. Labels are sorted by their ids, so
 * that equal ones and prefixes stand side by side. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "data/labels.h"

/* Findings of one kind that are spelled out; the rest is counted. */
#define SHOWN 8

struct seq {
    const int32_t *id;
    size_t len; /* EOS included */
    size_t label;
};

struct check {
    const label_set *s;
    const struct data_encoder *enc;
    int64_t max_target;
    struct label_report *r;
    struct id_list all, cut; /* ids of all labels, before and after cutting */
    size_t *off;             /* [labels + 1] of `all` */
    struct seq *order;
    spt_err *err;
};

static spt_status add_finding(struct check *c, bool error, const char *fmt, ...) PRINTF_LIKE(3, 4);
static spt_status add_finding(struct check *c, bool error, const char *fmt, ...)
{
    struct label_report *r = c->r;
    TRY(mem_grow(&r->finding, &r->cap, r->count + 1, sizeof *r->finding, 1000, c->err));
    struct label_finding *f = &r->finding[r->count++];
    f->error = error;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    if (error)
        r->errors++;
    else
        r->warnings++;
    return SPT_OK;
}

/* "\"not billed\" [59 20891 1]" */
static void name_label(const struct check *c, size_t label, const int32_t *id, size_t n, char *out,
                       size_t size)
{
    int at = snprintf(out, size, "\"%.60s\" [", label_set_text(c->s, label));
    for (size_t i = 0; i < n && at >= 0 && (size_t)at < size; i++) {
        if (i == 8) {
            at += snprintf(out + at, size - (size_t)at, " ...");
            break;
        }
        at += snprintf(out + at, size - (size_t)at, i ? " %d" : "%d", (int)id[i]);
    }
    if (at >= 0 && (size_t)at < size)
        snprintf(out + at, size - (size_t)at, "]");
}

static int compare_seq(const struct seq *a, const struct seq *b)
{
    /* The EOS at the end of both is left out, so that a prefix comes first. */
    const size_t na = a->len - 1, nb = b->len - 1;
    for (size_t i = 0; i < na && i < nb; i++)
        if (a->id[i] != b->id[i])
            return a->id[i] < b->id[i] ? -1 : 1;
    if (na != nb)
        return na < nb ? -1 : 1;
    return (a->label > b->label) - (a->label < b->label);
}

static void sift_seq(struct seq *s, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare_seq(&s[child], &s[child + 1]) < 0)
            child++;
        if (compare_seq(&s[i], &s[child]) >= 0)
            return;
        const struct seq t = s[i];
        s[i] = s[child];
        s[child] = t;
    }
}

static void sort_seqs(struct seq *s, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_seq(s, i, n);
    for (size_t end = n; end-- > 1;) {
        const struct seq t = s[0];
        s[0] = s[end];
        s[end] = t;
        sift_seq(s, 0, end);
    }
}

static void order_by_ids(struct check *c, const int32_t *ids, const size_t *off)
{
    const size_t n = label_set_count(c->s);
    for (size_t i = 0; i < n; i++)
        c->order[i] = (struct seq){ids + off[i], off[i + 1] - off[i], i};
    sort_seqs(c->order, n);
}

static bool equal_seqs(const struct seq *a, const struct seq *b)
{
    return a->len == b->len && memcmp(a->id, b->id, a->len * sizeof *a->id) == 0;
}

static bool is_prefix(const struct seq *a, const struct seq *b)
{
    return a->len < b->len && memcmp(a->id, b->id, (a->len - 1) * sizeof *a->id) == 0;
}

static spt_status encode_labels(struct check *c)
{
    const size_t n = label_set_count(c->s);
    struct id_list one = {0};
    spt_status st = SPT_OK;
    size_t cut_labels = 0;
    for (size_t i = 0; i < n && !st; i++) {
        one.len = 0;
        st = c->enc->encode(c->enc->ctx, label_set_text(c->s, i), label_set_len(c->s, i), &one,
                            c->err);
        if (!st && (st = encoder_check_ids(c->enc, one.id, one.len, c->err)))
            st = err_wrap(c->err, st, "label \"%.60s\"", label_set_text(c->s, i));
        if (st)
            break;
        const size_t ids =
            one.len - (one.len && one.id[one.len - 1] == c->enc->eos_id && c->enc->no_second_eos);
        c->off[i] = c->all.len;
        c->r->off[i] = c->cut.len;
        st = id_list_add(&c->all, one.id, ids, c->err);
        st = st ? st : id_list_add(&c->all, &c->enc->eos_id, 1, c->err);
        const bool cut = c->max_target > 0 && (int64_t)ids > c->max_target - 1;
        const size_t kept = cut ? (size_t)(c->max_target - 1) : ids;
        st = st ? st : id_list_add(&c->cut, one.id, kept, c->err);
        st = st ? st : id_list_add(&c->cut, &c->enc->eos_id, 1, c->err);
        char name[200];
        name_label(c, i, one.id, ids, name, sizeof name);
        if (!st && !ids)
            st = add_finding(c, true,
                             "label \"%.100s\" has no ids in this vocabulary: it cannot "
                             "be told from an empty answer",
                             label_set_text(c->s, i));
        if (!st && cut && cut_labels++ < SHOWN)
            st = add_finding(c, false,
                             "label %s has %zu ids with EOS; the target length %lld cuts it to %zu",
                             name, ids + 1, (long long)c->max_target, kept + 1);
    }
    c->off[n] = c->all.len;
    c->r->off[n] = c->cut.len;
    if (!st && cut_labels > SHOWN)
        st = add_finding(c, false, "%zu of %zu labels are cut by the target length %lld",
                         cut_labels, n, (long long)c->max_target);
    id_list_release(&one);
    return st;
}

/* Every label that label i (in order of ids) begins; they stand behind it. */
static spt_status find_longer(struct check *c, size_t i, size_t *shown)
{
    const size_t n = label_set_count(c->s);
    const struct seq *a = &c->order[i];
    for (size_t j = i + 1; j < n && is_prefix(a, &c->order[j]) && *shown < SHOWN; j++) {
        const struct seq *b = &c->order[j];
        char x[160], y[160];
        name_label(c, a->label, a->id, a->len - 1, x, sizeof x);
        name_label(c, b->label, b->id, b->len - 1, y, sizeof y);
        ++*shown;
        TRY(add_finding(c, false,
                        "the ids of label %s begin those of label %s: only the end "
                        "token tells them apart",
                        x, y));
    }
    return SPT_OK;
}

static spt_status compare_all(struct check *c)
{
    const size_t n = label_set_count(c->s);
    size_t equal = 0, prefix = 0, shown = 0;
    order_by_ids(c, c->all.id, c->off);
    for (size_t i = 0; i + 1 < n; i++) {
        const struct seq *a = &c->order[i], *b = a + 1;
        if (equal_seqs(a, b) && equal++ < SHOWN) {
            char x[160], y[160];
            name_label(c, a->label, a->id, a->len - 1, x, sizeof x);
            name_label(c, b->label, b->id, b->len - 1, y, sizeof y);
            TRY(add_finding(c, true,
                            "labels %s and %s are the same ids: no answer can tell them "
                            "apart; rename one",
                            x, y));
        }
        TRY(find_longer(c, i, &shown));
        prefix += is_prefix(a, b);
    }
    if (equal > SHOWN)
        TRY(add_finding(c, true, "%zu pairs of labels are the same ids", equal));
    if (prefix && shown == SHOWN)
        TRY(add_finding(c, false, "%zu labels begin other labels", prefix));
    return SPT_OK;
}

/* Labels that only the cut makes equal. */
static spt_status compare_cut(struct check *c)
{
    const size_t n = label_set_count(c->s);
    size_t merged = 0;
    order_by_ids(c, c->cut.id, c->r->off);
    for (size_t i = 0; i + 1 < n; i++) {
        const struct seq *a = &c->order[i], *b = a + 1;
        const size_t la = c->off[a->label + 1] - c->off[a->label];
        const size_t lb = c->off[b->label + 1] - c->off[b->label];
        if (!equal_seqs(a, b) ||
            (la == lb && memcmp(c->all.id + c->off[a->label], c->all.id + c->off[b->label],
                                la * sizeof(int32_t)) == 0))
            continue;
        char x[160], y[160];
        name_label(c, a->label, c->all.id + c->off[a->label], la - 1, x, sizeof x);
        name_label(c, b->label, c->all.id + c->off[b->label], lb - 1, y, sizeof y);
        if (merged++ < SHOWN)
            TRY(add_finding(c, true,
                            "the target length %lld cuts labels %s and %s to the same "
                            "ids; it must be at least %zu",
                            (long long)c->max_target, x, y, la > lb ? la : lb));
    }
    if (merged > SHOWN)
        TRY(add_finding(c, true, "%zu pairs of labels are the same when cut", merged));
    return SPT_OK;
}

static bool has_unknown(const struct check *c, size_t i)
{
    for (size_t k = c->off[i]; k + 1 < c->off[i + 1]; k++)
        if (c->enc->unk_id >= 0 && c->all.id[k] == c->enc->unk_id)
            return true;
    return false;
}

static spt_status check_writing(struct check *c)
{
    const size_t n = label_set_count(c->s);
    buf chars, text, named;
    buf_init(&chars, 1 << 20);
    buf_init(&text, 1 << 20);
    buf_init(&named, 1 << 20);
    spt_status st = SPT_OK;
    size_t changed = 0;
    for (size_t i = 0; i < n && !st; i++) {
        const char *label = label_set_text(c->s, i);
        const size_t len = label_set_len(c->s, i);
        if (has_unknown(c, i)) {
            if (c->r->unwritable++ < SHOWN)
                buf_addf(&named, "%s\"%.40s\"", named.len ? ", " : "", label);
            buf_clear(&text);
            if (c->enc->unwritable)
                st = c->enc->unwritable(c->enc->ctx, label, len, &text, c->err);
            if (!st && text.len && !strstr(buf_str(&chars), buf_str(&text)))
                buf_addf(&chars, "%s%s", chars.len ? " " : "", buf_str(&text));
            continue;
        }
        if (!c->enc->decode)
            continue;
        buf_clear(&text);
        st = c->enc->decode(c->enc->ctx, c->all.id + c->off[i], c->off[i + 1] - c->off[i] - 1,
                            &text, c->err);
        if (!st && (text.len != len || memcmp(buf_str(&text), label, len) != 0) &&
            changed++ < SHOWN)
            st = add_finding(c, false,
                             "label \"%.100s\" comes back from the vocabulary as "
                             "\"%.100s\": generated answers never equal it",
                             label, buf_str(&text));
    }
    st = st ? st : buf_status(&chars, "characters", c->err);
    if (!st && changed > SHOWN)
        st = add_finding(c, false, "%zu of %zu labels come back changed from the vocabulary",
                         changed, n);
    if (!st && c->r->unwritable)
        st = add_finding(c, false,
                         "%zu of %zu labels contain characters this vocabulary cannot write: "
                         "%.200s%s(labels %.120s): generated answers never equal them",
                         c->r->unwritable, n, buf_str(&chars), chars.len ? " " : "",
                         buf_str(&named));
    buf_release(&chars);
    buf_release(&text);
    buf_release(&named);
    return st;
}

/* Labels that differ in case only are rarely two classes. */
static spt_status compare_case(struct check *c)
{
    const size_t n = label_set_count(c->s);
    label_set *seen = NULL;
    buf small;
    size_t alike = 0;
    buf_init(&small, 1 << 20);
    size_t *first = mem_zalloc(n + 1, sizeof *first); /* the label that a text in `seen` is of */
    spt_status st = first ? label_set_new(&seen, c->err) : err_nomem(c->err, n * sizeof *first);
    for (size_t i = 0; i < n && !st; i++) {
        buf_clear(&small);
        for (const char *p = label_set_text(c->s, i); *p; p++)
            buf_addc(&small, *p >= 'A' && *p <= 'Z' ? (char)(*p | 0x20) : *p);
        st = buf_status(&small, "label", c->err);
        const int64_t at = st ? -1 : label_set_find(seen, buf_str(&small), small.len);
        if (!st && at < 0) {
            first[label_set_count(seen)] = i;
            st = label_set_add(seen, buf_str(&small), small.len, NULL, c->err);
        } else if (!st && alike++ < SHOWN) {
            char x[160], y[160];
            const size_t j = first[at];
            name_label(c, j, c->all.id + c->off[j], c->off[j + 1] - c->off[j] - 1, x, sizeof x);
            name_label(c, i, c->all.id + c->off[i], c->off[i + 1] - c->off[i] - 1, y, sizeof y);
            st = add_finding(c, false, "labels %s and %s differ only in capitals: are they one?", x,
                             y);
        }
    }
    if (!st && alike > SHOWN)
        st = add_finding(c, false, "%zu labels differ from others only in capitals", alike);
    buf_release(&small);
    mem_free(first);
    label_set_free(seen);
    return st;
}

static spt_status run_check(struct check *c)
{
    const size_t n = label_set_count(c->s);
    c->r->labels = n;
    c->off = mem_zalloc(n + 1, sizeof *c->off);
    c->r->off = mem_zalloc(n + 1, sizeof *c->r->off);
    c->order = mem_zalloc(n + 1, sizeof *c->order);
    if (!c->off || !c->r->off || !c->order)
        return err_nomem(c->err, (n + 1) * sizeof *c->order);
    TRY(encode_labels(c));
    TRY(compare_all(c));
    TRY(compare_cut(c));
    TRY(compare_case(c));
    if (n == 1)
        TRY(add_finding(c, false, "\"%.100s\" is the only label: every answer is it",
                        label_set_text(c->s, 0)));
    return check_writing(c);
}

spt_status label_set_check(const label_set *s, const struct data_encoder *enc, int64_t max_target,
                           struct label_report *out, spt_err *err)
{
    struct label_report r = {0};
    struct check c = {.s = s, .enc = enc, .max_target = max_target, .r = &r, .err = err};
    const spt_status st = run_check(&c);
    mem_free(c.off);
    mem_free(c.order);
    id_list_release(&c.all);
    r.ids = c.cut.id;
    if (st) {
        label_report_release(&r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

void label_report_release(struct label_report *r)
{
    mem_free(r->finding);
    mem_free(r->ids);
    mem_free(r->off);
    *r = (struct label_report){0};
}

spt_status label_report_log(const struct label_report *r, const char *where, spt_err *err)
{
    const struct label_finding *first = NULL;
    for (size_t i = 0; i < r->count; i++) {
        const struct label_finding *f = &r->finding[i];
        if (f->error && !first)
            first = f;
        else
            log_warning("%s%s%s", where ? where : "", where ? ": " : "", f->text);
    }
    if (!first)
        return SPT_OK;
    return err_set(err, SPT_E_CONFIG, "%s%s%s", where ? where : "", where ? ": " : "", first->text);
}
