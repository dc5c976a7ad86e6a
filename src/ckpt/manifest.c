/* MANIFEST: the one file that makes a state exist. Text, one fact per line, in this order:
 *
 *     spt-state 1
 *     step 120
 *     score 0.93                                       (only with a score; shortest exact digits)
 *     file 307512 <hash> state.safetensors
 *     blocks 16384 <crc> <crc> ...                     (CRC-32C of each 16 KiB of that file)
 *     export 307400 <hash> prompt-120.safetensors      (any number)
 *     log 8123 train/events.out.tfevents...            (any number)
 *     end <hash>                                       (XXH3-128 of every byte before this line)
 *
 * A reader accepts exactly the bytes that the writer would make for the same facts, so that there
 * is one spelling per state and every flipped bit is seen. */
#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "codec/crc.h"
#include "text/number.h"

enum { MAX_EXPORTS = 1000, MAX_LOGS = 100000, MAX_NAME = 4096, END_LINE = 4 + 32 + 1 };

void manifest_release(struct manifest *m)
{
    for (size_t i = 0; i < m->export_count; i++)
        mem_free(m->exports[i].name);
    for (size_t i = 0; i < m->log_count; i++)
        mem_free(m->logs[i].name);
    mem_free(m->state.name);
    mem_free(m->exports);
    mem_free(m->logs);
    mem_free(m->crc);
    *m = (struct manifest){0};
}

bool manifest_name_ok(const char *name, size_t len, bool plain)
{
    if (len == 0 || len > MAX_NAME || name[0] == '/')
        return false;
    for (size_t i = 0, start = 0; i <= len; i++) {
        if (i < len && name[i] != '/') {
            if ((unsigned char)name[i] < ' ')
                return false;
            continue;
        }
        const size_t n = i - start;
        if (n == 0 || (n <= 2 && !memcmp(name + start, "..", n)) || (plain && i < len))
            return false;
        start = i + 1;
    }
    return true;
}

spt_status manifest_add_export(struct manifest *m, const char *name, size_t len, uint64_t size,
                               hash128 hash, spt_err *err)
{
    if (!manifest_name_ok(name, len, true))
        return err_set(err, SPT_E_FORMAT, "\"%.*s\" cannot be the name of an export",
                       (int)(len < 80 ? len : 80), name);
    TRY(mem_grow(&m->exports, &m->export_cap, m->export_count + 1, sizeof *m->exports, MAX_EXPORTS,
                 err));
    char *copy = mem_strndup(name, len);
    if (!copy)
        return err_nomem(err, len);
    m->exports[m->export_count++] = (struct manifest_file){copy, size, hash};
    return SPT_OK;
}

spt_status manifest_add_log(struct manifest *m, const char *name, size_t len, uint64_t size,
                            spt_err *err)
{
    if (!manifest_name_ok(name, len, false))
        return err_set(err, SPT_E_FORMAT, "\"%.*s\" cannot be the name of a log",
                       (int)(len < 80 ? len : 80), name);
    TRY(mem_grow(&m->logs, &m->log_cap, m->log_count + 1, sizeof *m->logs, MAX_LOGS, err));
    char *copy = mem_strndup(name, len);
    if (!copy)
        return err_nomem(err, len);
    m->logs[m->log_count++] = (struct manifest_log){copy, size};
    return SPT_OK;
}

static size_t block_size(size_t size, size_t block)
{
    const size_t at = block * CKPT_BLOCK;
    return size - at < CKPT_BLOCK ? size - at : CKPT_BLOCK;
}

spt_status manifest_describe_state(struct manifest *m, const void *bytes, size_t size, spt_err *err)
{
    const size_t blocks = size / CKPT_BLOCK + (size % CKPT_BLOCK != 0);
    if (!(m->state.name = mem_strdup(CKPT_STATE_FILE)))
        return err_nomem(err, sizeof CKPT_STATE_FILE);
    TRY(mem_grow(&m->crc, &m->crc_cap, blocks, sizeof *m->crc, CKPT_MAX_FILE / CKPT_BLOCK, err));
    for (size_t i = 0; i < blocks; i++)
        m->crc[i] = crc32c((const char *)bytes + i * CKPT_BLOCK, block_size(size, i));
    m->crc_count = blocks;
    m->state.size = size;
    m->state.hash = hash_bytes(bytes, size);
    return SPT_OK;
}

static void put_file(buf *out, const char *word, const struct manifest_file *f)
{
    char text[HASH_TEXT];
    buf_addf(out, "%s %llu %s %s\n", word, (unsigned long long)f->size, hash_text(f->hash, text),
             f->name);
}

void manifest_write(const struct manifest *m, buf *out)
{
    char text[HASH_TEXT];
    const size_t begin = out->len;
    buf_addf(out, "spt-state %d\nstep %lld\n", CKPT_FORMAT, (long long)m->step);
    if (m->has_score) {
        char score[NUMBER_TEXT];
        number_repr(m->score, score);
        buf_addf(out, "score %s", score);
        buf_addc(out, '\n');
    }
    put_file(out, "file", &m->state);
    buf_addf(out, "blocks %d", CKPT_BLOCK);
    for (size_t i = 0; i < m->crc_count; i++)
        buf_addf(out, " %08x", m->crc[i]);
    buf_addc(out, '\n');
    for (size_t i = 0; i < m->export_count; i++)
        put_file(out, "export", &m->exports[i]);
    for (size_t i = 0; i < m->log_count; i++)
        buf_addf(out, "log %llu %s\n", (unsigned long long)m->logs[i].size, m->logs[i].name);
    const hash128 h = out->data ? hash_bytes(out->data + begin, out->len - begin) : (hash128){0};
    buf_addf(out, "end %s\n", hash_text(h, text));
}

/* --- reading: words of one line --- */

struct line {
    const char *p, *end;
};

static bool take_word(struct line *l, const char **word, size_t *len)
{
    const char *space = l->p < l->end ? memchr(l->p, ' ', (size_t)(l->end - l->p)) : NULL;
    const char *stop = space ? space : l->end;
    if (stop == l->p)
        return false;
    *word = l->p;
    *len = (size_t)(stop - l->p);
    l->p = space ? space + 1 : l->end;
    return true;
}

static bool word_is(struct line *l, const char *want)
{
    const size_t n = strlen(want);
    if ((size_t)(l->end - l->p) <= n || memcmp(l->p, want, n) || l->p[n] != ' ')
        return false;
    l->p += n + 1;
    return true;
}

static bool take_number(struct line *l, uint64_t *out)
{
    const char *w;
    size_t n;
    uint64_t v = 0;
    if (!take_word(l, &w, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (w[i] < '0' || w[i] > '9' || v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(w[i] - '0');
    }
    *out = v;
    return true;
}

static bool take_hash(struct line *l, hash128 *out)
{
    const char *w;
    size_t n;
    return take_word(l, &w, &n) && hash_from_text(w, n, out);
}

static bool take_crc(struct line *l, uint32_t *out)
{
    const char *w;
    size_t n;
    uint32_t v = 0;
    if (!take_word(l, &w, &n) || n != 8)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char c = w[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = v;
    return true;
}

static spt_status parse_blocks(struct manifest *m, struct line *l, bool *ok, spt_err *err)
{
    uint64_t block;
    *ok = take_number(l, &block) && block == CKPT_BLOCK;
    while (*ok && l->p < l->end) {
        TRY(mem_grow(&m->crc, &m->crc_cap, m->crc_count + 1, sizeof *m->crc,
                     CKPT_MAX_FILE / CKPT_BLOCK, err));
        *ok = take_crc(l, &m->crc[m->crc_count]);
        m->crc_count += *ok;
    }
    return SPT_OK;
}

/* One line by its first word; *ok is false for anything that does not belong there. */
static spt_status parse_line(struct manifest *m, struct line l, bool *ok, spt_err *err)
{
    uint64_t n;
    hash128 h;
    *ok = false;
    if (word_is(&l, "step")) {
        *ok = take_number(&l, &n) && n <= INT64_MAX && l.p == l.end;
        m->step = *ok ? (int64_t)n : 0;
    } else if (word_is(&l, "score")) {
        *ok = m->has_score = number_f64(l.p, (size_t)(l.end - l.p), &m->score);
    } else if (word_is(&l, "file")) {
        if (!m->state.name && take_number(&l, &n) && take_hash(&l, &h) &&
            (size_t)(l.end - l.p) == sizeof CKPT_STATE_FILE - 1 &&
            !memcmp(l.p, CKPT_STATE_FILE, sizeof CKPT_STATE_FILE - 1)) {
            m->state = (struct manifest_file){mem_strdup(CKPT_STATE_FILE), n, h};
            if (!m->state.name)
                return err_nomem(err, sizeof CKPT_STATE_FILE);
            *ok = true;
        }
    } else if (word_is(&l, "blocks")) {
        return parse_blocks(m, &l, ok, err);
    } else if (word_is(&l, "export")) {
        *ok = take_number(&l, &n) && take_hash(&l, &h) && l.p < l.end;
        if (*ok)
            return manifest_add_export(m, l.p, (size_t)(l.end - l.p), n, h, err);
    } else if (word_is(&l, "log")) {
        *ok = take_number(&l, &n) && l.p < l.end;
        if (*ok)
            return manifest_add_log(m, l.p, (size_t)(l.end - l.p), n, err);
    }
    return SPT_OK;
}

static spt_status parse_body(const char *text, size_t size, struct manifest *m, spt_err *err)
{
    size_t at = 0;
    for (bool first = true; at < size; first = false) {
        const char *nl = memchr(text + at, '\n', size - at);
        const size_t end = nl ? (size_t)(nl - text) : size;
        struct line l = {text + at, text + end};
        bool ok = nl != NULL;
        if (first) {
            uint64_t version = 0;
            ok = ok && word_is(&l, "spt-state") && take_number(&l, &version) && l.p == l.end;
            if (ok && version != CKPT_FORMAT)
                return err_set(err, SPT_E_FORMAT,
                               "format version %llu is newer than this program reads (%d)",
                               (unsigned long long)version, CKPT_FORMAT);
        } else if (ok) {
            TRY(parse_line(m, l, &ok, err));
        }
        if (!ok)
            return err_at(err, SPT_E_FORMAT, at, "not a state manifest (byte %zu)", at);
        at = end + 1;
    }
    return SPT_OK;
}

/* The text must be what the writer makes of the facts that were read. */
static spt_status check_spelling(const char *text, size_t size, const struct manifest *m,
                                 spt_err *err)
{
    buf again;
    if (!m->state.name || m->crc_count != m->state.size / CKPT_BLOCK +
                                              (m->state.size % CKPT_BLOCK != 0))
        return err_set(err, SPT_E_FORMAT, "the state file is not described");
    buf_init(&again, CKPT_MAX_MANIFEST + 4096);
    manifest_write(m, &again);
    spt_status st = buf_status(&again, "manifest", err);
    if (!st && (again.len != size || memcmp(again.data, text, size)))
        st = err_set(err, SPT_E_FORMAT, "not the manifest that this program would write");
    buf_release(&again);
    return st;
}

static spt_status parse(const char *text, size_t size, struct manifest *m, spt_err *err)
{
    hash128 want;
    if (size < END_LINE || memcmp(text + size - END_LINE, "end ", 4) ||
        text[size - 1] != '\n' || !hash_from_text(text + size - END_LINE + 4, 32, &want))
        return err_at(err, SPT_E_FORMAT, size, "does not end with its checksum (byte %zu)", size);
    const size_t body = size - END_LINE;
    if (!hash_equal(hash_bytes(text, body), want))
        return err_set(err, SPT_E_FORMAT, "wrong checksum over bytes 0 to %zu", body);
    TRY(parse_body(text, body, m, err));
    return check_spelling(text, size, m, err);
}

spt_status manifest_parse(const char *text, size_t size, const char *what, struct manifest *out,
                          spt_err *err)
{
    struct manifest m = {0};
    const spt_status st = parse(text, size, &m, err);
    if (st) {
        manifest_release(&m);
        return err_wrap(err, st, "%s", what);
    }
    *out = m;
    return SPT_OK;
}

spt_status manifest_check_state(const struct manifest *m, const void *bytes, size_t size,
                                const char *what, spt_err *err)
{
    if (size != m->state.size)
        return err_at(err, SPT_E_FORMAT, size, "%s has %zu bytes, its manifest says %llu", what,
                      size, (unsigned long long)m->state.size);
    if (hash_equal(hash_bytes(bytes, size), m->state.hash))
        return SPT_OK;
    for (size_t i = 0; i < m->crc_count; i++) {
        const size_t at = i * CKPT_BLOCK, n = block_size(size, i);
        if (crc32c((const char *)bytes + at, n) != m->crc[i])
            return err_at(err, SPT_E_FORMAT, at, "%s is damaged between byte %zu and byte %zu",
                          what, at, at + n - 1);
    }
    return err_set(err, SPT_E_FORMAT, "%s: wrong checksum", what);
}
