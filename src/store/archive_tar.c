/* tar: 512-byte headers in the decoded stream (POSIX ustar, pax records for path and size, GNU long
 * names, numbers in base 256). Links, devices and directories are passed over. */
#include <string.h>

#include "store/archive_internal.h"

enum { TAR_BLOCK = 512, MAX_PAX = 1 << 20 };

/* Octal digits, or base 256 when the first bit is set. */
static bool read_number(const unsigned char *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    if (*p & 0x80) {
        for (size_t i = 0; i < n; i++) {
            const unsigned char b = i ? p[i] : (unsigned char)(p[i] & 0x7f);
            if (v >> 55)
                return false;
            v = v << 8 | b;
        }
        *out = v;
        return true;
    }
    size_t i = 0;
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
        /* never: no field has more than twelve digits */
        if (v >> 60)
            return false;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    *out = v;
    return i == n || p[i] == ' ' || p[i] == 0;
}

static bool checksum_ok(const unsigned char *h)
{
    uint64_t want, sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : h[i];
    return read_number(h + 148, 8, &want) && want == sum;
}

bool tar_detect(const unsigned char *first, size_t n)
{
    return n >= TAR_BLOCK && first[0] && checksum_ok(first);
}

struct tar_scan {
    archive *a;
    struct decoded d;
    uint64_t at;
    buf name; /* of the coming member, when a record in front says so */
    bool has_size;
    uint64_t size;
};

/* *got: TAR_BLOCK, or fewer at the end of the file. */
static spt_status read_fully(struct tar_scan *t, void *p, size_t n, size_t *got, spt_err *err)
{
    size_t have = 0;
    for (size_t g = 1; g && have < n; have += g) {
        g = 0;
        TRY(decoded_read(&t->d, (char *)p + have, n - have, &g, err));
    }
    t->at += have;
    *got = have;
    return SPT_OK;
}

static spt_status cut_short(const struct tar_scan *t, spt_err *err)
{
    return err_at(err, SPT_E_FORMAT, t->at, "the tar file is cut short at byte %llu",
                  (unsigned long long)t->at);
}

static spt_status skip_bytes(struct tar_scan *t, uint64_t n, spt_err *err)
{
    unsigned char block[4096];
    if (!t->d.gzip) {
        if (n > fs_size(t->d.file) - t->d.at)
            return cut_short(t, err);
        t->d.at += n;
        t->at += n;
        return SPT_OK;
    }
    while (n) {
        const size_t want = n < sizeof block ? (size_t)n : sizeof block;
        size_t got;
        TRY(read_fully(t, block, want, &got, err));
        if (got < want)
            return cut_short(t, err);
        n -= got;
    }
    return SPT_OK;
}

static uint64_t padded(uint64_t n)
{
    return (n + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* The content of a special member. The caller frees *out. */
static spt_status read_special(struct tar_scan *t, uint64_t size, char **out, spt_err *err)
{
    size_t got;
    if (size > MAX_PAX)
        return err_at(err, SPT_E_FORMAT, t->at, "a header of %llu bytes at byte %llu",
                      (unsigned long long)size, (unsigned long long)t->at);
    char *p = mem_alloc((size_t)size + 1, 1);
    if (!p)
        return err_nomem(err, (size_t)size);
    spt_status st = read_fully(t, p, (size_t)size, &got, err);
    if (!st && got < size)
        st = cut_short(t, err);
    if (!st)
        st = skip_bytes(t, padded(size) - size, err);
    if (st) {
        mem_free(p);
        return st;
    }
    p[size] = 0;
    *out = p;
    return SPT_OK;
}

/* "27 path=a/b\n": the length counts itself. */
static spt_status read_pax(struct tar_scan *t, const char *p, size_t n, spt_err *err)
{
    for (size_t at = 0; at < n && p[at];) {
        uint64_t len = 0;
        size_t i = at;
        for (; i < n && p[i] >= '0' && p[i] <= '9' && len < MAX_PAX; i++)
            len = len * 10 + (uint64_t)(p[i] - '0');
        if (i == n || p[i] != ' ' || len > n - at || len < i - at + 3 || p[at + len - 1] != '\n')
            return err_at(err, SPT_E_FORMAT, t->at, "a damaged pax header in front of byte %llu",
                          (unsigned long long)t->at);
        const char *key = p + i + 1, *end = p + at + len - 1;
        const char *equals = memchr(key, '=', (size_t)(end - key));
        if (equals && equals - key == 4 && memcmp(key, "path", 4) == 0) {
            buf_clear(&t->name);
            buf_add(&t->name, equals + 1, (size_t)(end - equals - 1));
            TRY(buf_status(&t->name, "member name", err));
        } else if (equals && equals - key == 4 && memcmp(key, "size", 4) == 0) {
            uint64_t v = 0;
            for (const char *q = equals + 1; q < end; q++) {
                if (*q < '0' || *q > '9' || v >> 56)
                    return err_at(err, SPT_E_FORMAT, t->at, "a damaged size in front of byte %llu",
                                  (unsigned long long)t->at);
                v = v * 10 + (uint64_t)(*q - '0');
            }
            t->has_size = true;
            t->size = v;
        }
        at += len;
    }
    return SPT_OK;
}

static size_t text_length(const unsigned char *p, size_t n)
{
    const unsigned char *nul = memchr(p, 0, n);
    return nul ? (size_t)(nul - p) : n;
}

/* Prefix and name of the header itself. */
static void take_name(struct tar_scan *t, const unsigned char *h)
{
    if (t->name.len)
        return;
    if (memcmp(h + 257, "ustar\0", 6) == 0 && h[345])
        buf_addf(&t->name, "%.*s/", (int)text_length(h + 345, 155), (const char *)h + 345);
    buf_add(&t->name, h, text_length(h, 100));
}

static spt_status take_file(struct tar_scan *t, uint64_t size, spt_err *err)
{
    const char *name = buf_str(&t->name);
    size_t len = t->name.len;
    while (len > 2 && name[0] == '.' && name[1] == '/') {
        name += 2;
        len -= 2;
    }
    TRY(archive_add(t->a, name, len, (struct member){.offset = t->at, .size = size}, err));
    return SPT_OK;
}

static spt_status read_member(struct tar_scan *t, const unsigned char *h, spt_err *err)
{
    uint64_t size;
    const char kind = (char)h[156];
    if (!checksum_ok(h) || !read_number(h + 124, 12, &size))
        return err_at(err, SPT_E_FORMAT, t->at - TAR_BLOCK,
                      "the tar header at byte %llu is damaged",
                      (unsigned long long)t->at - TAR_BLOCK);
    if (kind == 'x' || kind == 'L' || kind == 'g' || kind == 'K') {
        char *text = NULL;
        TRY(read_special(t, size, &text, err));
        spt_status st = SPT_OK;
        if (kind == 'x') {
            st = read_pax(t, text, (size_t)size, err);
        } else if (kind == 'L') {
            buf_clear(&t->name);
            buf_adds(&t->name, text);
            st = buf_status(&t->name, "member name", err);
        }
        mem_free(text);
        return st;
    }
    if (t->has_size)
        size = t->size;
    /* never: neither a field nor a record can say that much */
    if (size > UINT64_MAX / 2)
        return err_at(err, SPT_E_FORMAT, t->at, "a member of %llu bytes", (unsigned long long)size);
    take_name(t, h);
    TRY(buf_status(&t->name, "member name", err));
    const bool file = (kind == '0' || kind == 0 || kind == '7') && t->name.len &&
                      buf_str(&t->name)[t->name.len - 1] != '/';
    if (file)
        TRY(take_file(t, size, err));
    buf_clear(&t->name);
    t->has_size = false;
    return skip_bytes(t, padded(size), err);
}

static bool is_zero(const unsigned char *h)
{
    for (size_t i = 0; i < TAR_BLOCK; i++)
        if (h[i])
            return false;
    return true;
}

/* To the end of the file, so that a gzip'd one has its checksum verified. */
static spt_status drain(struct tar_scan *t, spt_err *err)
{
    unsigned char block[4096];
    for (size_t got = 1; got;) {
        got = 0;
        TRY(decoded_read(&t->d, block, sizeof block, &got, err));
    }
    return SPT_OK;
}

static spt_status scan(struct tar_scan *t, spt_err *err)
{
    for (;;) {
        unsigned char h[TAR_BLOCK];
        size_t got;
        TRY(read_fully(t, h, sizeof h, &got, err));
        if (got < sizeof h)
            return cut_short(t, err);
        if (is_zero(h))
            return drain(t, err);
        TRY(read_member(t, h, err));
    }
}

spt_status tar_list(archive *a, spt_err *err)
{
    struct tar_scan t = {.a = a};
    buf_init(&t.name, ARCHIVE_MAX_NAME + 1);
    TRY(decoded_open(&t.d, a->file, a->gzip, err));
    const spt_status st = scan(&t, err);
    decoded_close(&t.d);
    buf_release(&t.name);
    return st;
}
