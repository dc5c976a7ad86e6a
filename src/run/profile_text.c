#include "run/profile_text.h"

#include "base/log.h"

double profile_operations(const struct profile_run *r)
{
    double sum = 0;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        sum += r->line[i].operations;
    return r->steps ? sum / (double)r->steps : 0;
}

double profile_seconds(const struct profile_run *r)
{
    return r->median > 0 ? r->median : r->steps ? r->total / (double)r->steps : 0;
}

/* What neither operations nor parts account for. */
static double rest(const struct profile_run *r)
{
    double booked = 0;
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        booked += r->line[i].seconds;
    for (size_t i = 0; i < r->parts; i++)
        booked += r->part[i].seconds;
    return r->total > booked ? r->total - booked : 0;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static void outside(const struct profile_run *r, const char *name, double seconds, buf *out)
{
    buf_addf(out, "%-24s %6s %9.2f %6.1f\n", name, "", seconds / (double)r->steps * 1e3,
             100 * ratio(seconds, r->total));
}

void profile_text(const struct profile_run *r, buf *out)
{
    if (r->steps < 1)
        return;
    const double operations = profile_operations(r), seconds = profile_seconds(r);
    buf_addf(out, "%s: %s %.1f ms, %.2f GFLOP useful, %.1f GFLOP/s", r->what,
             r->median > 0 ? "median" : "mean", seconds * 1e3, operations * 1e-9,
             ratio(operations, seconds) * 1e-9);
    if (r->peak > 0)
        buf_addf(out, ", %.1f %% of the peak", 100 * ratio(operations, seconds) / r->peak);
    buf_addf(out, "\n%-24s %6s %9s %6s %10s %9s\n", "", "calls", "ms", "%", "GFLOP/s", "GB/s");
    for (int i = 0; i < OPS_PROFILE_KINDS; i++) {
        const struct ops_profile_line *l = &r->line[i];
        if (l->calls && l->operations > 0 && l->seconds <= 0)
            buf_addf(out, "%-24s %6lld   within the products\n", l->name,
                     (long long)(l->calls / r->steps));
        else if (l->calls)
            buf_addf(out, "%-24s %6lld %9.2f %6.1f %10.1f %9.1f\n", l->name,
                     (long long)(l->calls / r->steps), l->seconds / (double)r->steps * 1e3,
                     100 * ratio(l->seconds, r->total), ratio(l->operations, l->seconds) * 1e-9,
                     ratio(l->bytes, l->seconds) * 1e-9);
    }
    for (size_t i = 0; i < r->parts; i++)
        outside(r, r->part[i].name, r->part[i].seconds, out);
    outside(r, "outside operations", rest(r), out);
}

void profile_log(const buf *text)
{
    for (const char *p = buf_str(text); *p;) {
        const char *end = p;
        while (*end && *end != '\n')
            end++;
        log_info("%.*s", (int)(end - p), p);
        p = *end ? end + 1 : end;
    }
}

static void number(json_writer *w, const char *name, double value)
{
    json_key(w, name);
    json_f64(w, value);
}

void profile_json(const struct profile_run *r, json_writer *w)
{
    const double operations = profile_operations(r), seconds = profile_seconds(r);
    const double steps = r->steps ? (double)r->steps : 1;
    json_begin_object(w);
    json_key(w, "steps");
    json_i64(w, r->steps);
    number(w, "seconds", seconds);
    number(w, "operations", operations);
    number(w, "operations_per_second", ratio(operations, seconds));
    if (r->peak > 0)
        number(w, "share_of_peak", ratio(operations, seconds) / r->peak);
    json_key(w, "kinds");
    json_begin_object(w);
    for (int i = 0; i < OPS_PROFILE_KINDS; i++) {
        if (!r->line[i].calls)
            continue;
        json_key(w, r->line[i].name);
        json_begin_object(w);
        number(w, "calls", (double)r->line[i].calls / steps);
        number(w, "seconds", r->line[i].seconds / steps);
        number(w, "operations", r->line[i].operations / steps);
        number(w, "bytes", r->line[i].bytes / steps);
        json_end_object(w);
    }
    json_end_object(w);
    json_key(w, "outside");
    json_begin_object(w);
    for (size_t i = 0; i < r->parts; i++)
        number(w, r->part[i].name, r->part[i].seconds / steps);
    number(w, "rest", rest(r) / steps);
    json_end_object(w);
    json_end_object(w);
}
