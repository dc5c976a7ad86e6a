/* Ranks as threads of the test: a transport between them, so that everything that ranks do together
 * runs in every build. */
#ifndef TESTS_SUPPORT_RANKS_H
#define TESTS_SUPPORT_RANKS_H

#include "comm/comm.h"

/* Runs body(comm, ctx) in `size` threads at once, each with its comm; the thread ends with
 * comm_leave. timeout: of comm_new. cmocka's checks may not be used inside. */
typedef void (*ranks_body)(comm *c, void *ctx);
void ranks_run(int size, double timeout, ranks_body body, void *ctx);

#endif
