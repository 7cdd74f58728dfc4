/* web.c - the files of the page, to whoever asks: see op.h. They hold nothing secret; what the page
 * shows it asks of the other routes, with the key that it was given.
 *
 * A browser that lays the page out takes nothing from elsewhere, sends nothing elsewhere, runs no
 * script but the page's own file, and makes no markup of text. */
#include "server/api/op.h"
#include "server/api/pack.h"
#include "server/web/files.h"

#define POLICY                                                                      \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " \
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; " \
    "require-trusted-types-for 'script'"

void saed_web_file(struct saed_routes *r, struct saed_exchange *x)
{
    const struct saed_web_file *file = saed_web_find(x->path);

    saed_http_header(x, "Content-Security-Policy", "%s", POLICY);
    saed_http_header(x, "Referrer-Policy", "no-referrer");
    saed_pack_reply(r, x, file->content_type, file->begin, (size_t)(file->end - file->begin), true);
}
