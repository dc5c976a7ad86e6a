/* The parts of `spt data`. */
#ifndef SPT_RUN_DATA_CMD_H
#define SPT_RUN_DATA_CMD_H

#include "run/commands.h"

/* `spt data convert` */
spt_status run_data_convert(struct settings *s, struct run_output *out, spt_err *err);

#endif
