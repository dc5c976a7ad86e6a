#include "run/data_cmd.h"
spt_status run_data_convert(struct settings *s, struct run_output *out, spt_err *err)
{
    return err_set(err, SPT_E_USAGE, "not yet");
}
