/* The Python server of tests/server for C tests. */
#ifndef TESTS_SUPPORT_SERVER_H
#define TESTS_SUPPORT_SERVER_H

#include "base/buf.h"

struct test_server {
    int pid, port;
    char url[64];  /* http://127.0.0.1:PORT */
    char host[64]; /* 127.0.0.1:PORT */
};

/* Starts `python3 tests/server/server.py` with these further arguments (NULL-terminated); fails the
 * test when it does not come up. */
void test_server_start(struct test_server *s, const char *const *args);
void test_server_stop(struct test_server *s);
/* POST /_control/<what> with a body. */
void test_server_control(const struct test_server *s, const char *what, const char *body);
/* How many requests of the log so far hold `part` in method, space, path ("GET /files/a"). */
int test_server_count(const struct test_server *s, const char *part);
/* The log, as JSON; mem_free. */
char *test_server_log(const struct test_server *s);

#endif
