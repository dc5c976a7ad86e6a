/* `spt neighbors`: a prompt among the pieces of its vocabulary. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "report/html.h"
#include "run/commands.h"
#include "run/dataset.h"
#include "run/init_prompt.h"
#include "run/command/neighbors.h"
#include "run/places.h"
#include "run/prompt_session.h"
#include "text/json.h"

enum { PAGE_BYTES = 1 << 28, TWIN_PERCENT = 95 };

static bool is_set(const char *text)
{
    return text && text[0];
}

/* --- the start, made again ---------------------------------------------------------------------
 */

/* Applies "spt.init = 'vocab'; spt.length = 10" to the settings of `spt init`; what that command
 * does not know (lr, train, ...) does not change the start. */
static spt_status apply_settings(struct settings *s, const char *text, spt_err *err)
{
    for (const char *p = text; (p = strstr(p, "spt.")) != NULL;) {
        char name[64], value[1024];
        size_t n = 0, v = 0;
        for (p += 4; *p && *p != ' ' && n + 1 < sizeof name; p++)
            name[n++] = *p == '_' ? '-' : *p;
        name[n] = '\0';
        if (strncmp(p, " = ", 3))
            continue;
        p += 3;
        const bool quoted = *p == '\'';
        p += quoted;
        for (; *p && (quoted ? *p != '\'' : *p != ';' && *p != '\n') && v + 1 < sizeof value; p++) {
            p += quoted && *p == '\\' && p[1];
            value[v++] = *p;
        }
        value[v] = '\0';
        static const char *const known[] = {"init",       "init-text", "init-population",
                                            "init-scale", "side",      "init-file"};
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strcmp(known[i], name))
                TRY(settings_set(s, name, value, err));
    }
    return SPT_OK;
}

static spt_status labels_of(const struct prompt *p, label_set **out, spt_err *err)
{
    TRY(label_set_new(out, err));
    for (size_t i = 0; i < p->use.label_count; i++)
        TRY(label_set_add(*out, p->use.labels[i], strlen(p->use.labels[i]), NULL, err));
    return SPT_OK;
}

/* *rows stays NULL when the prompt does not say how it began. */
static spt_status remake(struct engine *e, const struct prompt *p, float **rows, char *text,
                         size_t cap, spt_err *err)
{
    struct settings s;
    label_set *labels = NULL;
    if (!p->use.settings || p->use.seed < 0 || p->E != e->config.width)
        return SPT_OK;
    TRY(settings_init(&s, "init", err));
    spt_status st = apply_settings(&s, p->use.settings, err);
    if (!st && p->use.label_count)
        st = labels_of(p, &labels, err);
    float *made = mem_alloc_aligned((size_t)(p->P * p->E), sizeof *made);
    if (!st && !made)
        st = err_nomem(err, (size_t)(p->P * p->E) * sizeof *made);
    if (!st)
        st = prompt_start(&s, e, labels, prompt_init_choice(&s, labels != NULL), p->P,
                          (uint32_t)p->use.seed, made, text, cap, err);
    label_set_free(labels);
    settings_release(&s);
    if (st) {
        mem_free_aligned(made);
        return st;
    }
    *rows = made;
    return SPT_OK;
}

static spt_status read_start(const struct prompt *p, const char *path, float **rows, spt_err *err)
{
    struct prompt *start;
    TRY(prompt_read(path, NULL, &start, err));
    spt_status st = SPT_OK;
    if (start->P != p->P || start->E != p->E)
        st = err_set(err, SPT_E_CONFIG, "%s is %lld x %lld, the prompt %lld x %lld", path,
                     (long long)start->P, (long long)start->E, (long long)p->P, (long long)p->E);
    const size_t cells = (size_t)(p->P * p->E);
    if (!st && !(*rows = mem_alloc_aligned(cells, sizeof **rows)))
        st = err_nomem(err, cells * sizeof **rows);
    if (!st)
        memcpy(*rows, start->rows, cells * sizeof **rows);
    prompt_free(start);
    return st;
}

static spt_status find_start(struct engine *e, const struct prompt *p, const char *path,
                             float **rows, char **what, spt_err *err)
{
    char text[160] = "";
    if (is_set(path)) {
        TRY(read_start(p, path, rows, err));
        *what = mem_strdup(path);
        return *what ? SPT_OK : err_nomem(err, strlen(path));
    }
    spt_err why = {0};
    const spt_status st = remake(e, p, rows, text, sizeof text, &why);
    if (st == SPT_E_NOMEM)
        return err_set(err, st, "%s", why.msg);
    if (st) {
        log_info("the start of the prompt cannot be made again (%s): no drift; --start FILE gives "
                 "one",
                 why.msg);
        return SPT_OK;
    }
    if (*rows && !(*what = mem_strdup(text)))
        return err_nomem(err, strlen(text));
    return SPT_OK;
}

/* --- finding -----------------------------------------------------------------------------------
 */

static double dot(const float *a, const float *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += (double)a[i] * (double)b[i];
    return s;
}

static void cosines(const struct prompt *p, const struct prompt_row_stats *stats, double *out)
{
    for (int64_t i = 0; i < p->P; i++)
        for (int64_t j = 0; j <= i; j++) {
            const double scale = stats[i].norm * stats[j].norm;
            const double c =
                scale > 0 ? dot(p->rows + i * p->E, p->rows + j * p->E, p->E) / scale : 0;
            out[i * p->P + j] = out[j * p->P + i] = c;
        }
}

static spt_status find(struct engine *e, const struct prompt *p, const float *start,
                       struct neighborhood *n, spt_err *err)
{
    struct engine_embedding table = {0};
    TRY(engine_embedding_open(e, &table, err));
    struct prompt_init_env env = engine_init_env(&table);
    if (vocab_size(e->vocab) < env.rows) /* rows behind the last piece are padding */
        env.rows = vocab_size(e->vocab);
    if (n->k > env.rows)
        n->k = env.rows;
    spt_status st = neighbors_find(p, &env, NEIGHBOR_COSINE, n->k, n->cosine, err);
    if (!st)
        st = neighbors_find(p, &env, NEIGHBOR_L2, n->k, n->l2, err);
    engine_embedding_close(&table);
    if (st)
        return st;
    prompt_stats(p, start, n->stats);
    cosines(p, n->stats, n->row_cosine);
    return SPT_OK;
}

spt_status neighborhood_find(struct engine *e, const struct prompt *p, const char *start, int64_t k,
                             struct neighborhood *out, spt_err *err)
{
    const size_t P = (size_t)p->P;
    struct neighborhood n = {.P = p->P, .k = k};
    float *rows = NULL;
    size_t cells;
    if (!mul_size(P, P, &cells))
        return err_nomem(err, SIZE_MAX);
    n.cosine = mem_zalloc(P, (size_t)k * sizeof *n.cosine);
    n.l2 = mem_zalloc(P, (size_t)k * sizeof *n.l2);
    n.stats = mem_zalloc(P, sizeof *n.stats);
    n.row_cosine = mem_zalloc(cells, sizeof *n.row_cosine);
    spt_status st = n.cosine && n.l2 && n.stats && n.row_cosine
                        ? SPT_OK
                        : err_nomem(err, cells * sizeof *n.row_cosine);
    if (!st)
        st = find_start(e, p, start, &rows, &n.start, err);
    if (!st)
        st = find(e, p, rows, &n, err);
    mem_free_aligned(rows);
    if (st) {
        neighborhood_release(&n);
        return st;
    }
    *out = n;
    return SPT_OK;
}

void neighborhood_release(struct neighborhood *n)
{
    mem_free(n->cosine);
    mem_free(n->l2);
    mem_free(n->stats);
    mem_free(n->row_cosine);
    mem_free(n->start);
    *n = (struct neighborhood){0};
}

static bool is_twin(const struct prompt_row_stats *r)
{
    return r->twin >= 0 && r->twin_cosine * 100 >= TWIN_PERCENT;
}

static size_t twins(const struct neighborhood *n)
{
    size_t count = 0;
    for (int64_t i = 0; i < n->P; i++)
        count += is_twin(&n->stats[i]);
    return count;
}

/* --- telling -----------------------------------------------------------------------------------
 */

static void put_pieces(buf *out, const struct neighbor *x, int64_t k, const vocab *v)
{
    for (int64_t i = 0; i < k; i++) {
        size_t len;
        const char *piece = vocab_piece(v, x[i].id, &len);
        buf_addf(out, "  %.*s %.3f", (int)len, piece, x[i].value);
    }
}

static void put_text(buf *out, const struct neighborhood *n, const vocab *v)
{
    buf_addf(out, "%5s %9s %9s %6s %8s  nearest pieces by cosine\n", "row", "norm", "drift", "twin",
             "cosine");
    for (int64_t i = 0; i < n->P; i++) {
        const struct prompt_row_stats *r = &n->stats[i];
        buf_addf(out, "%5lld %9.4g ", (long long)i, r->norm);
        if (n->start)
            buf_addf(out, "%9.4g", r->drift);
        else
            buf_addf(out, "%9s", "-");
        if (r->twin >= 0)
            buf_addf(out, " %6lld %8.4f", (long long)r->twin, r->twin_cosine);
        else
            buf_addf(out, " %6s %8s", "-", "-");
        put_pieces(out, n->cosine + i * n->k, n->k, v);
        buf_addf(out, "\n%42s  by distance", "");
        put_pieces(out, n->l2 + i * n->k, n->k, v);
        buf_addc(out, '\n');
    }
    buf_addf(out, "\n%zu of %lld rows have a twin of cosine %.2f or more", twins(n),
             (long long)n->P, TWIN_PERCENT / 100.0);
    if (n->start)
        buf_addf(out, "; drift is measured from: %s", n->start);
    buf_addc(out, '\n');
}

static void put_json_list(json_writer *w, const char *key, const struct neighbor *x, int64_t k,
                          const vocab *v)
{
    json_key(w, key);
    json_begin_array(w);
    for (int64_t i = 0; i < k; i++) {
        size_t len;
        const char *piece = vocab_piece(v, x[i].id, &len);
        json_begin_object(w);
        json_key(w, "id");
        json_i64(w, x[i].id);
        json_key(w, "piece");
        json_string_n(w, piece, len);
        json_key(w, "value");
        json_f64(w, x[i].value);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_number(json_writer *w, const char *key, double v)
{
    json_key(w, key);
    json_f64(w, v);
}

static void put_json(buf *out, const struct neighborhood *n, const struct prompt *p, const vocab *v)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "rows");
    json_i64(&w, n->P);
    json_key(&w, "width");
    json_i64(&w, p->E);
    json_key(&w, "twins");
    json_u64(&w, twins(n));
    if (n->start) {
        json_key(&w, "start");
        json_string(&w, n->start);
    }
    json_key(&w, "neighbors");
    json_begin_array(&w);
    for (int64_t i = 0; i < n->P; i++) {
        const struct prompt_row_stats *r = &n->stats[i];
        json_begin_object(&w);
        json_key(&w, "row");
        json_i64(&w, i);
        put_number(&w, "norm", r->norm);
        if (n->start) {
            put_number(&w, "drift", r->drift);
            put_number(&w, "drift_cosine", r->drift_cosine);
        }
        if (r->twin >= 0) {
            json_key(&w, "twin");
            json_i64(&w, r->twin);
            put_number(&w, "twin_cosine", r->twin_cosine);
        }
        put_json_list(&w, "cosine", n->cosine + i * n->k, n->k, v);
        put_json_list(&w, "l2", n->l2 + i * n->k, n->k, v);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    buf_addc(out, '\n');
}

static void put_html_pieces(buf *out, const struct neighbor *x, int64_t k, const vocab *v)
{
    buf_adds(out, "<td>");
    for (int64_t i = 0; i < k; i++) {
        size_t len;
        const char *piece = vocab_piece(v, x[i].id, &len);
        buf_adds(out, "<span class=\"piece\">");
        html_text_n(out, piece, len);
        buf_addf(out, " <small>%.3g</small></span>", x[i].value);
    }
    buf_adds(out, "</td>");
}

static void put_html_table(buf *out, const struct neighborhood *n, const vocab *v)
{
    buf_addf(out,
             "<div class=\"scroll\"><table><thead><tr><th class=\"n\">row<th class=\"n\">norm%s"
             "<th class=\"n\">twin<th>nearest by cosine<th>nearest by distance</tr></thead><tbody>",
             n->start ? "<th class=\"n\">drift" : "");
    for (int64_t i = 0; i < n->P; i++) {
        const struct prompt_row_stats *r = &n->stats[i];
        buf_addf(out, "<tr><td class=\"n\">%lld<td class=\"n\">%.4g", (long long)i, r->norm);
        if (n->start)
            buf_addf(out, "<td class=\"n\">%.4g", r->drift);
        if (r->twin >= 0)
            buf_addf(out, "<td class=\"n%s\">%lld (%.3f)", is_twin(r) ? " bad" : "",
                     (long long)r->twin, r->twin_cosine);
        else
            buf_adds(out, "<td class=\"n\">-");
        put_html_pieces(out, n->cosine + i * n->k, n->k, v);
        put_html_pieces(out, n->l2 + i * n->k, n->k, v);
        buf_adds(out, "</tr>\n");
    }
    buf_adds(out, "</tbody></table></div>\n");
}

void neighborhood_html(buf *out, const struct neighborhood *n, const vocab *v)
{
    double *y = mem_alloc((size_t)n->P, sizeof *y);
    if (!y && !out->st) /* a page without its bars is not whole */
        out->st = SPT_E_NOMEM;
    buf_adds(out, "<div class=\"grid\">");
    html_heat(out, "Cosine between the prompt's rows", n->row_cosine, (size_t)n->P);
    buf_adds(out, "<div>");
    for (int64_t i = 0; y && i < n->P; i++)
        y[i] = n->stats[i].norm;
    if (y)
        html_bars(out, "Norm of each row", "row", y, (size_t)n->P);
    for (int64_t i = 0; y && n->start && i < n->P; i++)
        y[i] = n->stats[i].drift;
    if (y && n->start)
        html_bars(out, "Distance of each row from where it started", "row", y, (size_t)n->P);
    buf_adds(out, "</div></div>");
    mem_free(y);
    buf_addf(out, "<p>%zu of %lld rows have a twin of cosine %.2f or more.", twins(n),
             (long long)n->P, TWIN_PERCENT / 100.0);
    if (n->start) {
        buf_adds(out, " Drift is measured from: ");
        html_text(out, n->start);
        buf_adds(out, ".");
    }
    buf_adds(out, "</p>\n");
    put_html_table(out, n, v);
}

static spt_status write_page(const struct neighborhood *n, const struct settings *s,
                             const struct engine *e, const struct prompt *p, spt_err *err)
{
    buf page;
    buf_init(&page, PAGE_BYTES);
    html_begin(&page, "Prompt and vocabulary");
    buf_adds(&page, "<p>");
    html_text(&page, s->argument[0]);
    buf_addf(&page, ": %lld rows of width %lld, among %d pieces of ", (long long)p->P,
             (long long)p->E, (int)vocab_size(e->vocab));
    html_text(&page, s->model);
    buf_adds(&page, "</p>");
    neighborhood_html(&page, n, e->vocab);
    html_end(&page);
    spt_status st = buf_status(&page, "page", err);
    if (!st)
        st = fs_write_all(s->html, buf_str(&page), page.len, err);
    buf_release(&page);
    return st;
}

static spt_status tell(const struct neighborhood *n, const struct settings *s,
                       struct run_output *out, const struct engine *e, const struct prompt *p,
                       spt_err *err)
{
    buf text;
    if (is_set(s->html)) {
        TRY(write_page(n, s, e, p, err));
        log_info("%s written", s->html);
        if (!s->json)
            return SPT_OK;
    }
    buf_init(&text, PAGE_BYTES);
    if (s->json)
        put_json(&text, n, p, e->vocab);
    else
        put_text(&text, n, e->vocab);
    const spt_status st = output_text(out, &text, err);
    buf_release(&text);
    return st;
}

spt_status run_neighbors(struct settings *s, struct run_output *out, spt_err *err)
{
    struct engine e = {0};
    struct prompt *p = NULL;
    struct neighborhood n = {0};
    if (s->arguments != 1)
        return err_set(err, SPT_E_USAGE, "give one prompt file or run directory");
    TRY(engine_open(s, &e, err));
    spt_status st = prompt_open(s, s->argument[0], e.config.width, &p, err);
    char *start = NULL;
    if (!st && is_set(s->start))
        st = place_find(s, s->start, HUB_ADAPTER, &start, err);
    if (!st)
        st = neighborhood_find(&e, p, start, s->neighbors, &n, err);
    mem_free(start);
    if (!st)
        st = tell(&n, s, out, &e, p, err);
    neighborhood_release(&n);
    prompt_free(p);
    engine_close(&e);
    return st;
}
