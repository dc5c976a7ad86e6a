#include "support/memfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FDS = 64, MAX_NAME = 256, FIRST_FD = 1000 };

struct node;
struct dirent_ {
    char name[MAX_NAME];
    struct node *node;
};
struct node {
    bool is_dir;
    size_t id;
    unsigned char *data; /* files */
    size_t size;
    struct dirent_ *entries; /* directories */
    size_t count;
    bool locked;
};

enum event_kind { EV_WRITE, EV_TRUNC, EV_LINK, EV_UNLINK, EV_RENAME, EV_SYNC };
struct event {
    enum event_kind kind;
    size_t node;        /* the file, or the node that an entry names */
    size_t dir, to_dir; /* where the entry is */
    char name[MAX_NAME], to_name[MAX_NAME];
    uint64_t offset; /* write, truncation */
    size_t len;
    unsigned char *data;
};

struct memfs {
    struct node **nodes; /* by id; 0 is the root. Never freed before the file system. */
    size_t node_count;
    size_t first_nodes; /* nodes that existed at boot; events refer to those and to later ones */
    struct memfs *boot; /* deep copy of the tree at boot, for memfs_cut */
    struct event *events;
    size_t event_count, event_cap;
    struct fd {
        bool used;
        struct node *node;
        uint64_t pos;
        int flags;
    } fds[MAX_FDS];
    size_t seen[MEMFS_CALLS], fail_at[MEMFS_CALLS];
    bool persistent[MEMFS_CALLS];
    int fail_errno[MEMFS_CALLS];
    const char *broken;
    uint64_t random;
    int64_t clock;
};

static memfs *cur;

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static struct node *add_node(memfs *m, bool is_dir)
{
    m->nodes = must(realloc(m->nodes, (m->node_count + 1) * sizeof *m->nodes));
    struct node *n = must(calloc(1, sizeof *n));
    n->is_dir = is_dir;
    n->id = m->node_count;
    m->nodes[m->node_count++] = n;
    return n;
}

static struct dirent_ *entry(struct node *dir, const char *name)
{
    for (size_t i = 0; i < dir->count; i++)
        if (!strcmp(dir->entries[i].name, name))
            return &dir->entries[i];
    return NULL;
}

static void link_node(struct node *dir, const char *name, struct node *n)
{
    struct dirent_ *e = entry(dir, name);
    if (!e) {
        dir->entries = must(realloc(dir->entries, (dir->count + 1) * sizeof *dir->entries));
        e = &dir->entries[dir->count++];
        snprintf(e->name, sizeof e->name, "%s", name);
    }
    e->node = n;
}

static void unlink_node(struct node *dir, const char *name)
{
    struct dirent_ *e = entry(dir, name);
    if (e)
        *e = dir->entries[--dir->count];
}

static void put_bytes(struct node *n, uint64_t offset, const void *p, size_t len)
{
    if (offset + len > n->size) {
        n->data = must(realloc(n->data, offset + len + 1));
        memset(n->data + n->size, 0, offset + len - n->size);
        n->size = offset + len;
    }
    if (len)
        memcpy(n->data + offset, p, len);
}

static void cut_bytes(struct node *n, uint64_t size)
{
    if (size > n->size) {
        n->data = must(realloc(n->data, size + 1));
        memset(n->data + n->size, 0, size - n->size);
    }
    n->size = size;
}

static void free_nodes(memfs *m)
{
    for (size_t i = 0; i < m->node_count; i++) {
        free(m->nodes[i]->data);
        free(m->nodes[i]->entries);
        free(m->nodes[i]);
    }
    free(m->nodes);
}

/* Copies nodes with their ids. */
static void copy_nodes(memfs *to, const memfs *from)
{
    for (size_t i = 0; i < from->node_count; i++)
        add_node(to, from->nodes[i]->is_dir);
    for (size_t i = 0; i < from->node_count; i++) {
        const struct node *f = from->nodes[i];
        put_bytes(to->nodes[i], 0, f->data, f->size);
        for (size_t k = 0; k < f->count; k++)
            link_node(to->nodes[i], f->entries[k].name, to->nodes[f->entries[k].node->id]);
    }
}

static memfs *booted(memfs *tree)
{
    tree->boot = must(calloc(1, sizeof *tree->boot));
    copy_nodes(tree->boot, tree);
    tree->first_nodes = tree->node_count;
    tree->clock = 1700000000000000000;
    tree->random = 88172645463325252u;
    return tree;
}

memfs *memfs_new(void)
{
    memfs *m = must(calloc(1, sizeof *m));
    add_node(m, true);
    return booted(m);
}

void memfs_free(memfs *m)
{
    if (!m)
        return;
    if (cur == m)
        memfs_use(NULL);
    free_nodes(m);
    free_nodes(m->boot);
    free(m->boot);
    for (size_t i = 0; i < m->event_count; i++)
        free(m->events[i].data);
    free(m->events);
    free(m);
}

static struct event *record(enum event_kind kind, size_t node, size_t dir, const char *name)
{
    if (cur->event_count == cur->event_cap) {
        cur->event_cap = cur->event_cap ? cur->event_cap * 2 : 8;
        cur->events = must(realloc(cur->events, cur->event_cap * sizeof *cur->events));
    }
    struct event *e = &cur->events[cur->event_count++];
    *e = (struct event){.kind = kind, .node = node, .dir = dir};
    snprintf(e->name, sizeof e->name, "%s", name ? name : "");
    return e;
}

/* --- the power goes --- */

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static bool is_data(const struct event *e)
{
    return e->kind == EV_WRITE || e->kind == EV_TRUNC;
}

/* Is event i covered by a sync before event `end`? */
static bool is_durable(const memfs *m, size_t i, size_t end)
{
    const struct event *e = &m->events[i];
    bool dir_synced = false, to_dir_synced = false;
    for (size_t k = i + 1; k < end; k++) {
        const struct event *s = &m->events[k];
        if (s->kind != EV_SYNC)
            continue;
        if (is_data(e)) {
            if (s->node == e->node)
                return true;
            continue;
        }
        dir_synced |= s->node == e->dir;
        to_dir_synced |= s->node == e->to_dir;
    }
    return !is_data(e) && dir_synced && (e->kind != EV_RENAME || to_dir_synced);
}

static void apply_write(memfs *t, const struct event *e, size_t piece, uint64_t *seed)
{
    struct node *n = t->nodes[e->node];
    if (!piece) {
        put_bytes(n, e->offset, e->data, e->len);
        return;
    }
    /* Pieces of the device survive one by one; the length may survive without the bytes. */
    for (uint64_t at = e->offset; at < e->offset + e->len;) {
        uint64_t stop = (at / piece + 1) * piece;
        if (stop > e->offset + e->len)
            stop = e->offset + e->len;
        if (next_random(seed) & 1)
            put_bytes(n, at, e->data + (at - e->offset), (size_t)(stop - at));
        at = stop;
    }
}

static bool has_name(const memfs *t, size_t node)
{
    for (size_t i = 0; i < t->node_count; i++)
        for (size_t k = 0; k < t->nodes[i]->count; k++)
            if (t->nodes[i]->entries[k].node->id == node)
                return true;
    return false;
}

static void apply(memfs *t, const struct event *e, size_t piece, uint64_t *seed)
{
    switch (e->kind) {
    case EV_WRITE:
        apply_write(t, e, piece, seed);
        break;
    case EV_TRUNC:
        cut_bytes(t->nodes[e->node], e->offset);
        break;
    case EV_LINK:
        if (!has_name(t, e->node)) /* its rename came first: never two names for one node */
            link_node(t->nodes[e->dir], e->name, t->nodes[e->node]);
        break;
    case EV_UNLINK: {
        struct dirent_ *gone = entry(t->nodes[e->dir], e->name);
        if (gone && gone->node->id == e->node)
            unlink_node(t->nodes[e->dir], e->name);
        break;
    }
    case EV_RENAME: {
        /* Both halves, also when the old entry never became durable. */
        struct dirent_ *old = entry(t->nodes[e->dir], e->name);
        if (old && old->node->id == e->node)
            unlink_node(t->nodes[e->dir], e->name);
        link_node(t->nodes[e->to_dir], e->to_name, t->nodes[e->node]);
        break;
    }
    case EV_SYNC:
        break;
    }
}

static bool survives(const struct event *e, enum memfs_outcome o, uint64_t *seed)
{
    switch (o) {
    case CUT_ALL_KEPT:
    case CUT_TORN_512:
    case CUT_TORN_4096:
        return true;
    case CUT_ALL_LOST:
        return false;
    case CUT_RANDOM:
        return next_random(seed) >> 7 & 1;
    case CUT_REORDERED:
    default:
        return !is_data(e) && (next_random(seed) >> 7 & 3) != 0;
    }
}

memfs *memfs_cut(const memfs *m, size_t events, enum memfs_outcome outcome, uint64_t seed)
{
    memfs *t = must(calloc(1, sizeof *t));
    uint64_t s = seed * 2654435761u + events * 40503u + (uint64_t)outcome + 1;
    copy_nodes(t, m->boot);
    while (t->node_count < m->node_count)
        add_node(t, m->nodes[t->node_count]->is_dir);
    const size_t piece = outcome == CUT_TORN_512 ? 512 : outcome == CUT_TORN_4096 ? 4096 : 0;
    size_t *late = must(calloc(events + 1, sizeof *late));
    size_t late_count = 0;
    for (size_t i = 0; i < events; i++) {
        const struct event *e = &m->events[i];
        const bool durable = is_durable(m, i, events);
        if (!durable && !survives(e, outcome, &s))
            continue;
        if (!durable && outcome == CUT_REORDERED)
            late[late_count++] = i;
        else
            apply(t, e, durable ? 0 : piece, &s);
    }
    for (size_t n = late_count; n > 0; n--) { /* in random order */
        const size_t k = next_random(&s) % n;
        apply(t, &m->events[late[k]], 0, &s);
        late[k] = late[n - 1];
    }
    free(late);
    return booted(t);
}

/* --- order rules --- */

static bool has_pending(const memfs *m, const struct node *n)
{
    for (size_t i = m->event_count; i-- > 0;) {
        const struct event *e = &m->events[i];
        if (e->kind == EV_SYNC && e->node == n->id)
            return false;
        if (n->is_dir ? !is_data(e) && e->kind != EV_SYNC && (e->dir == n->id ||
                                                               (e->kind == EV_RENAME &&
                                                                e->to_dir == n->id))
                      : is_data(e) && e->node == n->id)
            return true;
    }
    return false;
}

static bool tree_pending(const memfs *m, const struct node *n)
{
    if (has_pending(m, n))
        return true;
    for (size_t i = 0; i < n->count; i++)
        if (tree_pending(m, n->entries[i].node))
            return true;
    return false;
}

size_t memfs_unsynced_renames(const memfs *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->event_count; i++)
        n += m->events[i].kind == EV_RENAME && !is_durable(m, i, m->event_count);
    return n;
}

/* --- the os table --- */

/* The node of a path, and its parent and last component when wanted. */
static struct node *walk(const char *path, struct node **parent, char name[MAX_NAME])
{
    struct node *n = cur->nodes[0], *up = NULL;
    name[0] = '\0';
    while (*path) {
        while (*path == '/')
            path++;
        const size_t len = strcspn(path, "/");
        if (!len)
            break;
        if (!n || !n->is_dir || len >= MAX_NAME) {
            *parent = NULL;
            return NULL;
        }
        if (len == 1 && *path == '.') {
            path += len;
            continue;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        up = n;
        struct dirent_ *e = entry(n, name);
        n = e ? e->node : NULL;
        path += len;
    }
    *parent = up;
    return n;
}

static bool one_fails(enum memfs_call kind, int *e)
{
    cur->seen[kind]++;
    const size_t at = cur->fail_at[kind];
    if (!at || !(cur->seen[kind] == at || (cur->persistent[kind] && cur->seen[kind] > at)))
        return false;
    *e = -cur->fail_errno[kind];
    return true;
}

static bool fails(enum memfs_call kind, int *e)
{
    const bool any = one_fails(MEMFS_ANY, e);
    return (kind != MEMFS_ANY && one_fails(kind, e)) || any;
}

#define FAIL_IF(kind)          \
    do {                       \
        int e_;                \
        if (fails(kind, &e_))  \
            return e_;         \
    } while (0)

static struct fd *fd_of(int fd)
{
    struct fd *f = &cur->fds[fd - FIRST_FD];
    if (fd < FIRST_FD || fd >= FIRST_FD + MAX_FDS || !f->used)
        abort();
    return f;
}

static int m_open(const char *path, int flags)
{
    struct node *up;
    char name[MAX_NAME];
    FAIL_IF(MEMFS_OPEN);
    struct node *n = walk(path, &up, name);
    if (!n && !(flags & OS_CREATE))
        return -ENOENT;
    if (!n && (!up || !name[0]))
        return -ENOENT;
    if (n && (flags & OS_EXCL))
        return -EEXIST;
    if (n && (flags & OS_DIR) && !n->is_dir)
        return -ENOTDIR;
    if (n && n->is_dir && (flags & OS_WRITE))
        return -EISDIR;
    int fd = 0;
    while (fd < MAX_FDS && cur->fds[fd].used)
        fd++;
    if (fd == MAX_FDS)
        return -EMFILE;
    if (!n) {
        n = add_node(cur, false);
        link_node(up, name, n);
        record(EV_LINK, n->id, up->id, name);
    } else if (flags & OS_TRUNC) {
        cut_bytes(n, 0);
        record(EV_TRUNC, n->id, 0, NULL);
    }
    cur->fds[fd] = (struct fd){true, n, 0, flags};
    return FIRST_FD + fd;
}

static int m_close(int fd)
{
    struct fd *f = fd_of(fd);
    if (f->flags & 1 << 30)
        f->node->locked = false;
    f->used = false;
    FAIL_IF(MEMFS_ANY);
    return 0;
}

static int64_t m_pread(int fd, void *p, size_t n, uint64_t offset)
{
    struct fd *f = fd_of(fd);
    FAIL_IF(MEMFS_ANY);
    if (f->node->is_dir)
        return -EISDIR;
    if (offset >= f->node->size)
        return 0;
    const size_t left = f->node->size - (size_t)offset;
    n = n < left ? n : left;
    memcpy(p, f->node->data + offset, n);
    return (int64_t)n;
}

static int64_t m_read(int fd, void *p, size_t n)
{
    const int64_t got = m_pread(fd, p, n, fd_of(fd)->pos);
    if (got > 0)
        fd_of(fd)->pos += (uint64_t)got;
    return got;
}

/* A full disk takes half of a write before it refuses the rest. */
static int64_t m_write(int fd, const void *p, size_t n)
{
    struct fd *f = fd_of(fd);
    int e;
    if (fails(MEMFS_WRITE, &e)) {
        if (e != -ENOSPC || n < 2)
            return e;
        cur->fail_at[MEMFS_WRITE]++; /* the rest of this write fails */
        n /= 2;
    }
    struct event *ev = record(EV_WRITE, f->node->id, 0, NULL);
    ev->offset = f->flags & OS_APPEND ? f->node->size : f->pos;
    ev->len = n;
    ev->data = must(malloc(n ? n : 1));
    memcpy(ev->data, p, n);
    put_bytes(f->node, ev->offset, p, n);
    f->pos = ev->offset + n;
    return (int64_t)n;
}

static int64_t m_seek(int fd, uint64_t offset)
{
    FAIL_IF(MEMFS_ANY);
    fd_of(fd)->pos = offset;
    return (int64_t)offset;
}

static int m_fsync(int fd)
{
    FAIL_IF(MEMFS_FSYNC);
    record(EV_SYNC, fd_of(fd)->node->id, 0, NULL);
    return 0;
}

static int m_ftruncate(int fd, uint64_t size)
{
    FAIL_IF(MEMFS_ANY);
    struct node *n = fd_of(fd)->node;
    record(EV_TRUNC, n->id, 0, NULL)->offset = size;
    cut_bytes(n, size);
    return 0;
}

static void stat_node(const struct node *n, struct os_stat *out)
{
    *out = (struct os_stat){.size = n->size,
                            .inode = n->id + 1,
                            .device = 7,
                            .is_dir = n->is_dir,
                            .is_file = !n->is_dir};
}

static int m_stat(const char *path, struct os_stat *out)
{
    struct node *up;
    char name[MAX_NAME];
    FAIL_IF(MEMFS_ANY);
    const struct node *n = walk(path, &up, name);
    if (!n)
        return -ENOENT;
    stat_node(n, out);
    return 0;
}

static int m_fstat(int fd, struct os_stat *out)
{
    FAIL_IF(MEMFS_ANY);
    stat_node(fd_of(fd)->node, out);
    return 0;
}

static int m_rename(const char *from, const char *to)
{
    struct node *up, *to_up;
    char name[MAX_NAME], to_name[MAX_NAME];
    FAIL_IF(MEMFS_RENAME);
    struct node *n = walk(from, &up, name), *old = walk(to, &to_up, to_name);
    if (!n || !up || !to_up)
        return -ENOENT;
    if (old && old->is_dir && old->count)
        return -ENOTEMPTY;
    if (old && old->is_dir != n->is_dir)
        return old->is_dir ? -EISDIR : -ENOTDIR;
    if (tree_pending(cur, n) && !cur->broken)
        cur->broken = "renamed before everything below was synced";
    unlink_node(up, name);
    link_node(to_up, to_name, n);
    struct event *e = record(EV_RENAME, n->id, up->id, name);
    e->to_dir = to_up->id;
    snprintf(e->to_name, sizeof e->to_name, "%s", to_name);
    return 0;
}

static int m_unlink(const char *path)
{
    struct node *up;
    char name[MAX_NAME];
    FAIL_IF(MEMFS_ANY);
    const struct node *n = walk(path, &up, name);
    if (!n || !up)
        return -ENOENT;
    if (n->is_dir)
        return -EISDIR;
    record(EV_UNLINK, n->id, up->id, name);
    unlink_node(up, name);
    return 0;
}

static int m_mkdir(const char *path)
{
    struct node *up;
    char name[MAX_NAME];
    FAIL_IF(MEMFS_ANY);
    struct node *n = walk(path, &up, name);
    if (n)
        return -EEXIST;
    if (!up)
        return -ENOENT;
    n = add_node(cur, true);
    link_node(up, name, n);
    record(EV_LINK, n->id, up->id, name);
    return 0;
}

static int m_rmdir(const char *path)
{
    struct node *up;
    char name[MAX_NAME];
    FAIL_IF(MEMFS_ANY);
    const struct node *n = walk(path, &up, name);
    if (!n || !up)
        return -ENOENT;
    if (!n->is_dir)
        return -ENOTDIR;
    if (n->count)
        return -ENOTEMPTY;
    record(EV_UNLINK, n->id, up->id, name);
    unlink_node(up, name);
    return 0;
}

static int m_list(const char *path, os_list_fn fn, void *ctx)
{
    struct node *up;
    char name[MAX_NAME];
    FAIL_IF(MEMFS_ANY);
    const struct node *n = walk(path, &up, name);
    if (!n)
        return -ENOENT;
    if (!n->is_dir)
        return -ENOTDIR;
    int r = 0;
    for (size_t i = 0; i < n->count && !r; i++)
        r = fn(ctx, n->entries[i].name);
    return r;
}

static void *m_map(int fd, size_t size, int *e)
{
    if (fails(MEMFS_ANY, e))
        return NULL;
    void *p = must(malloc(size));
    memcpy(p, fd_of(fd)->node->data, size);
    return p;
}

static int m_unmap(void *p, size_t size)
{
    (void)size;
    free(p);
    return 0;
}

static int m_drop(void *p, size_t size)
{
    (void)p;
    (void)size;
    return 0;
}

static int m_lock(int fd)
{
    FAIL_IF(MEMFS_ANY);
    struct fd *f = fd_of(fd);
    if (f->node->locked)
        return -EWOULDBLOCK;
    f->node->locked = true;
    f->flags |= 1 << 30;
    return 0;
}

static int64_t m_clock(void)
{
    return cur->clock += 1000000;
}

static int m_getpid(void)
{
    return 42;
}

static int m_hostname(char *out, size_t cap)
{
    snprintf(out, cap, "host");
    return 0;
}

static int m_random(void *p, size_t n)
{
    FAIL_IF(MEMFS_ANY);
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)p)[i] = (unsigned char)(next_random(&cur->random) >> 24);
    return 0;
}

static const char *m_getenv(const char *name)
{
    (void)name;
    return NULL;
}

static const struct os_ops mem_ops = {
    .open = m_open,         .close = m_close,   .read = m_read,         .write = m_write,
    .pread = m_pread,       .seek = m_seek,     .fsync = m_fsync,       .ftruncate = m_ftruncate,
    .stat = m_stat,         .fstat = m_fstat,   .rename = m_rename,     .unlink = m_unlink,
    .mkdir = m_mkdir,       .rmdir = m_rmdir,   .list = m_list,         .map = m_map,
    .unmap = m_unmap,       .drop = m_drop,     .lock = m_lock,         .clock_ns = m_clock,
    .monotonic_ns = m_clock, .getpid = m_getpid, .hostname = m_hostname, .random = m_random,
    .getenv = m_getenv,
};

void memfs_use(memfs *m)
{
    cur = m;
    os_set(m ? &mem_ops : NULL);
}

size_t memfs_events(const memfs *m)
{
    return m->event_count;
}

void memfs_fail(memfs *m, enum memfs_call kind, size_t nth, bool persistent, int errno_value)
{
    m->seen[kind] = 0;
    m->fail_at[kind] = nth;
    m->persistent[kind] = persistent;
    m->fail_errno[kind] = errno_value;
}

size_t memfs_seen(const memfs *m, enum memfs_call kind)
{
    return m->seen[kind];
}

const char *memfs_broken_rule(const memfs *m)
{
    return m->broken;
}

size_t memfs_open_count(const memfs *m)
{
    size_t n = 0;
    for (int i = 0; i < MAX_FDS; i++)
        n += m->fds[i].used;
    return n;
}

const unsigned char *memfs_bytes(memfs *m, const char *path, size_t *size)
{
    memfs *before = cur;
    struct node *up;
    char name[MAX_NAME];
    cur = m;
    const struct node *n = walk(path, &up, name);
    cur = before;
    if (!n || n->is_dir)
        return NULL;
    *size = n->size;
    return n->size ? n->data : (const unsigned char *)"";
}

void memfs_dump(const memfs *m, size_t events)
{
    static const char *const names[] = {"write", "trunc", "link", "unlink", "rename", "sync"};
    for (size_t i = 0; i < events && i < m->event_count; i++) {
        const struct event *e = &m->events[i];
        fprintf(stderr, "%4zu %-6s node %zu dir %zu %s -> %zu %s (%zu bytes at %llu)\n", i,
                names[e->kind], e->node, e->dir, e->name, e->to_dir, e->to_name, e->len,
                (unsigned long long)e->offset);
    }
}
