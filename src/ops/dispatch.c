/* Chooses the backend. SPT_ISA names one when the caller does not; "auto" takes the best that the
 * machine runs. The choice is made once per context and never changes, because the bits of a
 * result may depend on it. */
#include <string.h>

#include "ops/ops.h"
#include "os/os.h"

spt_status ops_open(const struct ops_config *cfg, ops **out, spt_err *err)
{
    struct ops_config c = cfg ? *cfg : (struct ops_config){0};
    if (!c.isa)
        c.isa = os_getenv("SPT_ISA");
    if (!c.isa || !*c.isa)
        c.isa = "auto";
    const bool ref = !strcmp(c.isa, "ref"), ref64 = !strcmp(c.isa, "ref64");
    if ((ref || ref64) && c.compute == OPS_BFLOAT16)
        return err_set(err, SPT_E_CONFIG,
                       "the reference operations compute in float32 only: use --compute float32 or "
                       "another SPT_ISA");
    if (ref)
        return ops_ref_open_f32(out, err);
    if (ref64)
        return ops_ref_open_f64(out, err);
    return ops_cpu_open(&c, out, err);
}

spt_status ops_check(ops *o, spt_err *err)
{
    const spt_status st = o->fault;
    o->fault = SPT_OK;
    return st ? err_set(err, st, "out of memory inside an operation") : SPT_OK;
}

void ops_close(ops *o)
{
    if (o)
        o->t->close(o);
}
