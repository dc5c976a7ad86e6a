/* Stands in for ops/cpu where that folder is not built: delete this file together with adding
 * ops_cpu_open() there. */
#include <string.h>

#include "ops/ops.h"

spt_status ops_cpu_open(const struct ops_config *cfg, ops **out, spt_err *err)
{
    if (strcmp(cfg->isa, "auto") || cfg->compute != OPS_FLOAT32)
        return err_set(err, SPT_E_CONFIG, "SPT_ISA=%s is not available in this build", cfg->isa);
    return ops_ref_open_f32(out, err);
}
