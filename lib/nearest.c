/* nearest.c - see nearest.h. */
#include "lib/nearest.h"

#include <ctype.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#define WORD_MAX 63

static size_t fold(char out[WORD_MAX + 1], const char *s)
{
    size_t n = 0;

    while (*s == '-')
        s++;
    for (; s[n] && n < WORD_MAX; n++)
        out[n] = s[n] == '-' ? '_' : (char)tolower((unsigned char)s[n]);
    out[n] = '\0';
    return n;
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b: optimal string alignment. */
static unsigned edits(const char *a, size_t na, const char *b, size_t nb)
{
    unsigned row[3][WORD_MAX + 2];

    for (unsigned j = 0; j <= nb; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];

        cur[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = up[j - 1] + (a[i - 1] != b[j - 1]);

            if (up[j] + 1 < best)
                best = up[j] + 1;
            if (cur[j - 1] + 1 < best)
                best = cur[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            cur[j] = best;
        }
    }
    return row[na % 3][nb];
}

const char *sae_nearest(const char *word, const char *const *names, size_t n)
{
    char w[WORD_MAX + 1], name[WORD_MAX + 1];
    size_t w_len = fold(w, word), best = 0;
    unsigned best_cost = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        size_t len = fold(name, names[i]);
        unsigned d = edits(w, w_len, name, len);
        bool begins = w_len && w_len < len && memcmp(w, name, w_len) == 0;
        unsigned cost = (begins && d > 1 ? 1 : d) * 2 * WORD_MAX + d;

        if (cost < best_cost) {
            best_cost = cost;
            best = i;
        }
    }
    return names[best];
}
