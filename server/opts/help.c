/* help.c - --help, made from the option table: one row an option, wrapped at 80 columns.
 *
 * Called by main, before threads. */
#include "server/opts/table.h"

#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 28
#define HELP_WIDTH 80

/* "  --flag METAVAR" and its text behind it, wrapped at HELP_WIDTH. */
static enum sae_status help_row(struct sae_buf *out, const char *flag, const char *metavar,
                                const char *text)
{
    enum sae_status st;
    char left[128];
    int used = snprintf(left, sizeof left, "  %s%s%s", flag, metavar[0] ? " " : "", metavar);
    int column = used;

    st = sae_buf_addf(out, "%s", left);
    if (st == SAE_OK && used > HELP_COLUMN - 2) {
        st = sae_buf_add(out, "\n", 1);
        column = 0;
    }
    if (st == SAE_OK)
        st = sae_buf_addf(out, "%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    while (st == SAE_OK && *text) {
        int n = (int)strcspn(text, " ");

        if (column > HELP_COLUMN && column + 1 + n > HELP_WIDTH) {
            st = sae_buf_addf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            st = sae_buf_add(out, " ", 1);
            column++;
        }
        if (st == SAE_OK)
            st = sae_buf_add(out, text, (size_t)n);
        column += n;
        text += n + (text[n] == ' ');
    }
    return st == SAE_OK ? sae_buf_add(out, "\n", 1) : st;
}

static enum sae_status help_options(struct sae_buf *out)
{
    enum sae_status st = SAE_OK;
    const char *group = "";
    char flag[64], text[320];

    for (unsigned i = 0; i < SAED_N_OPTIONS && st == SAE_OK; i++) {
        const struct saed_opt_def *def = &saed_opt_defs[i];
        bool show = def->dflt[0] && def->kind != SAED_KIND_BOOL;

        if (strcmp(group, def->group) != 0)
            st = sae_buf_addf(out, "\n%s:\n", def->group);
        group = def->group;
        saed_flag_name(def->key, flag);
        snprintf(text, sizeof text, show ? "%s [%s]" : "%s", def->help, def->dflt);
        if (st == SAE_OK)
            st = help_row(out, flag, def->metavar, text);
    }
    return st;
}

static enum sae_status help_flags(struct sae_buf *out)
{
    enum sae_status st = sae_buf_addf(out, "\nOn the command line only:\n");
    char name[64], flag[80];

    for (unsigned i = 0; i < SAED_N_FLAGS && st == SAE_OK; i++) {
        const struct saed_flag_def *def = &saed_flag_defs[i];

        saed_flag_name(def->name, name);
        snprintf(flag, sizeof flag, def->letters[0] ? "-%.1s, %s" : "%.0s%s", def->letters, name);
        st = help_row(out, flag, def->metavar, def->help);
    }
    return st;
}

enum sae_status saed_opts_help(struct sae_buf *out)
{
    static const char head[] =
        "usage: saed [OPTIONS] [NAME=]SOURCE [[NAME=]SOURCE ...]\n"
        "       saed --config FILE\n"
        "\n"
        "Serves sparse-autoencoder dictionaries over HTTP. SOURCE is a weights file\n"
        "(PATH:key=value:... states what it does not say: k, centre, activation, ...), or\n"
        "identity:D, or init:CLASS:D:F[:seed=S][:l0=L] for trials without a file. Without\n"
        "a NAME its path makes one: run/3/ae.pt is served as run.3.ae.\n"
        "\n"
        "Each option is also a variable of the environment and a key of the config file\n"
        "(--max-batch-rows: SAED_MAX_BATCH_ROWS and \"max_batch_rows\"). A flag beats the\n"
        "environment, which beats the file. Sizes take K, M and G (1024s).\n";
    static const char tail[] =
        "\n"
        "Examples:\n"
        "  saed layer12=/models/layer12.pt\n"
        "  saed run/*/ae.pt\n"
        "  saed --listen 0.0.0.0:8673 --api-key-file keys --config /etc/saed/config.json\n";
    enum sae_status st = sae_buf_add(out, head, sizeof head - 1);

    if (st == SAE_OK)
        st = help_options(out);
    if (st == SAE_OK)
        st = help_flags(out);
    if (st == SAE_OK)
        st = sae_buf_add(out, tail, sizeof tail - 1);
    return st;
}
