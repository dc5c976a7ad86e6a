#include "store/torch_zip.h"

#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "store/zip_format.h"

struct directory {
    uint64_t offset, size, count;
};

/* A cursor over [offset, size) whose offsets are those of the file. */
static cursor cursor_from(const unsigned char *p, size_t size, uint64_t offset)
{
    cursor c = cursor_make(p, size);
    if (offset > size)
        cursor_fail(&c);
    else
        c.p += offset;
    return c;
}

static spt_status find_end(const unsigned char *p, size_t size, size_t *at, spt_err *err)
{
    if (zip_find_end(p, size, at))
        return SPT_OK;
    return err_at(err, SPT_E_FORMAT, size,
                  "ZIP container without an end record: the file is cut short (%zu bytes)", size);
}

/* The ZIP64 end record, which torch always writes, wins over the fields it extends. */
static spt_status find_directory(const unsigned char *p, size_t size, struct directory *out,
                                 size_t *limit, spt_err *err)
{
    size_t end = 0;
    TRY(find_end(p, size, &end, err));
    cursor c = cursor_from(p, size, end + 10);
    struct directory d = {.count = cursor_u16le(&c)};
    d.size = cursor_u32le(&c);
    d.offset = cursor_u32le(&c);
    *limit = end;
    if (end >= END64_LOCATOR_SIZE &&
        peek32(p + end - END64_LOCATOR_SIZE) == END64_LOCATOR_SIGNATURE) {
        cursor l = cursor_from(p, size, end - END64_LOCATOR_SIZE + 8);
        const uint64_t at = cursor_u64le(&l);
        *limit = end - END64_LOCATOR_SIZE;
        if (at > *limit || *limit - at < END64_SIZE || peek32(p + at) != END64_SIGNATURE)
            return err_at(err, SPT_E_FORMAT, end, "ZIP64 end record is not at byte %llu",
                          (unsigned long long)at);
        *limit = (size_t)at;
        c = cursor_from(p, size, at + 32);
        d.count = cursor_u64le(&c);
        d.size = cursor_u64le(&c);
        d.offset = cursor_u64le(&c);
    }
    if (d.offset > *limit || d.size > *limit - d.offset)
        return err_at(
            err, SPT_E_FORMAT, end,
            "ZIP directory at byte %llu with %llu bytes does not fit the file (%zu bytes)",
            (unsigned long long)d.offset, (unsigned long long)d.size, size);
    if (d.count > d.size / CENTRAL_SIZE)
        return err_at(err, SPT_E_FORMAT, d.offset,
                      "ZIP directory of %llu bytes cannot hold %llu entries",
                      (unsigned long long)d.size, (unsigned long long)d.count);
    *out = d;
    return SPT_OK;
}

/* The local header must tell the same story; it alone says where the data starts. */
static spt_status check_local(const unsigned char *p, size_t size, struct zip_entry *e,
                              const struct zip_sizes *central, spt_err *err)
{
    cursor c = cursor_from(p, size, central->local);
    const uint32_t signature = cursor_u32le(&c);
    cursor_take(&c, 2);
    const uint16_t flags = cursor_u16le(&c), method = cursor_u16le(&c);
    cursor_take(&c, 8);
    struct zip_sizes local = {0};
    local.packed = cursor_u32le(&c);
    local.plain = cursor_u32le(&c);
    const uint16_t name_len = cursor_u16le(&c), extra_len = cursor_u16le(&c);
    const unsigned char *name = cursor_take(&c, name_len);
    const unsigned char *extra = cursor_take(&c, extra_len);
    const int shown = zip_shown(e->name_len);
    if (!cursor_ok(&c) || signature != LOCAL_SIGNATURE || !name || name_len != e->name_len ||
        memcmp(name, e->name, name_len))
        return err_at(err, SPT_E_FORMAT, central->local,
                      "ZIP entry '%.*s' has no local header at byte %llu", shown, e->name,
                      (unsigned long long)central->local);
    const bool zero = local.packed == 0 && local.plain == 0 && (flags & FLAG_DESCRIPTOR);
    const bool same = zip_read_zip64(cursor_make(extra, extra_len), &local, false) &&
                      local.packed == central->packed && local.plain == central->plain;
    if (method != 0 || (!zero && !same))
        return err_at(err, SPT_E_FORMAT, central->local,
                      "ZIP entry '%.*s': its local header contradicts the directory", shown,
                      e->name);
    e->offset = cursor_offset(&c);
    return SPT_OK;
}

static bool has_dotdot(const char *name, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++)
        if (name[i] == '.' && name[i + 1] == '.')
            return true;
    return false;
}

static spt_status read_entry(const unsigned char *p, size_t size, uint64_t limit, cursor *c,
                             struct zip_entry *e, spt_err *err)
{
    const size_t at = cursor_offset(c);
    const uint32_t signature = cursor_u32le(c);
    cursor_take(c, 4);
    const uint16_t flags = cursor_u16le(c), method = cursor_u16le(c);
    cursor_take(c, 8);
    struct zip_sizes s;
    s.packed = cursor_u32le(c);
    s.plain = cursor_u32le(c);
    const uint16_t name_len = cursor_u16le(c), extra_len = cursor_u16le(c);
    const uint16_t comment_len = cursor_u16le(c);
    const uint16_t disk = cursor_u16le(c);
    cursor_take(c, 6);
    s.local = cursor_u32le(c);
    e->name = (const char *)cursor_take(c, name_len);
    e->name_len = name_len;
    const unsigned char *extra = cursor_take(c, extra_len);
    cursor_take(c, comment_len);
    if (!cursor_ok(c) || signature != CENTRAL_SIGNATURE || !e->name)
        return err_at(err, SPT_E_FORMAT, at, "ZIP directory entry at byte %zu is damaged", at);
    const int shown = zip_shown(name_len);
    if (!zip_read_zip64(cursor_make(extra, extra_len), &s, true))
        return err_at(err, SPT_E_FORMAT, at, "ZIP entry '%.*s' lacks its ZIP64 sizes", shown,
                      e->name);
    if (disk != 0)
        return err_at(err, SPT_E_FORMAT, at, "ZIP entry '%.*s' is on disk %d of several", shown,
                      e->name, disk);
    if (method != 0 || (flags & FLAG_ENCRYPTED) || s.packed != s.plain)
        return err_at(
            err, SPT_E_FORMAT, at,
            "ZIP entry '%.*s' is compressed or encrypted; torch.save stores entries plain", shown,
            e->name);
    if (has_dotdot(e->name, name_len) || memchr(e->name, 0, name_len))
        return err_at(err, SPT_E_FORMAT, at, "ZIP entry '%.*s' has a forbidden name", shown,
                      e->name);
    TRY(check_local(p, size, e, &s, err));
    if (e->offset > limit || s.plain > limit - e->offset)
        return err_at(err, SPT_E_FORMAT, at,
                      "ZIP entry '%.*s' at byte %zu with %llu bytes goes beyond the data (%llu)",
                      shown, e->name, e->offset, (unsigned long long)s.plain,
                      (unsigned long long)limit);
    e->size = (size_t)s.plain;
    return SPT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int compare_names(const char *a, size_t an, const char *b, size_t bn)
{
    const int c = memcmp(a, b, an < bn ? an : bn);
    return c ? c : an < bn ? -1 : an > bn;
}

static int by_name(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return compare_names(x->name, x->name_len, y->name, y->name_len);
}

/* Data ranges must not overlap. Sorted by offset; header bytes between them are not data. */
static spt_status check_overlap(struct torch_zip *z, spt_err *err)
{
    qsort(z->entry, z->count, sizeof *z->entry, by_offset);
    for (size_t i = 1; i < z->count; i++) {
        const struct zip_entry *a = &z->entry[i - 1], *b = &z->entry[i];
        if (b->offset - a->offset < a->size || b->offset == a->offset)
            return err_at(err, SPT_E_FORMAT, b->offset, "ZIP entries '%.*s' and '%.*s' overlap",
                          zip_shown(a->name_len), a->name,
                          zip_shown(b->name_len), b->name);
    }
    return SPT_OK;
}

/* Every name starts with the same "<archive>/"; it is cut off. */
static spt_status strip_prefix(struct torch_zip *z, spt_err *err)
{
    if (!z->count)
        return err_set(err, SPT_E_FORMAT, "ZIP container without entries");
    const struct zip_entry *first = &z->entry[0];
    const char *slash = memchr(first->name, '/', first->name_len);
    const size_t n = slash ? (size_t)(slash - first->name) + 1 : 0;
    const char *prefix = first->name;
    for (size_t i = 0; i < z->count; i++) {
        struct zip_entry *e = &z->entry[i];
        const int shown = zip_shown(e->name_len);
        if (e->name_len >= 4 && !memcmp(e->name + e->name_len - 4, ".npy", 4))
            return err_set(err, SPT_E_FORMAT,
                           "this is a NumPy .npz archive (it holds '%.*s'); extract the array "
                           "and save it with numpy.save",
                           shown, e->name);
        if (!n || e->name_len < n || memcmp(e->name, prefix, n))
            return err_set(err, SPT_E_FORMAT,
                           "a ZIP file, but not from torch.save: entry '%.*s' is outside '%.*s'",
                           shown, e->name, zip_shown(n), prefix);
        e->name += n;
        e->name_len -= n;
    }
    return SPT_OK;
}

static spt_status check_names(struct torch_zip *z, spt_err *err)
{
    TRY(strip_prefix(z, err));
    qsort(z->entry, z->count, sizeof *z->entry, by_name);
    for (size_t i = 1; i < z->count; i++)
        if (by_name(&z->entry[i - 1], &z->entry[i]) == 0)
            return err_set(err, SPT_E_FORMAT, "two ZIP entries are named '%.*s'",
                           zip_shown(z->entry[i].name_len),
                           z->entry[i].name);
    return SPT_OK;
}

spt_status torch_zip_open(const void *bytes, size_t size, struct torch_zip *out, spt_err *err)
{
    const unsigned char *p = bytes;
    struct torch_zip z = {0};
    struct directory d = {0};
    size_t limit = 0;
    TRY(find_directory(p, size, &d, &limit, err));
    z.entry = mem_alloc((size_t)d.count, sizeof *z.entry);
    if (!z.entry)
        return err_nomem(err, (size_t)d.count * sizeof *z.entry);
    cursor c = cursor_from(p, (size_t)(d.offset + d.size), d.offset);
    spt_status st = SPT_OK;
    for (; z.count < d.count && !st; z.count++)
        st = read_entry(p, size, d.offset, &c, &z.entry[z.count], err);
    if (!st)
        st = check_overlap(&z, err);
    if (!st)
        st = check_names(&z, err);
    if (st) {
        torch_zip_release(&z);
        return st;
    }
    *out = z;
    return SPT_OK;
}

void torch_zip_release(struct torch_zip *z)
{
    mem_free(z->entry);
    memset(z, 0, sizeof *z);
}

const struct zip_entry *torch_zip_find(const struct torch_zip *z, const char *dir, const char *name,
                                       size_t name_len)
{
    const size_t dir_len = strlen(dir);
    size_t lo = 0, hi = z->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const struct zip_entry *e = &z->entry[mid];
        const size_t head = e->name_len < dir_len ? e->name_len : dir_len;
        int cmp = compare_names(dir, dir_len, e->name, head);
        if (cmp == 0)
            cmp = e->name_len < dir_len
                      ? 1
                      : compare_names(name, name_len, e->name + dir_len, e->name_len - dir_len);
        if (cmp == 0)
            return e;
        if (cmp < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}
