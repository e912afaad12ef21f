/* bnff doctor: what was found on this machine, and what of it is used. The first thing to put in a bug report. */
#include "cli.h"

#include <string.h>
#include <sys/utsname.h>

struct arguments { int threads; bool json; };

static const cli_option options[] = {
    {"threads,t", CLI_INT, offsetof(struct arguments, threads), "N", "Report as if run with N threads.", 1, 4096},
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document."},
    {0},
};

struct facts {
    bnff_machine machine;
    const char *isa;   /* chosen */
    int threads;
    const char *threads_from;
    struct utsname system;
    bool fashion_mnist;
};

static json_t *json_facts(const struct facts *f)
{
    const bnff_machine *m = &f->machine;
    json_t *isas = json_array(), *libraries = json_object();
    const char *name, *version;
    for (int i = 0; (name = bnff_isa_name(i)); i++) json_array_append_new(isas, json_string(name));
    for (int i = 0; (name = bnff_library_name(i, &version)); i++) json_object_set_new(libraries, name, json_string(version));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:s, s:{s:i, s:i, s:i}, s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I}, s:o, s:{s:b}, s:s}",
                     "version", bnff_version(), "system", f->system.release, "architecture", f->system.machine, "cpu", m->cpu, "isa", f->isa,
                     "isas", isas, "threads", f->threads, "threads_from", f->threads_from,
                     "cpus", "online", m->cpus, "allowed", m->cpus_allowed, "quota", m->cpus_quota,
                     "caches", "l1", (json_int_t)m->l1, "l2", (json_int_t)m->l2, "l3", (json_int_t)m->l3,
                     "memory", "total", (json_int_t)m->memory_total, "available", (json_int_t)m->memory_available, "cgroup_limit", (json_int_t)m->memory_limit,
                     "libraries", libraries, "data", "fashion_mnist", f->fashion_mnist, "level", bnff_default_level());
}

static void print_facts(const struct facts *f)
{
    const bnff_machine *m = &f->machine;
    char a[32], b[32], c[32];
    const char *name, *version;
    printf("bnff %s on %s %s %s\n", bnff_version(), f->system.sysname, f->system.release, f->system.machine);
    printf("cpu        %s\n", m->cpu);
    printf("kernels    %s (of", f->isa);
    for (int i = 0; (name = bnff_isa_name(i)); i++) printf(" %s", name);
    printf("; BNFF_MAX_ISA caps it)\n");
    printf("threads    %d, by %s (%d CPUs online, %d allowed", f->threads, f->threads_from, m->cpus, m->cpus_allowed);
    if (m->cpus_quota) printf(", quota %d", m->cpus_quota);
    printf(")\n");
    printf("caches     %s data and %s per core, %s shared\n", cli_bytes(a, (double)m->l1), cli_bytes(b, (double)m->l2), cli_bytes(c, (double)m->l3));
    printf("memory     %s available of %s", cli_bytes(a, (double)m->memory_available), cli_bytes(b, (double)m->memory_total));
    if (m->memory_limit) printf(", cgroup limit %s", cli_bytes(c, (double)m->memory_limit));
    printf("\nlevel      %s by default\nlibraries ", bnff_default_level());
    for (int i = 0; (name = bnff_library_name(i, &version)); i++) printf("%s %s %s", i ? "," : "", name, version);
    printf("\ndata       fashion-mnist %s\n", f->fashion_mnist ? "found" : "not found (apt-get install dataset-fashion-mnist)");
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {0};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 0, 0);
    if (code >= 0) return code;

    struct facts facts = {.machine.size = sizeof facts.machine};
    bnff_error error;
    bnff_context *context = NULL;
    bnff_machine_describe(&facts.machine);
    uname(&facts.system);
    if (cli_context(args.threads, &context, &error)) return cli_fail(&error);
    facts.isa = bnff_context_isa(context);
    facts.threads = bnff_context_threads(context);
    facts.threads_from = args.threads ? "--threads" : facts.machine.threads_from;
    bnff_dataset *dataset = NULL;
    const bnff_dataset_options data = {.size = sizeof data};
    facts.fashion_mnist = bnff_dataset_open("fashion-mnist", BNFF_SPLIT_TRAIN, &data, &dataset, NULL) == BNFF_OK;
    bnff_dataset_destroy(&dataset);
    if (args.json) code = cli_json_print(json_facts(&facts));
    else print_facts(&facts), code = EXIT_DONE;
    bnff_context_destroy(&context);
    return code;
}

const cli_command cli_doctor = {
    .name = "doctor", .usage = "[options]", .summary = "Report the machine, and what of it is used", .options = options, .run = run,
    .text = "CPU and instruction sets, threads and why so many, caches, memory and its limits, libraries and\n"
            "their versions. Nothing is sent anywhere.",
    .examples = "  bnff doctor\n  bnff doctor --json > machine.json\n",
};
