/* Who we are for Google Cloud Storage, as the official clients find out ("application default
 * credentials"):
 *  1. STORAGE_EMULATOR_HOST is set: nobody, and nothing is sent;
 *  2. the file in GOOGLE_APPLICATION_CREDENTIALS, else
 *     $CLOUDSDK_CONFIG/application_default_credentials.json (~/.config/gcloud without the variable):
 *     a service account (a signed request, RS256) or a user (a refresh token);
 *  3. on a machine of the cloud its metadata server (GCE_METADATA_HOST names another one);
 *  4. else nobody: public buckets can be read.
 * Tokens are kept until shortly before they expire. Any thread may call. */
#ifndef SPT_FS_GS_AUTH_H
#define SPT_FS_GS_AUTH_H

#include "base/buf.h"

/* The token to send, or "" for nobody. `out` (initialised) is replaced. */
spt_status gs_auth_token(buf *out, spt_err *err);
/* The server did not accept it. */
void gs_auth_reject(const char *token);
/* "the service account x@y", "the user of FILE", "this machine's service account", "nobody (...)". */
void gs_auth_identity(char *out, size_t cap);
void gs_auth_release(void);

/* Base URL of the service, without a slash at its end. */
spt_status gs_endpoint(buf *out, spt_err *err);

/* Standard base64 ('+', '/', '='), or the URL's ('-', '_', without padding). */
void gs_add_base64(buf *out, const void *p, size_t n, bool url);
/* Standard base64 of exactly n bytes. */
bool gs_from_base64(const char *text, size_t len, unsigned char *out, size_t n);

/* Of OpenSSL, which signs: "3.0.15" into text[32]; returns text. */
char *gs_auth_library_version(char *text);

#endif
