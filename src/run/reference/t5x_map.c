#include "run/reference/t5x_map.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/store_alias.h"

enum { NAME_BYTES = 512, PATH_BYTES = 65536 };

/* --- the map -------------------------------------------------------------------------------------- */

void t5x_map_close(struct t5x_map *m)
{
    for (size_t i = 0; m->re && i < m->n; i++)
        regex_free(m->re[i]);
    mem_free(m->re);
    mem_free(m->used);
    *m = (struct t5x_map){0};
}

spt_status t5x_map_open(struct t5x_map *m, const struct gin_restore *r, spt_err *err)
{
    *m = (struct t5x_map){.r = r};
    if (!r || !r->maps)
        return SPT_OK;
    m->n = r->maps;
    m->re = mem_zalloc(m->n, sizeof(regex *));
    m->used = mem_zalloc(m->n, sizeof *m->used);
    if (!m->re || !m->used)
        return err_nomem(err, m->n * sizeof *m->re);
    for (size_t i = 0; i < m->n; i++) {
        const spt_status st = regex_compile(r->from[i], strlen(r->from[i]), 0, &m->re[i], err);
        if (st)
            return err_wrap(err, st, "assignment_map: %s", r->from[i]);
    }
    return SPT_OK;
}

spt_status t5x_map_find(struct t5x_map *m, const char *name, enum t5x_origin *out, buf *other,
                        spt_err *err)
{
    *out = ORIGIN_SAME;
    for (size_t i = 0; i < m->n; i++) {
        bool matched;
        TRY(regex_full(m->re[i], name, strlen(name), &matched, NULL, 0, err));
        if (!matched)
            continue;
        m->used[i] = true;
        *out = m->r->to[i] ? ORIGIN_OTHER : ORIGIN_SKIP;
        buf_clear(other);
        if (m->r->to[i])
            TRY(regex_replace(m->re[i], name, strlen(name), m->r->to[i], other, err));
        return buf_status(other, "name", err); /* a name cut off is found nowhere */
    }
    return SPT_OK;
}

spt_status t5x_map_done(const struct t5x_map *m, spt_err *err)
{
    for (size_t i = 0; i < m->n; i++)
        if (!m->used[i])
            return err_set(err, SPT_E_CONFIG,
                           "Unused patterns in `assignment_map`: %s matches no parameter of the "
                           "model",
                           m->r->from[i]);
    return SPT_OK;
}

/* --- the base through it ------------------------------------------------------------------------------ */

void t5x_round(float *x, size_t n, enum dtype t)
{
    for (size_t i = 0; i < n; i++)
        x[i] = t == DT_BF16  ? bf16_to_f32(f32_to_bf16(x[i]))
               : t == DT_F16 ? f16_to_f32(f32_to_f16(x[i]))
                             : x[i];
}

static spt_status fill(void *ctx, size_t i, float *out, spt_err *err)
{
    const struct t5x_view *v = ctx;
    if (v->index[i] == SIZE_MAX)
        return t5_scratch(&v->config, v->name[i].t5x, &v->name[i].shape, v->params, FLAX_LAZY,
                          out, err);
    TRY(store_read_f32(v->in, v->index[i], out, err));
    t5x_round(out, store_at(v->in, v->index[i])->elements, v->dtype);
    return SPT_OK;
}

/* Where leaf i of the model comes from. */
static spt_status find_leaf(struct t5x_view *v, const store *s, size_t i, const char *full,
                            struct store_alias *a, bool *taken, spt_err *err)
{
    enum t5x_origin origin;
    buf other;
    buf_init(&other, PATH_BYTES);
    spt_status st = t5x_map_find(v->map, full, &origin, &other, err);
    const char *from = origin == ORIGIN_OTHER ? buf_str(&other) : full;
    *a = (struct store_alias){.name = full, .shape = v->name[i].shape};
    if (!st && origin != ORIGIN_SKIP && store_find(s, from, &a->index)) {
        taken[a->index] = true;
        v->index[i] = a->index;
        a->made = v->rounds;
        a->shape = store_at(s, a->index)->shape;
    } else if (!st && origin == ORIGIN_OTHER) {
        st = err_set(err, SPT_E_CONFIG, "assignment_map: %s has no %s, which %s was to come from",
                     store_path(s), from, full);
    } else if (!st && !v->fallback) {
        st = err_set(err, SPT_E_CONFIG, "%s %s %s and %s", store_path(s),
                     origin == ORIGIN_SKIP ? "is not asked for" : "has no", full, v->why_not);
    } else if (!st) {
        a->made = true;
        v->index[i] = SIZE_MAX;
        v->made++;
    }
    buf_release(&other);
    return st;
}

/* Told, because a typing error in NUM_ENCODER_LAYERS looks the same. */
static void tell_ignored(const store *s, const bool *taken)
{
    size_t n = 0, first = 0;
    for (size_t i = 0; i < store_count(s); i++) {
        const char *name = store_at(s, i)->name;
        if (taken[i] || strncmp(name, "target/", 7) || strstr(name, "prompt"))
            continue;
        first = n++ ? first : i;
    }
    if (n)
        log_warning("%s: %zu leaves are not part of the configured model and are left out (%s%s)",
                    store_path(s), n, store_at(s, first)->name, n > 1 ? ", ..." : "");
}

static void tell_made(const struct t5x_view *v, const store *s, const struct store_alias *a)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->index[i] == SIZE_MAX) {
            log_warning("%s: %zu frozen parameters are made from scratch (%s%s): nothing has "
                        "trained them",
                        store_path(s), v->made, a[i].name, v->made > 1 ? ", ..." : "");
            return;
        }
}

spt_status t5x_view_adapt(void *ctx, store *in, store **out, spt_err *err)
{
    struct t5x_view *v = ctx;
    spt_status st = t5_names_list(&v->config, &v->name, &v->count, err);
    if (st) {
        store_close(in);
        return st;
    }
    struct store_alias *a = mem_zalloc(v->count + 1, sizeof *a);
    char *names = mem_alloc(v->count + 1, NAME_BYTES);
    bool *taken = mem_zalloc(store_count(in) + 1, sizeof *taken);
    v->in = in;
    v->index = mem_zalloc(v->count + 1, sizeof *v->index);
    if (!a || !names || !taken || !v->index)
        st = err_nomem(err, v->count * NAME_BYTES);
    for (size_t i = 0; !st && i < v->count; i++) {
        char *full = names + i * NAME_BYTES;
        snprintf(full, NAME_BYTES, "target/%s", v->name[i].t5x);
        st = find_leaf(v, in, i, full, &a[i], taken, err);
    }
    if (!st) {
        tell_ignored(in, taken);
        tell_made(v, in, a);
        st = store_alias_open(in, a, v->count, fill, v, out, err);
    } else {
        store_close(in);
    }
    mem_free(a);
    mem_free(names);
    mem_free(taken);
    return st;
}

void t5x_view_release(struct t5x_view *v)
{
    mem_free(v->name);
    mem_free(v->index);
    *v = (struct t5x_view){0};
}
