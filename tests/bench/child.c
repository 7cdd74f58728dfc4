/* child.c - child processes that answer one question at a time through a pipe. */
#include "tests/bench/bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* In the child. */
static _Noreturn void run(const char *const *argv, const char *const *env)
{
    const char *all[512];
    size_t n = 0;

    for (; env && *env; env++)
        all[n++] = *env;
    for (char **e = environ; *e && n + 1 < SAE_COUNTOF(all); e++)
        all[n++] = *e;
    all[n] = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execve(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)all);
    _exit(127);
}

bool child_start(struct bench_child *c, const char *const *argv, const char *const *env)
{
    int in[2], out[2];

    *c = (struct bench_child){0};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        bench_die("cannot make a pipe");
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        run(argv, env);
    }
    close(in[0]);
    close(out[1]);
    c->to = fdopen(in[1], "w");
    c->from = fdopen(out[0], "r");
    if (!c->to || !c->from)
        bench_die("out of memory");
    if (fgets(c->ready, sizeof c->ready, c->from)) {
        c->ready[strcspn(c->ready, "\n")] = '\0';
        return true;
    }
    child_stop(c);
    return false;
}

double child_ask(struct bench_child *c, const char *format, ...)
{
    char line[128];
    va_list ap;
    double v;

    va_start(ap, format);
    vfprintf(c->to, format, ap);
    va_end(ap);
    fputc('\n', c->to);
    fflush(c->to);
    if (!fgets(line, sizeof line, c->from) || sscanf(line, "%lf", &v) != 1)
        bench_die("child %s gave no answer", c->ready);
    return v;
}

void child_stop(struct bench_child *c)
{
    if (!c->pid)
        return;
    fclose(c->to); /* its end of input: it exits */
    fclose(c->from);
    waitpid(c->pid, NULL, 0);
    c->pid = 0;
}
