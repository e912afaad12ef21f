/* A convolution as one line of text, in the manner of oneDNN's benchdnn. */
#ifndef CLI_BENCH_PROBLEM_H
#define CLI_BENCH_PROBLEM_H

#include "cli.h"

typedef struct bench_problem {
    int mb, ic, oc, ih, iw, kh, kw, sh, sw, ph, pw, dh, dw, g; /* ic and oc count all groups; dh, dw: 1 is dense */
    char name[128];
} bench_problem;

/* "mb32_ic64_oc64_ih56iw56_kh3kw3_sh1sw1_ph1pw1_g1_n\"name\"": fields in any order, underscores anywhere between them. The second of a pair
 * is the first where it is left out; sh 1, ph 0, dh 0, g 1, mb 32 are the defaults. In the text dh counts skipped pixels (0: dense), as
 * benchdnn's does. False with the rule that is broken in why. */
bool bench_problem_parse(const char *text, bench_problem *problem, char *why, size_t size);
void bench_problem_print(const bench_problem *problem, FILE *out);
int bench_problem_out(int in, int kernel, int stride, int padding, int dilation);
/* Equal but for their names? */
bool bench_problem_same(const bench_problem *a, const bench_problem *b);

typedef struct bench_problems {
    bench_problem *items;
    int count, capacity;
} bench_problems;
void bench_problems_add(bench_problems *list, const bench_problem *problem);
/* Every convolution of a model, in order. */
bnff_status bench_problems_of_model(bench_problems *list, const char *model, int batch, int size, bnff_error *error);
/* A line, or a file of lines (# begins a comment). EXIT_DONE, or the exit code after a report. */
int bench_problems_of_text(bench_problems *list, const char *line_or_file);

#endif
