/* Files that come with the program: gin files (configs/) and the demo (demo/). */
#ifndef SPT_RUN_SHARE_H
#define SPT_RUN_SHARE_H

#include "base/buf.h"

/* The i-th place where `name` may be (path into out, a buf with a maximum, emptied first):
 * $SPT_DATA_DIR, the source tree that the executable was built in, PREFIX/share/spt beside the
 * executable. False behind the last. */
bool share_candidate(size_t i, const char *name, buf *out);

#endif
