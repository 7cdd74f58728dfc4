/* statement.h - what an operator says of a weights file: its path, and options of it behind that.
 *
 *     [linear:]PATH[:key=value]...
 *
 * The text is cut at every ':' that a key of the table and a '=' follow, so values may have colons
 * in them; there is no quoting. A file that exists under the whole text is that file (formats
 * section 2). What the config file states stands behind that, each in front of a SAE_SOURCE_CUT and
 * taken as it is. Called by spec.c. Owned by one thread. */
#ifndef SAE_STATEMENT_H
#define SAE_STATEMENT_H

#include "lib/dict/reading.h"

struct sae_statement {
    char *text;                   /* owned: all that follows borrows from it */
    const char *path;             /* of the file */
    const char *format;           /* NULL: the file tells */
    const char *labels;           /* a file of the features' labels; NULL: there is none */
    const char *prefix;           /* of the keys that are looked at; NULL: all are */
    const char *key[SAE_N_ROLES]; /* encoder=KEY, enc_bias=KEY, ...: by role; NULL: none */
    bool has_k;                   /* k=, which says it of the file's own k too */
    bool encodes_only;            /* parts=encoder */
    bool widens;                  /* resident=f32 */
    struct sae_reading reading;   /* the fields that are stated */
};

/* SAE_E_USAGE names the part that is wrong; SAE_E_NOMEM. */
enum sae_status sae_statement_parse(struct sae_statement *out, const char *text,
                                    struct sae_err *err) SAE_MUST_USE;
/* The same of a source that is no path, which is `path` then: labels= alone may stand behind it. */
enum sae_status sae_statement_parse_form(struct sae_statement *out, const char *text,
                                         struct sae_err *err) SAE_MUST_USE;
void sae_statement_fini(struct sae_statement *s);
/* Does it state a threshold other than none? */
bool sae_statement_says_threshold(const struct sae_statement *s);
/* Does it say what is selected, by itself or by a threshold? */
bool sae_statement_says_selection(const struct sae_statement *s);
/* Bytes of the text that are no option. */
size_t sae_statement_path(const char *text);

/* Of a path that is not there: what stands in it as an option would, and is none. */
struct sae_misspelt {
    const char *word; /* NULL: nothing does */
    size_t n;
    const char *nearest;
};
struct sae_misspelt sae_statement_misspelt(const char *path);

#endif
