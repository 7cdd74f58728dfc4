/* text.h - a short text that stops when its room is full, for messages. Owned by one thread. */
#ifndef SAE_TEXT_H
#define SAE_TEXT_H

#include "lib/base.h"

#include <stdarg.h>
#include <stdio.h>

struct sae_text {
    char text[260];
    size_t len;
};

static inline void SAE_PRINTF(2, 3) sae_text_add(struct sae_text *l, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(l->text + l->len, sizeof l->text - l->len, fmt, ap);
    va_end(ap);
    l->len =
        n < 0 || (size_t)n >= sizeof l->text - l->len ? sizeof l->text - 1 : l->len + (size_t)n;
}

#endif
