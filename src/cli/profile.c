#include "profile.h"

#include <stdlib.h>
#include <string.h>

/* -- Table --------------------------------------------------------------------------------------------------------- */

void profile_print_head(FILE *out)
{
    fprintf(out, "%-44s %-12s %9s %9s %6s %7s %10s\n", "task", "kind", "ms", "GFLOP/s", "% peak", "GB/s", "modelled");
}

void profile_print_line(FILE *out, const char *name, const char *kind, double seconds, double flops, double bytes, double peak)
{
    char modelled[32];
    fprintf(out, "%-44s %-12s %9.3f", name, kind, 1e3 * seconds);
    if (flops > 0 && seconds > 0) fprintf(out, " %9.1f %6.1f", 1e-9 * flops / seconds, 100 * flops / seconds / peak);
    else fprintf(out, " %9s %6s", "", "");
    fprintf(out, " %7.1f %10s\n", seconds > 0 ? 1e-9 * bytes / seconds : 0, cli_bytes(modelled, bytes));
}

void profile_print_kinds(FILE *out, const bnff_task_profile *tasks, const double *seconds, int count, double peak)
{
    enum { MOST_KINDS = 64 };
    const char *kinds[MOST_KINDS];
    int kind_count = 0;
    double all_s = 0, all_flops = 0, all_bytes = 0;
    for (int i = 0; i < count; i++) {
        int k = 0;
        while (k < kind_count && strcmp(kinds[k], tasks[i].kind)) k++;
        if (k == kind_count && k < MOST_KINDS) kinds[kind_count++] = tasks[i].kind;
    }
    for (int k = 0; k < kind_count; k++) {
        double s = 0, flops = 0, bytes = 0;
        for (int i = 0; i < count; i++)
            if (!strcmp(tasks[i].kind, kinds[k])) s += seconds[i], flops += tasks[i].flops, bytes += tasks[i].bytes;
        profile_print_line(out, "all", kinds[k], s, flops, bytes, peak);
        all_s += s, all_flops += flops, all_bytes += bytes;
    }
    profile_print_line(out, "all", "step", all_s, all_flops, all_bytes, peak);
}

static int longer_first(const void *a, const void *b)
{
    const double x = ((const bnff_task_profile *)a)->seconds, y = ((const bnff_task_profile *)b)->seconds;
    return (x < y) - (x > y);
}

void profile_print(FILE *out, const bnff_run *run, double peak)
{
    enum { LONGEST = 10 };
    const int count = bnff_run_profile_count(run);
    if (!count) return;
    bnff_task_profile *tasks = cli_alloc((size_t)count, sizeof *tasks);
    double *seconds = cli_alloc((size_t)count, sizeof *seconds);
    for (int i = 0; i < count; i++)
        if (bnff_run_profile_get(run, i, &tasks[i])) seconds[i] = tasks[i].seconds;
    profile_print_head(out);
    profile_print_kinds(out, tasks, seconds, count, peak);
    qsort(tasks, (size_t)count, sizeof *tasks, longer_first);
    for (int i = 0; i < count && i < LONGEST; i++) profile_print_line(out, tasks[i].name, tasks[i].kind, tasks[i].seconds, tasks[i].flops, tasks[i].bytes, peak);
    free(tasks);
    free(seconds);
}

/* -- Trace Event JSON ---------------------------------------------------------------------------------------------- *
 * Complete events ("X") in microseconds from the first task on; track 0 has the tasks, track 1 + i what thread i did.    */

static json_t *complete_event(const char *name, const char *kind, double start_s, double seconds, int track, json_t *args)
{
    return json_pack("{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:o}", "name", name, "cat", kind, "ph", "X", "ts", 1e6 * start_s, "dur", 1e6 * seconds, "pid", 1,
                     "tid", track, "args", args);
}

static void name_track(json_t *events, int track, const char *name)
{
    json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M", "pid", 1, "tid", track, "args", "name", name));
    json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:{s:i}}", "name", "thread_sort_index", "ph", "M", "pid", 1, "tid", track, "args",
                                            "sort_index", track));
}

/* Returns the number of threads that its cells ran on. */
static int add_task(json_t *events, const bnff_run *run, int index, double origin, int threads)
{
    bnff_task_profile task;
    bnff_cell_profile cell;
    if (!bnff_run_profile_get(run, index, &task)) return threads;
    json_array_append_new(events, complete_event(task.name, task.kind, task.start_s - origin, task.seconds, 0,
                                                 json_pack("{s:f, s:f}", "gflop", 1e-9 * task.flops, "modelled_mb", 1e-6 * task.bytes)));
    for (int i = 0; bnff_run_profile_cell(run, index, i, &cell); i++) {
        json_array_append_new(events, complete_event(task.name, task.kind, cell.start_s - origin, cell.seconds, 1 + cell.thread,
                                                     json_pack("{s:i, s:i}", "cell", cell.cell, "part", cell.part)));
        if (cell.thread >= threads) threads = cell.thread + 1;
    }
    return threads;
}

int profile_write(const bnff_run *run, const char *path)
{
    cli_output output;
    bnff_task_profile first = {0};
    const int code = cli_output_open(&output, path);
    if (code) return code;
    json_t *events = json_array();
    int threads = 0;
    bnff_run_profile_get(run, 0, &first);
    for (int i = 0; i < bnff_run_profile_count(run); i++) threads = add_task(events, run, i, first.start_s, threads);
    name_track(events, 0, "tasks");
    for (int i = 0; i < threads; i++) {
        char name[32];
        snprintf(name, sizeof name, "thread %d", i);
        name_track(events, 1 + i, name);
    }
    json_t *document = json_pack("{s:o, s:s}", "traceEvents", events, "displayTimeUnit", "ms");
    json_dumpf(document, output.file, JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(document);
    return cli_output_close(&output, true);
}
